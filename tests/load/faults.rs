//! A backend in trouble: permitted clients get a documented answer in time, everybody else's answer is the same and as
//! fast as ever, nothing is sent twice, and all is well within a second of the backend's return.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::time::{Instant, sleep};

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::hole::Namespace;
use crate::report::{Report, p99};
use crate::support::proxy::program;
use crate::support::{Client, Proxy, Setup};

const ROUNDS: usize = 40;
/// Longer than any answer may take: a connect timeout or a response timeout, and the way there.
const IN_TIME: Duration = Duration::from_secs(4);

pub fn run(report: &mut Report, _: Duration) {
    let backend = Backend::start(Mood::Well);
    let mut setup = Setup::new(&backend.url());
    setup.config["backend"]["connect_timeout"] = "500ms".into();
    setup.config["backend"]["response_timeout"] = "1s".into();
    setup.config["backend"]["idle_timeout"] = "1s".into();
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let proxy = setup.start();
    let watch = Watch { proxy: &proxy, once: std::cell::Cell::new(0) };
    let idle = client::run(watch.refusals(report, "idle", None));

    for (name, mood) in [
        ("says nothing", Mood::Silent),
        ("hangs in the middle of a body", Mood::HalfAnswer),
        ("resets", Mood::Resets),
        ("answers garbage", Mood::Garbage),
        ("is slow by ten seconds", Mood::Slow),
    ] {
        backend.feels(mood);
        client::run(watch.trouble(report, name));
        client::run(watch.refusals(report, name, Some(idle)));
        backend.feels(Mood::Well);
        client::run(watch.recovery(report, name));
    }
    client::run(watch.flapping(report, &backend));
    report.none("requests that the backend got more than once", backend.repeated());

    let address = backend.address;
    drop(backend);
    client::run(watch.trouble(report, "refuses"));
    client::run(watch.refusals(report, "refuses", Some(idle)));
    let hole = BlackHole::at(address);
    client::run(watch.trouble(report, "swallows every packet"));
    client::run(watch.refusals(report, "swallows every packet", Some(idle)));
    drop(hole);
    let backend = Backend::start_at(address, Mood::Well);
    client::run(watch.recovery(report, "was started again"));
    report.none("requests that it got more than once", backend.repeated());
    moves(report);
    swallows(report);
}

/// The network between, from one moment to the next: packets go and nothing comes, on open connections too.
fn swallows(report: &mut Report) {
    let namespace = Namespace::start();
    let mut setup = Setup::new(&format!("http://{}", namespace.address()));
    setup.config["backend"]["connect_timeout"] = "500ms".into();
    setup.config["backend"]["response_timeout"] = "1s".into();
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let proxy = setup.start();
    let watch = Watch { proxy: &proxy, once: std::cell::Cell::new(0) };
    let idle = client::run(watch.refusals(report, "over a network", None));
    client::run(watch.recovery(report, "over a network"));
    namespace.swallows();
    // The first meet connections that were open before, and the others none.
    for name in ["the network swallows every packet", "and goes on to"] {
        client::run(watch.trouble(report, name));
        client::run(watch.refusals(report, name, Some(idle)));
    }
    namespace.answers_again();
    client::run(watch.recovery(report, "the network is back"));
}

/// The backend's name stands for another address from one moment to the next.
fn moves(report: &mut Report) {
    let before = Backend::start(Mood::Well);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let name_is = |address: &str| std::fs::write(hosts.path(), format!("{address} events.test\n")).unwrap();
    name_is("127.0.0.1");
    let mut setup = Setup::new(&format!("http://events.test:{}", before.address.port()));
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    // With mounts of its own: the machine's names stay what they are.
    let (program, config) = (program(), setup.write());
    let mount = format!("mount --bind {} /etc/hosts", hosts.path().display());
    let script = format!("{mount} && exec {} run --config {}", program.display(), config.display());
    let proxy = setup.start_as(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    let watch = Watch { proxy: &proxy, once: std::cell::Cell::new(0) };
    client::run(watch.recovery(report, "under its first address"));
    let after = SocketAddr::from(([127, 0, 0, 2], before.address.port()));
    name_is("127.0.0.2");
    drop(before);
    let _after = Backend::start_at(after, Mood::Well);
    client::run(watch.recovery(report, "moved to another address"));
}

/// A port whose queue is full: the kernel drops what else would connect.
struct BlackHole {
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.set_reuse_address(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let waiting = std::iter::repeat_with(|| {
            let waiting = socket();
            waiting.set_nonblocking(true).unwrap();
            let _ = waiting.connect(&address.into());
            waiting
        });
        Self { _listener: listener, _waiting: waiting.take(4).collect() }
    }
}

struct Watch<'p> {
    proxy: &'p Proxy,
    once: std::cell::Cell<usize>,
}

