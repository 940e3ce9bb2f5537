//! A server that is asked to end while 200 streams run and a thousand requests a second come: whatever it took on and can
//! end in time, it ends.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::report::Report;
use crate::support::{Client, Setup};

const STREAMS: usize = 200;
const ASKING: usize = 100;
/// Ten requests a second of each are a thousand.
const PACE: Duration = Duration::from_millis(80);
/// So long it is under load before it is asked to end; a stream takes a second.
const BEFORE: Duration = Duration::from_millis(700);

#[derive(Default)]
struct Tally {
    streams: Cell<usize>,
    served: Cell<usize>,
    lost: RefCell<Vec<String>>,
    /// What was served before it was asked to end, and in which time.
    before: Cell<(usize, Duration)>,
    ending: Cell<bool>,
}

pub fn run(report: &mut Report, _: Duration) {
    let backend = Backend::start(Mood::Well);
    let mut setup = Setup::new(&backend.url()).set("drain_timeout", "10s");
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let mut proxy = setup.start();
    let (client, address, process) = (proxy.producer(), proxy.address, proxy.process.id());
    let tally = client::run(visit(&client, address, process));
    let start = std::time::Instant::now();
    let code = proxy.process.exit().code();
    let (served, time) = tally.before.get();
    report.tells("requests a second before the end", format!("{:.0}", served as f64 / time.as_secs_f64()));
    report.tells("requests served", tally.served.get());
    report.holds("streams that ran to their end", tally.streams.get(), "200", tally.streams.get() == STREAMS);
    tally.lost.borrow().iter().take(5).for_each(|lost| report.tells("lost", lost));
    report.none("requests that were taken on and lost", tally.lost.borrow().len());
    report.holds("exit code", format!("{code:?}"), "0", code == Some(0));
    report.at_most("its end, once nothing ran any more", start.elapsed(), Duration::from_secs(5));
}

async fn visit(client: &Client, address: SocketAddr, process: u32) -> Rc<Tally> {
    let tally = Rc::new(Tally::default());
    let tasks = tokio::task::LocalSet::new();
    let mut streams = Vec::new();
    let opened = async {
        for _ in 0..STREAMS {
            let mut stream = Connection::open(client, address, Ipv4Addr::LOCALHOST).await.unwrap();
            stream.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            streams.push(stream);
        }
    };
    opened.await;
    for number in 0..ASKING {
        // Some are still at work when the end is asked for.
        let path = if number % 10 == 0 { "/slow" } else { "/events" };
        tasks.spawn_local(asking(Rc::clone(&tally), client.clone(), address, path));
    }
    for mut stream in streams {
        let tally = Rc::clone(&tally);
        tasks.spawn_local(async move {
            match stream.until(b"0\r\n\r\n").await {
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

/// Asks at its pace until nobody takes a connection any more; goes on elsewhere when it is told to.
async fn asking(tally: Rc<Tally>, client: Client, address: SocketAddr, path: &str) {
    let start = Instant::now();
    while start.elapsed() < client::PATIENCE {
        let Ok(mut connection) = Connection::open(&client, address, Ipv4Addr::LOCALHOST).await else { break };
        loop {
            match connection.get(path).await {
                Ok(answer) if answer.status == 200 => {
                    tally.served.set(tally.served.get() + 1);
                    if answer.closes {
                        break;
                    }
                }
                // A connection that was idle may be closed at any time; nobody asked anything of it.
                Err(_) if tally.ending.get() => break,
                other => return tally.lost.borrow_mut().push(format!("{other:?}")),
            }
            sleep(PACE).await;
        }
    }
    if !tally.ending.get() {
        tally.lost.borrow_mut().push("a connection was refused before the end".to_owned());
    }
}
