//! The training over HTTP/2: many streams at once on few connections.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::LocalSet;

use crate::support::{Client, Proxy};
use crate::{BODIES, BODY, REQUESTS, client};

const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;
/// Initial windows in bytes, as large as those of browsers.
const WINDOW: u32 = 4 << 20;

/// A request: method, path, fields, and the length of the body.
type TrainingRequest = (&'static str, String, &'static [(&'static str, &'static str)], usize);

pub fn requests(proxy: &Proxy) {
    let fields = &[("user-agent", "shop/1.0"), ("accept", "application/json"), ("accept-encoding", "gzip")];
    let requests: [(Client, TrainingRequest, u16, usize); 4] = [
        (proxy.producer(), ("GET", "/any/1024".to_owned(), &[], 0), 200, REQUESTS),
        (proxy.producer(), ("GET", "/any/1024".to_owned(), fields, 0), 200, REQUESTS / 2),
        (proxy.producer(), ("POST", "/any/0".to_owned(), &[], 512), 200, REQUESTS / 4),
        (proxy.consumer(), ("GET", "/denied".to_owned(), &[], 0), 403, REQUESTS / 4),
    ];
    for (client, request, status, times) in requests {
        client::run(send(&client, proxy.address, CONNECTIONS, STREAMS, &request, status, times));
    }
}

/// Sends requests on one stream after another.
pub fn send_sequence(proxy: &Proxy, times: usize) {
    let request = ("GET", "/any/1024".to_owned(), &[][..], 0);
    client::run(send(&proxy.producer(), proxy.address, 1, 1, &request, 200, times));
}

pub fn bodies(proxy: &Proxy) {
    for request in [("GET", format!("/any/{BODY}"), &[][..], 0), ("POST", "/any/0".to_owned(), &[], BODY)] {
        client::run(send(&proxy.producer(), proxy.address, 1, 2, &request, 200, BODIES));
    }
}

async fn send(
    client: &Client,
    to: SocketAddr,
    connections: usize,
    streams: usize,
    request: &TrainingRequest,
    status: u16,
    times: usize,
) {
    let tasks = LocalSet::new();
    for _ in 0..connections {
        let requests = tasks.run_until(connect(client, to)).await;
        for _ in 0..streams {
            let (mut requests, request) = (requests.clone(), request.clone());
            tasks.spawn_local(async move {
                for _ in 0..times / (connections * streams) {
                    assert_eq!(exchange(&mut requests, &request).await, status, "{request:?}");
                }
            });
        }
    }
    tasks.await;
}

async fn connect(client: &Client, to: SocketAddr) -> SendRequest<Bytes> {
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    client::open_http2(client, to, Ipv4Addr::LOCALHOST, &settings).await.unwrap().0
}

/// Sends a complete request, reads the complete answer, and returns the status.
async fn exchange(requests: &mut SendRequest<Bytes>, request: &TrainingRequest) -> u16 {
    let (method, path, fields, length) = request;
    let head = crate::support::http2::request(method, path, fields);
    *requests = requests.clone().ready().await.unwrap();
    let (answer, mut body) = requests.send_request(head, *length == 0).unwrap();
    if *length > 0 {
        body.send_data(vec![b'a'; *length].into(), true).unwrap();
    }
    let (head, mut body) = answer.await.unwrap().into_parts();
    while let Some(part) = body.data().await {
        body.flow_control().release_capacity(part.unwrap().len()).unwrap();
    }
    head.status.as_u16()
}
