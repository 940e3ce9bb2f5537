//! Requests that clients cancel, by resets and by closing connections, in front of a backend that does not notice it. The
//! backend never works on more requests than `max_in_flight`, and other clients are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use h2::client::SendRequest;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::report::{Report, p99};
use crate::support::http2::request;
use crate::support::proxy::policy_of_two;
use crate::support::{Client, Proxy, Setup};

const IN_FLIGHT: usize = 40;
/// Number of clients that send requests and wait for the answers.
const PATIENT_CLIENTS: usize = 4;

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::IgnoresClosing);
    let setup = Setup::new(&backend.url())
        .policy(&policy_of_two("", ""))
        .set("backend.max_in_flight", IN_FLIGHT)
        .set("backend.queue_timeout", "5s");
    let proxy = setup.set("log.audit", "none").start();
    let (answered, canceled) = client::run(send_traffic(report, &proxy, length));
    report.show("requests of patient clients", answered);
    report.show("canceled requests", canceled);
    let most = backend.most_at_once();
    let bound = format!("at most {IN_FLIGHT}");
    report.check("requests at once at the backend", most, &bound, most <= IN_FLIGHT);
    for gauge in ["sidegate_requests_in_flight", "sidegate_requests_queued", "sidegate_slots_used"] {
        proxy.admin.wait_for(gauge, 0.0);
        report.check_none(&format!("{gauge} after all clients have gone"), 0);
    }
}

/// Returns the numbers of requests of patient clients and of canceled requests.
async fn send_traffic(report: &mut Report, proxy: &Proxy, length: Duration) -> (usize, usize) {
    let tasks = tokio::task::LocalSet::new();
    let (until, address) = (Instant::now() + length, proxy.address);
    let patient: Vec<_> = (0..PATIENT_CLIENTS)
        .map(|number| {
            // Each has its own identity, so that the limits per client are not shared.
            let leaf = sidegate::demo::pki::Leaf::client("Shop", "patient")
                .uri(&format!("spiffe://shop.example/ns/reports/sa/{number}"))
                .unwrap();
            tasks.spawn_local(send_and_wait(proxy.client(&proxy.pki().issue(&leaf)), address, until))
        })
        .collect();
    let canceling = proxy.producer();
    let floods = [
        tasks.spawn_local(reset_requests(canceling.clone(), address, until)),
        tasks.spawn_local(close_connections(canceling.clone(), address, until)),
        tasks.spawn_local(upload_slowly(canceling, address, until)),
    ];
    tasks
        .run_until(async {
            let (mut times, mut wrong) = (Vec::new(), 0);
            for client in patient {
                let (client_times, errors) = client.await.unwrap();
                times.extend(client_times);
                wrong += errors;
            }
            let mut canceled = 0;
            for flood in floods {
                canceled += flood.await.unwrap();
            }
            report.check_none("patient clients that got anything else than 200", wrong);
            let answered = times.len();
            report.check_at_most("p99 of patient clients", p99(&mut times), Duration::from_secs(2));
            (answered, canceled)
        })
        .await
}

/// Sends one request after another; returns their times and the number of answers other than 200.
async fn send_and_wait(client: Client, to: SocketAddr, until: Instant) -> (Vec<Duration>, usize) {
    let mut connection = LoadConnection::open(&client, to, Ipv4Addr::LOCALHOST).await.unwrap();
    let (mut times, mut wrong) = (Vec::new(), 0);
    while Instant::now() < until {
        let start = Instant::now();
        let answer = connection.get("/events").await;
        times.push(start.elapsed());
        if !answer.is_ok_and(|answer| answer.status == 200) {
            wrong += 1;
            connection = LoadConnection::open(&client, to, Ipv4Addr::LOCALHOST).await.unwrap();
        }
    }
    (times, wrong)
}

async fn open_http2(client: &Client, to: SocketAddr) -> SendRequest<bytes::Bytes> {
    let settings = h2::client::Builder::new();
    client::open_http2(client, to, Ipv4Addr::LOCALHOST, &settings).await.unwrap().0
}

/// Sends requests over HTTP/2 and resets each after 2 ms; reconnects when the server ends the connection.
async fn reset_requests(client: Client, to: SocketAddr, until: Instant) -> usize {
    let (mut requests, mut count) = (open_http2(&client, to).await, 0);
    while Instant::now() < until {
        let Ok(Ok(mut ready)) = timeout(Duration::from_secs(1), requests.clone().ready()).await else {
            requests = open_http2(&client, to).await;
            continue;
        };
        if let Ok((_, mut stream)) = ready.send_request(request("GET", "/events", &[]), true) {
            sleep(Duration::from_millis(2)).await;
            stream.send_reset(h2::Reason::CANCEL);
            count += 1;
        }
    }
    count
}

/// Sends requests and closes the connection of each at once.
async fn close_connections(client: Client, to: SocketAddr, until: Instant) -> usize {
    let mut count = 0;
    while Instant::now() < until {
        let Ok(mut connection) = LoadConnection::open(&client, to, Ipv4Addr::LOCALHOST).await else {
            continue;
        };
        if connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_ok() {
            count += 1;
        }
    }
    count
}

/// Sends uploads one byte at a time, and cancels them by closing the connection at the end.
async fn upload_slowly(client: Client, to: SocketAddr, until: Instant) -> usize {
    let mut requests = open_http2(&client, to).await;
    let mut uploads = Vec::new();
    for _ in 0..IN_FLIGHT / 2 {
        requests = requests.ready().await.unwrap();
        let head = request("POST", "/events", &[("content-length", "100000")]);
        uploads.push(requests.send_request(head, false).unwrap());
    }
    while Instant::now() < until {
        for (_, body) in &mut uploads {
            // An upload that the server refused is closed; the error is right.
            let _ = body.send_data(bytes::Bytes::from_static(b"x"), false);
        }
        sleep(Duration::from_millis(200)).await;
    }
    uploads.len()
}
