//! Faults of the backend. Permitted clients get a documented answer in time. Refusals are the same and as fast as without the
//! fault. No request is sent to the backend twice. Requests succeed within one second after the backend works again.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::time::{Instant, sleep};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::namespace::Namespace;
use crate::report::{Report, p99};
use crate::support::proxy::program;
use crate::support::{Client, Proxy, Setup};

const ROUNDS: usize = 40;
/// Limit of the time to any answer: the longer of the connect timeout and the response timeout, and a margin.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

pub fn run(report: &mut Report, _: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let proxy = short_timeouts(&backend.url()).set("backend.idle_timeout", "1s").start();
    let observer = Observer::new(&proxy);
    let baseline = client::run(observer.check_refusals(report, "no fault", None));
    faults_of_answers(report, &backend, &observer, baseline);
    client::run(observer.check_flapping(report, &backend));
    report.check_none("requests that the backend got more than once", backend.repeated());

    let address = backend.address;
    drop(backend);
    client::run(observer.check_fault(report, "refuses connections"));
    client::run(observer.check_refusals(report, "refuses connections", Some(baseline)));
    let full_queue = FullQueue::at(address);
    client::run(observer.check_fault(report, "drops connection requests"));
    client::run(observer.check_refusals(report, "drops connection requests", Some(baseline)));
    drop(full_queue);
    let backend = FaultyBackend::start_at(address, Behaviour::Working);
    client::run(observer.check_recovery(report, "was started again"));
    report.check_none("requests that the backend got more than once after its restart", backend.repeated());
    address_changes(report);
    network_drops_packets(report);
}

fn short_timeouts(backend: &str) -> Setup {
    Setup::new(backend)
        .set("backend.connect_timeout", "500ms")
        .set("backend.response_timeout", "1s")
        .set("log.audit", "none")
}

/// Checks every fault of a backend that accepts connections.
fn faults_of_answers(
    report: &mut Report,
    backend: &FaultyBackend,
    observer: &Observer<'_>,
    baseline: Duration,
) {
    for (name, behaviour) in [
        ("sends no answer", Behaviour::Silent),
        (STOPS_IN_BODY, Behaviour::HalfAnswer),
        ("resets", Behaviour::Resets),
        ("answers garbage", Behaviour::Garbage),
        ("is slow by ten seconds", Behaviour::Slow),
    ] {
        backend.set_behaviour(behaviour);
        client::run(observer.check_fault(report, name));
        client::run(observer.check_refusals(report, name, Some(baseline)));
        backend.set_behaviour(Behaviour::Working);
        client::run(observer.check_recovery(report, name));
    }
}

/// Checks a network that suddenly drops the packets from the backend, also on open connections.
fn network_drops_packets(report: &mut Report) {
    let namespace = Namespace::start();
    let proxy = short_timeouts(&format!("http://{}", namespace.address())).start();
    let observer = Observer::new(&proxy);
    let baseline = client::run(observer.check_refusals(report, "over a network", None));
    client::run(observer.check_recovery(report, "over a network"));
    namespace.drop_packets();
    // The first requests use connections that are already open; the later ones find none.
    for name in ["the network drops every packet", "the network still drops every packet"] {
        client::run(observer.check_fault(report, name));
        client::run(observer.check_refusals(report, name, Some(baseline)));
    }
    namespace.deliver_packets();
    client::run(observer.check_recovery(report, "the network works again"));
}

