//! Requests that are taken back, by resets and by closing, in front of a backend that does not notice: it never works on more of
//! them than it may, and clients that are known go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::report::{Report, p99};
use crate::support::http2::request;
use crate::support::proxy::policy_of_two;
use crate::support::{Client, Proxy, Setup};

const IN_FLIGHT: usize = 40;
const KNOWN: usize = 4;

pub fn run(report: &mut Report, length: Duration) {
    let backend = Backend::start(Mood::Deaf);
    let setup = Setup::new(&backend.url())
        .policy(&policy_of_two("", ""))
        .set("backend.max_in_flight", IN_FLIGHT)
        .set("backend.queue_timeout", "5s");
    let proxy = setup.set("log.audit", "none").start();
    let (asked, taken_back) = client::run(traffic(report, &proxy, length));
    report.tells("requests of known clients", asked);
    report.tells("requests taken back", taken_back);
    let most = backend.most_at_once();
    let bound = format!("at most {IN_FLIGHT}");
    report.holds("requests at once at the backend", most, &bound, most <= IN_FLIGHT);
    for gauge in ["sidegate_requests_in_flight", "sidegate_requests_queued", "sidegate_slots_used"] {
        proxy.admin.wait_for(gauge, 0.0);
        report.none(&format!("{gauge} once all have gone"), 0);
    }
}

async fn traffic(report: &mut Report, proxy: &Proxy, length: Duration) -> (usize, usize) {
    let tasks = tokio::task::LocalSet::new();
    let (until, address) = (Instant::now() + length, proxy.address);
    let known: Vec<_> = (0..KNOWN)
        .map(|number| {
            // Each is a client of its own: nobody is one of a crowd.
            let leaf = sidegate::demo::pki::Leaf::client("Shop", "known")
                .uri(&format!("spiffe://shop.example/ns/reports/sa/{number}"))
                .unwrap();
            tasks.spawn_local(asks(proxy.client(&proxy.pki().issue(&leaf)), address, until))
        })
        .collect();
    let hog = proxy.producer();
    let floods = [
        tasks.spawn_local(resets(hog.clone(), address, until)),
        tasks.spawn_local(closes(hog.clone(), address, until)),
        tasks.spawn_local(drips(hog, address, until)),
    ];
    tasks
        .run_until(async {
            let (mut times, mut wrong) = (Vec::new(), 0);
            for known in known {
                let (took, errors) = known.await.unwrap();
                times.extend(took);
                wrong += errors;
            }
            let mut taken_back = 0;
            for flood in floods {
                taken_back += flood.await.unwrap();
            }
            report.none("known clients that got anything else than 200", wrong);
            let asked = times.len();
            report.at_most("p99 of known clients", p99(&mut times), Duration::from_secs(2));
            (asked, taken_back)
        })
        .await
}

/// One request after the other: how long each took, and how many got anything else than 200.
async fn asks(client: Client, to: SocketAddr, until: Instant) -> (Vec<Duration>, usize) {
    let mut connection = Connection::open(&client, to, Ipv4Addr::LOCALHOST).await.unwrap();
    let (mut times, mut wrong) = (Vec::new(), 0);
    while Instant::now() < until {
        let start = Instant::now();
        let answer = connection.get("/events").await;
        times.push(start.elapsed());
        if !answer.is_ok_and(|answer| answer.status == 200) {
            wrong += 1;
            connection = Connection::open(&client, to, Ipv4Addr::LOCALHOST).await.unwrap();
        }
    }
    (times, wrong)
}

async fn http2(client: &Client, to: SocketAddr) -> SendRequest<bytes::Bytes> {
    let config = client.alpn(&["h2"]).config;
    let socket = TcpStream::connect(to).await.unwrap();
    let stream = TlsConnector::from(config).connect("localhost".try_into().unwrap(), socket).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::task::spawn_local(connection);
    requests
}

/// Requests that are reset a moment later, on connections of HTTP/2 that are made anew where one was ended.
async fn resets(client: Client, to: SocketAddr, until: Instant) -> usize {
    let (mut requests, mut count) = (http2(&client, to).await, 0);
    while Instant::now() < until {
        let Ok(Ok(mut ready)) = timeout(Duration::from_secs(1), requests.clone().ready()).await else {
            requests = http2(&client, to).await;
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

/// Requests whose connections are closed a moment later.
async fn closes(client: Client, to: SocketAddr, until: Instant) -> usize {
    let mut count = 0;
    while Instant::now() < until {
        let Ok(mut connection) = Connection::open(&client, to, Ipv4Addr::LOCALHOST).await else { continue };
        if connection.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_ok() {
            count += 1;
        }
    }
    count
}

/// Uploads that go on a byte at a time, and end with their connection.
async fn drips(client: Client, to: SocketAddr, until: Instant) -> usize {
    let mut requests = http2(&client, to).await;
    let mut uploads = Vec::new();
    for _ in 0..IN_FLIGHT / 2 {
        requests = requests.ready().await.unwrap();
        let head = request("POST", "/events", &[("content-length", "100000")]);
        uploads.push(requests.send_request(head, false).unwrap());
    }
    while Instant::now() < until {
        for (_, body) in &mut uploads {
            // One that was refused is gone.
            let _ = body.send_data(bytes::Bytes::from_static(b"x"), false);
        }
        sleep(Duration::from_millis(200)).await;
    }
    uploads.len()
}
