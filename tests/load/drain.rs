//! SIGTERM while 200 streams run and a thousand requests a second come: every request that the proxy accepted and that can
//! finish before `drain_timeout` finishes.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::report::Report;
use crate::support::{Client, Setup};

const STREAMS: usize = 200;
const CLIENTS: usize = 100;
/// Pause between two requests of one client: some ten requests a second each, a thousand together.
const PAUSE: Duration = Duration::from_millis(80);
/// Duration of the load before SIGTERM. A stream takes one second, so that all streams still run then.
const BEFORE: Duration = Duration::from_millis(700);

#[derive(Default)]
struct Tally {
    /// Streams that reached their end.
    streams: Cell<usize>,
    served: Cell<usize>,
    lost: RefCell<Vec<String>>,
    /// Number of requests that were served before SIGTERM, and the time they took.
    before: Cell<(usize, Duration)>,
    /// True once SIGTERM is sent.
    ending: Cell<bool>,
}

pub fn run(report: &mut Report, _: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let mut setup = Setup::new(&backend.url()).set("drain_timeout", "10s");
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let mut proxy = setup.start();
    let (client, address, process) = (proxy.producer(), proxy.address, proxy.process.id());
    let tally = client::run(load_and_stop(&client, address, process));
    let start = std::time::Instant::now();
    let code = proxy.process.exit().code();
    let (served, time) = tally.before.get();
    report.show("requests a second before SIGTERM", format!("{:.0}", served as f64 / time.as_secs_f64()));
    report.show("requests served", tally.served.get());
    report.check("streams that ran to their end", tally.streams.get(), "200", tally.streams.get() == STREAMS);
    tally.lost.borrow().iter().take(5).for_each(|lost| report.show("lost", lost));
    report.check_none("requests that were accepted and lost", tally.lost.borrow().len());
    report.check("exit code", format!("{code:?}"), "0", code == Some(0));
    report.check_at_most("exit after the last request", start.elapsed(), Duration::from_secs(5));
}

async fn load_and_stop(client: &Client, address: SocketAddr, process: u32) -> Rc<Tally> {
    let tally = Rc::new(Tally::default());
    let tasks = tokio::task::LocalSet::new();
    let streams = open_streams(client, address).await;
    for number in 0..CLIENTS {
        // The slow requests are still in progress when SIGTERM is sent.
        let path = if number % 10 == 0 { "/slow" } else { "/events" };
        tasks.spawn_local(send_requests(Rc::clone(&tally), client.clone(), address, path));
    }
    for mut stream in streams {
        let tally = Rc::clone(&tally);
        tasks.spawn_local(async move {
            match stream.read_until(b"0\r\n\r\n").await {
                Ok(_) => tally.streams.set(tally.streams.get() + 1),
                Err(error) => tally.lost.borrow_mut().push(format!("a stream: {error}")),
            }
        });
    }
    let start = Instant::now();
    tasks.run_until(sleep(BEFORE)).await;
    tally.before.set((tally.served.get(), start.elapsed()));
    tally.ending.set(true);
    let kill = format!("kill -TERM {process}");
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    tasks.await;
    tally
}

async fn open_streams(client: &Client, address: SocketAddr) -> Vec<LoadConnection> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = LoadConnection::open(client, address, Ipv4Addr::LOCALHOST).await.unwrap();
        stream.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        streams.push(stream);
    }
    streams
}

/// Sends requests until the server accepts no connection; opens a new connection after `Connection: close`.
async fn send_requests(tally: Rc<Tally>, client: Client, address: SocketAddr, path: &str) {
    let start = Instant::now();
    while start.elapsed() < client::DEADLINE {
        let Ok(mut connection) = LoadConnection::open(&client, address, Ipv4Addr::LOCALHOST).await else {
            break;
        };
        loop {
            match connection.get(path).await {
                Ok(answer) if answer.status == 200 => {
                    tally.served.set(tally.served.get() + 1);
                    if answer.closes {
                        break;
                    }
                }
                // The server may close an idle connection at any time; a request that meets the close is not lost.
                Err(_) if tally.ending.get() => break,
                other => return tally.lost.borrow_mut().push(format!("{other:?}")),
            }
            sleep(PAUSE).await;
        }
    }
    if !tally.ending.get() {
        tally.lost.borrow_mut().push("a connection was refused before SIGTERM".to_owned());
    }
}