/// Checks a backend name whose address suddenly changes.
fn address_changes(report: &mut Report) {
    let before = FaultyBackend::start(Behaviour::Working);
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let set_address =
        |address: &str| std::fs::write(hosts.path(), format!("{address} events.test\n")).unwrap();
    set_address("127.0.0.1");
    let backend = format!("http://events.test:{}", before.address.port());
    let setup = Setup::new(&backend).set("log.audit", "none");
    // A mount namespace keeps `/etc/hosts` of the machine unchanged.
    let (program, config) = (program(), setup.write());
    let mount = format!("mount --bind {} /etc/hosts", hosts.path().display());
    let script = format!("{mount} && exec {} run --config {}", program.display(), config.display());
    let proxy = setup.start_as(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    let observer = Observer::new(&proxy);
    client::run(observer.check_recovery(report, "at its first address"));
    let after = SocketAddr::from(([127, 0, 0, 2], before.address.port()));
    set_address("127.0.0.2");
    drop(before);
    let _after = FaultyBackend::start_at(after, Behaviour::Working);
    client::run(observer.check_recovery(report, "moved to another address"));
}

/// A listening socket whose accept queue is full: the kernel drops further connection requests.
struct FullQueue {
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl FullQueue {
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

/// Name of the fault in which an answer may be cut off, because its head can be sent before the fault.
const STOPS_IN_BODY: &str = "stops in the middle of a body";
/// Outcome of a request without a complete answer.
const CUT_OFF: &str = "cut off";

/// Sends requests to the proxy and checks the answers.
struct Observer<'p> {
    proxy: &'p Proxy,
    last_id: std::cell::Cell<usize>,
}

impl<'p> Observer<'p> {
    fn new(proxy: &'p Proxy) -> Self {
        Self { proxy, last_id: std::cell::Cell::new(0) }
    }

    /// Sends a request of a permitted client on a new connection; returns the outcome and the time.
    async fn send_permitted(&self) -> (String, Duration) {
        let start = Instant::now();
        self.last_id.set(self.last_id.get() + 1);
        let request = format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nX-Once: {}\r\nContent-Length: 0\r\n\r\n",
            self.last_id.get()
        );
        let answer = async {
            let mut connection = self.connect(&self.proxy.producer()).await?;
            connection.ask(&request).await
        };
        let outcome = match answer.await {
            Ok(answer) => format!("{} {}", answer.status, answer.reason),
            Err(_) => CUT_OFF.to_owned(),
        };
        (outcome, start.elapsed())
    }

    async fn connect(&self, client: &Client) -> std::io::Result<LoadConnection> {
        LoadConnection::open(client, self.proxy.address, Ipv4Addr::LOCALHOST).await
    }

    async fn check_fault(&self, report: &mut Report, name: &str) {
        let (mut wrong, mut longest) = (Vec::new(), Duration::ZERO);
        let requests = (0..ROUNDS).map(|_| self.send_permitted());
        for (outcome, time) in join_all(requests).await {
            let may_be_cut_off = name == STOPS_IN_BODY;
            if !outcome.starts_with("504 ") && !(may_be_cut_off && outcome == CUT_OFF) {
                wrong.push(outcome);
            }
            longest = longest.max(time);
        }
        wrong.iter().take(3).for_each(|outcome| report.show("a wrong outcome", outcome));
        report.check_none(&format!("{name}: permitted requests without a documented answer"), wrong.len());
        report.check_at_most(&format!("{name}: slowest answer"), longest, ANSWER_LIMIT);
    }

    /// Checks that refusals, which need no backend, are right and take no longer than without a fault (`baseline`).
    async fn check_refusals(&self, report: &mut Report, name: &str, baseline: Option<Duration>) -> Duration {
        let (mut wrong, mut times) = (0, Vec::new());
        for (client, status) in [(self.proxy.consumer(), 403), (self.proxy.anonymous(), 401)] {
            let mut connection = self.connect(&client).await.unwrap();
            for _ in 0..ROUNDS {
                let start = Instant::now();
                wrong += usize::from(connection.get("/events").await.unwrap().status != status);
                times.push(start.elapsed());
            }
        }
        report.check_none(&format!("{name}: refusals other than 401 and 403"), wrong);
        let p99 = p99(&mut times);
        match baseline {
            // The 20 ms allow for other work of a shared machine.
            Some(baseline) => {
                let limit = baseline * 2 + Duration::from_millis(20);
                report.check_at_most(&format!("{name}: p99 of 401 and 403"), p99, limit);
            }
            None => report.show("p99 of 401 and 403", format!("{p99:.1?}")),
        }
        p99
    }

    async fn check_recovery(&self, report: &mut Report, name: &str) {
        let start = Instant::now();
        while self.send_permitted().await.0 != "200 " && start.elapsed() < client::DEADLINE {
            sleep(Duration::from_millis(10)).await;
        }
        report.check_at_most(
            &format!("{name}: requests succeed after"),
            start.elapsed(),
            Duration::from_secs(1),
        );
    }

    /// Checks a backend whose behaviour changes five times a second.
    async fn check_flapping(&self, report: &mut Report, backend: &FaultyBackend) {
        let mut other = 0;
        for round in 0..10 {
            backend.set_behaviour(if round % 2 == 0 { Behaviour::Resets } else { Behaviour::Working });
            let end = Instant::now() + Duration::from_millis(200);
            while Instant::now() < end {
                let (outcome, _) = self.send_permitted().await;
                other += usize::from(outcome != "200 " && !outcome.starts_with("504 "));
            }
        }
        report.check_none("flapping: answers other than 200 and 504", other);
        self.check_recovery(report, "flapping").await;
    }
}

/// Runs all futures at once.
async fn join_all<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
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