impl Watch<'_> {
    /// A request of a permitted client, on a connection of its own: what came of it, and how long that took.
    async fn permitted(&self) -> (String, Duration) {
        let start = Instant::now();
        self.once.set(self.once.get() + 1);
        let request = format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nX-Once: {}\r\nContent-Length: 0\r\n\r\n",
            self.once.get()
        );
        let came = async {
            let mut connection = self.connect(&self.proxy.producer()).await?;
            connection.ask(&request).await
        };
        let came = match came.await {
            Ok(answer) => format!("{} {}", answer.status, answer.reason),
            Err(_) => "broken off".to_owned(),
        };
        (came, start.elapsed())
    }

    async fn connect(&self, client: &Client) -> std::io::Result<Connection> {
        Connection::open(client, self.proxy.address, Ipv4Addr::LOCALHOST).await
    }

    async fn trouble(&self, report: &mut Report, name: &str) {
        let (mut other, mut longest) = (Vec::new(), Duration::ZERO);
        let asking = (0..ROUNDS).map(|_| self.permitted());
        for (came, took) in futures(asking).await {
            // The head of an answer may have gone out before the backend broke off.
            let is_right = match name {
                "hangs in the middle of a body" => came == "broken off" || came.starts_with("504 "),
                _ => came.starts_with("504 "),
            };
            if !is_right {
                other.push(came);
            }
            longest = longest.max(took);
        }
        other.iter().take(3).for_each(|came| report.tells("instead", came));
        report.none(&format!("{name}: permitted requests that got no documented answer"), other.len());
        report.at_most(&format!("{name}: the slowest answer"), longest, IN_TIME);
    }

    /// What has nothing to do with the backend takes as long as ever.
    async fn refusals(&self, report: &mut Report, name: &str, idle: Option<Duration>) -> Duration {
        let (mut wrong, mut times) = (0, Vec::new());
        let (denied, stranger) = (self.proxy.consumer(), self.proxy.anonymous());
        let mut denied = self.connect(&denied).await.unwrap();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            wrong += usize::from(denied.get("/events").await.unwrap().status != 403);
            times.push(start.elapsed());
        }
        let mut stranger = self.connect(&stranger).await.unwrap();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            wrong += usize::from(stranger.get("/events").await.unwrap().status != 401);
            times.push(start.elapsed());
        }
        report.none(&format!("{name}: refusals other than 401 and 403"), wrong);
        let p99 = p99(&mut times);
        match idle {
            // What a shared machine adds by itself is no news.
            Some(idle) => {
                let most = idle * 2 + Duration::from_millis(20);
                report.at_most(&format!("{name}: 401 and 403, the slowest in a hundred"), p99, most);
            }
            None => report.tells("401 and 403, the slowest in a hundred", format!("{p99:.1?}")),
        }
        p99
    }

    async fn recovery(&self, report: &mut Report, name: &str) {
        let start = Instant::now();
        while self.permitted().await.0 != "200 " && start.elapsed() < client::PATIENCE {
            sleep(Duration::from_millis(10)).await;
        }
        report.at_most(&format!("{name}: well again after"), start.elapsed(), Duration::from_secs(1));
    }

    /// Well and not, five times a second.
    async fn flapping(&self, report: &mut Report, backend: &Backend) {
        let mut other = 0;
        for round in 0..10 {
            backend.feels(if round % 2 == 0 { Mood::Resets } else { Mood::Well });
            let end = Instant::now() + Duration::from_millis(200);
            while Instant::now() < end {
                let (came, _) = self.permitted().await;
                other += usize::from(came != "200 " && !came.starts_with("504 "));
            }
        }
        report.none("flapping: answers other than 200 and 504", other);
        self.recovery(report, "flapping").await;
    }
}

/// All of them at once.
pub async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(result) = future.as_mut().poll(cx)
            {
                *done = Some(result);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
