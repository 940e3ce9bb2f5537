//! Listeners in front of a recording backend for TLS and Unix sockets, and a backend that speaks HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use sidegate::demo::pki::{Authority, Credential};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::http2::{spawn, wait};

/// Listens with TLS in front of a backend without TLS; returns the address.
pub fn listen_tls(config: ServerConfig, backend: SocketAddr) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    wait(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                spawn(async move { join(acceptor.accept(socket).await, backend).await });
            }
        });
        address
    })
}

/// Listens on a Unix socket in front of a backend.
pub fn listen_unix(path: &Path, backend: SocketAddr) {
    let path = path.to_owned();
    wait(async move {
        let listener = UnixListener::bind(path).unwrap();
        spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                spawn(join(Ok(socket), backend));
            }
        });
    });
}

async fn join(client: io::Result<impl AsyncRead + AsyncWrite + Unpin>, backend: SocketAddr) {
    if let (Ok(mut client), Ok(mut backend)) = (client, TcpStream::connect(backend).await) {
        let _ = copy_bidirectional(&mut client, &mut backend).await;
    }
}

/// Returns a configuration with this server certificate, which requires client certificates of `clients` if given.
pub fn server_config(credential: &Credential, clients: Option<&Authority>, alpn: &str) -> ServerConfig {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(credential.chain.clone(), credential.key.clone_key()).unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config
}

/// A backend that speaks HTTP/2 without TLS and answers each request by a script.
pub struct Http2Backend {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedHttp2Request>>>,
    connections: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

/// A complete request as the backend got it.
#[derive(Clone, Debug)]
pub struct ReceivedHttp2Request {
    pub head: Request<()>,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Http2Backend {
    /// Reads each complete request, then answers with this head, body and trailers.
    pub fn answering(head: Response<()>, body: &'static str, trailers: Option<HeaderMap>) -> Self {
        Self::scripted(move |request, mut respond: SendResponse<Bytes>| {
            let mut response = Response::builder().status(head.status());
            response.headers_mut().unwrap().clone_from(head.headers());
            if let Some(name) = request.head.uri().path().strip_prefix("/echo-host/") {
                response = response.header("x-name", name);
            }
            let end = body.is_empty() && trailers.is_none();
            let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), end) else { return };
            if !end {
                let _ = stream.send_data(Bytes::from_static(body.as_bytes()), trailers.is_none());
            }
            if let Some(trailers) = &trailers {
                let _ = stream.send_trailers(trailers.clone());
            }
        })
    }

    pub fn scripted(
        answer: impl Fn(&ReceivedHttp2Request, SendResponse<Bytes>) + Send + Sync + 'static,
    ) -> Self {
        let (answer, received) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (record, opened) = (Arc::clone(&received), Arc::clone(&connections));
        let address = wait(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let (answer, record) = (Arc::clone(&answer), Arc::clone(&record));
                    let connection = spawn(serve(socket, answer, record));
                    opened.lock().unwrap().push(connection);
                }
            });
            address
        });
        Self { address, received, connections }
    }

    pub fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }

    pub fn received(&self) -> Vec<ReceivedHttp2Request> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the number of all connections so far.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Closes every open connection, and keeps listening.
    pub fn close_connections(&self) {
        self.connections.lock().unwrap().iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn serve(
    socket: TcpStream,
    answer: Arc<impl Fn(&ReceivedHttp2Request, SendResponse<Bytes>) + Send + Sync + 'static>,
    received: Arc<Mutex<Vec<ReceivedHttp2Request>>>,
) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (answer, received) = (Arc::clone(&answer), Arc::clone(&received));
        spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut request = ReceivedHttp2Request {
                head: Request::from_parts(head, ()),
                body: Vec::new(),
                trailers: None,
            };
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
                request.body.extend_from_slice(&chunk);
            }
            request.trailers = body.trailers().await.ok().flatten();
            received.lock().unwrap().push(request.clone());
            answer(&request, respond);
        });
    }
}
