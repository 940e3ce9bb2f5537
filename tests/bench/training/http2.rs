//! The same over HTTP/2: streams side by side on few connections.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use crate::support::http2::request;
use crate::support::{Client, Proxy};
use crate::{BODIES, BODY, REQUESTS, client};

const CONNECTIONS: usize = 8;
const STREAMS: usize = 16;
/// What a client may send or be sent before it says that it has taken some of it, as browsers have it.
const WINDOW: u32 = 4 << 20;

/// What is asked: method, path, fields, and a body's length.
type Asked = (&'static str, String, &'static [(&'static str, &'static str)], usize);

pub fn requests(proxy: &Proxy) {
    let fields = &[("user-agent", "shop/1.0"), ("accept", "application/json"), ("accept-encoding", "gzip")];
    let lessons: [(Client, Asked, u16, usize); 4] = [
        (proxy.producer(), ("GET", "/any/1024".to_owned(), &[], 0), 200, REQUESTS),
        (proxy.producer(), ("GET", "/any/1024".to_owned(), fields, 0), 200, REQUESTS / 2),
        (proxy.producer(), ("POST", "/any/0".to_owned(), &[], 512), 200, REQUESTS / 4),
        (proxy.consumer(), ("GET", "/denied".to_owned(), &[], 0), 403, REQUESTS / 4),
    ];
    for (client, asked, status, times) in lessons {
        client::run(ask(&client, proxy.address, CONNECTIONS, STREAMS, &asked, status, times));
    }
}

/// The first of them on one stream after the other.
pub fn row(proxy: &Proxy, times: usize) {
    let asked = ("GET", "/any/1024".to_owned(), &[][..], 0);
    client::run(ask(&proxy.producer(), proxy.address, 1, 1, &asked, 200, times));
}

pub fn bodies(proxy: &Proxy) {
    for asked in [("GET", format!("/any/{BODY}"), &[][..], 0), ("POST", "/any/0".to_owned(), &[], BODY)] {
        client::run(ask(&proxy.producer(), proxy.address, 1, 2, &asked, 200, BODIES));
    }
}

async fn ask(
    client: &Client,
    to: SocketAddr,
    connections: usize,
    streams: usize,
    asked: &Asked,
    status: u16,
    times: usize,
) {
    let tasks = LocalSet::new();
    for _ in 0..connections {
        let requests = tasks.run_until(connect(client, to)).await;
        for _ in 0..streams {
            let (mut requests, asked) = (requests.clone(), asked.clone());
            tasks.spawn_local(async move {
                for _ in 0..times / (connections * streams) {
                    assert_eq!(exchange(&mut requests, &asked).await, status, "{asked:?}");
                }
            });
        }
    }
    tasks.await;
}

async fn connect(client: &Client, to: SocketAddr) -> SendRequest<Bytes> {
    let socket = client::connect_from(to, Ipv4Addr::LOCALHOST).await.unwrap();
    let connector = TlsConnector::from(client.alpn(&["h2"]).config);
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap();
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (requests, connection) = settings.handshake(stream).await.unwrap();
    // It ends when nobody has a request to send any more.
    tokio::task::spawn_local(async { drop(connection.await) });
    requests
}

/// Sends a request whole, reads its answer whole, and returns its status.
async fn exchange(requests: &mut SendRequest<Bytes>, asked: &Asked) -> u16 {
    let (method, path, fields, length) = asked;
    let head = request(method, path, fields);
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
