//! All slots are taken: everybody gets the one answer that is theirs, and a slot that comes free is of use at once.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::report::Report;
use crate::support::{Proxy, Setup};

const SLOTS: usize = 50;
const ROUNDS: usize = 100;

pub fn run(report: &mut Report, _: Duration) {
    let backend = Backend::start(Mood::Well);
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", SLOTS).start();
    client::run(visit(report, &proxy));
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    report.holds("slots once all have gone", 0, "0", true);
    let most = backend.most_at_once();
    report.holds("requests at once at the backend", most, &format!("at most {SLOTS}"), most <= SLOTS);
}

async fn visit(report: &mut Report, proxy: &Proxy) {
    let (producer, consumer, anonymous) = (proxy.producer(), proxy.consumer(), proxy.anonymous());
    let mut holders = Vec::new();
    for _ in 0..SLOTS {
        let mut holder = Connection::open(&producer, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(holder.get("/events").await.unwrap().status, 200);
        holders.push(holder);
    }
    let mut wrong = [0; 4];
    for round in 0..ROUNDS {
        let visitors = [
            (&producer, 504, "server_full"),
            (&consumer, 403, "insufficient_permissions"),
            (&anonymous, 401, "not_authenticated"),
        ];
        for (index, (client, status, reason)) in visitors.into_iter().enumerate() {
            let mut visitor = Connection::open(client, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
            let answer = visitor.get("/events").await.unwrap();
            wrong[index] += usize::from(!answer.is(status, reason));
        }
        let holder = &mut holders[round % SLOTS];
        wrong[3] += usize::from(holder.get("/events").await.unwrap().status != 200);
    }
    report.none("permitted newcomers that got anything else than 504 server_full", wrong[0]);
    report.none("denied ones that got anything else than 403", wrong[1]);
    report.none("strangers that got anything else than 401", wrong[2]);
    report.none("holders of a slot that got anything else than 200", wrong[3]);
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        drop(holders.pop());
        let start = Instant::now();
        holders.push(loop {
            let mut next = Connection::open(&producer, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
            if next.get("/events").await.unwrap().status == 200 {
                break next;
            }
            sleep(Duration::from_millis(1)).await;
        });
        longest = longest.max(start.elapsed());
    }
    report.at_most("a slot that came free was of use after", longest, Duration::from_millis(100));
}
