//! All slots are used: every client gets the right refusal, and a freed slot can be used again at once.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::report::Report;
use crate::support::{Client, Proxy, Setup};

const SLOTS: usize = 50;
const ROUNDS: usize = 100;

pub fn run(report: &mut Report, _: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", SLOTS).start();
    client::run(check_full(report, &proxy));
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    report.check("slots used after all clients have gone", 0, "0", true);
    let most = backend.most_at_once();
    report.check("requests at once at the backend", most, &format!("at most {SLOTS}"), most <= SLOTS);
}

async fn check_full(report: &mut Report, proxy: &Proxy) {
    let producer = proxy.producer();
    let mut holders = Vec::new();
    for _ in 0..SLOTS {
        let mut holder = LoadConnection::open(&producer, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(holder.get("/events").await.unwrap().status, 200);
        holders.push(holder);
    }
    check_answers(report, proxy, &mut holders).await;
    check_reuse(report, proxy, &producer, holders).await;
}

/// Checks the answers to new clients and to the holders of slots while all slots are used.
async fn check_answers(report: &mut Report, proxy: &Proxy, holders: &mut [LoadConnection]) {
    let (producer, consumer, anonymous) = (proxy.producer(), proxy.consumer(), proxy.anonymous());
    let mut wrong = [0; 4];
    for round in 0..ROUNDS {
        let visitors = [
            (&producer, 504, "server_full"),
            (&consumer, 403, "insufficient_permissions"),
            (&anonymous, 401, "not_authenticated"),
        ];
        for (index, (client, status, reason)) in visitors.into_iter().enumerate() {
            let mut visitor = LoadConnection::open(client, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
            let answer = visitor.get("/events").await.unwrap();
            wrong[index] += usize::from(!answer.is(status, reason));
        }
        let holder = &mut holders[round % SLOTS];
        wrong[3] += usize::from(holder.get("/events").await.unwrap().status != 200);
    }
    report.check_none("new permitted clients that got anything else than 504 server_full", wrong[0]);
    report.check_none("new denied clients that got anything else than 403", wrong[1]);
    report.check_none("strangers that got anything else than 401", wrong[2]);
    report.check_none("holders of a slot that got anything else than 200", wrong[3]);
}

/// Checks the time until the slot of a closed connection can be used.
async fn check_reuse(
    report: &mut Report,
    proxy: &Proxy,
    producer: &Client,
    mut holders: Vec<LoadConnection>,
) {
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        drop(holders.pop());
        let start = Instant::now();
        holders.push(loop {
            let mut next = LoadConnection::open(producer, proxy.address, Ipv4Addr::LOCALHOST).await.unwrap();
            if next.get("/events").await.unwrap().status == 200 {
                break next;
            }
            sleep(Duration::from_millis(1)).await;
        });
        longest = longest.max(start.elapsed());
    }
    report.check_at_most("longest time until a freed slot was used", longest, Duration::from_millis(100));
}
