//! The life of one connection: TLS, then HTTP until one side ends it, a time limit does, or somebody pulls its leash.

mod deadline;
mod drive;
mod early;
mod exchanges;
pub mod lines;
mod outbox;
mod pulse;
mod rest;
mod view;
mod waiting;
mod window;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::admission::Holding;
use crate::client::Peer;
use crate::forward::headers::ConnectionHeaders;
use crate::forward::{Streams, Tunnel};
use crate::gate;
use crate::handshake::{self, HandshakeError, Protocol, Stream, TlsConnection};
use crate::leash::{Leash, Order};
use crate::live::Live;
use crate::refusal::{Reader, Refusal};
use crate::reply::{Ending, Reply};
use crate::telemetry::{Asked as Kept, Decision, Handshake, Handshaken, Record, Refused, RequestId};
use crate::unread;
use crate::worker::{Accepted, Worker};

use deadline::Situation;
use drive::{Drive, End, Http2, Switched};
use early::Early;
use exchanges::Exchanges;
use outbox::Outbox;
use pulse::{Felted, Pulse};
use rest::Resting;
use waiting::Waiting;

pub use exchanges::Asked;
pub use outbox::Spare;
pub use pulse::Busy;
pub use view::View;
pub use waiting::{Maker, Part, Unread};

/// How long a connection may do nothing (`limits`).
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request's headers, and for the first request.
    pub request: Duration,
    /// Between requests, without a slot.
    pub lobby_idle: Duration,
    /// Between requests, with a slot.
    pub idle: Duration,
    /// Without a byte in either direction, after a switch of protocols.
    pub upgrade_idle: Duration,
    /// For a reader to take anything of what is there for it.
    pub write: Duration,
}

impl Patience {
    /// The least time that anything may take once TLS is done.
    fn shortest(&self) -> Duration {
        self.request.min(self.lobby_idle).min(self.idle).min(self.write)
    }
}

/// Bounds of HTTP itself (`limits.http`).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of a request's headers: its head in HTTP/1.1, its header list (RFC 9113 §6.5.2) in HTTP/2.
    pub header_bytes: usize,
    /// The most headers of a request.
    pub headers: usize,
    /// HTTP/2: streams at once.
    pub streams: u32,
    /// HTTP/2: streams that the client reset and we have not yet seen the end of (CVE-2023-44487).
    pub pending_resets: usize,
    /// HTTP/2: resets that a client provoked from us (CVE-2025-8671).
    pub provoked_resets: usize,
}

/// What a client may send ahead on a stream of HTTP/2, and on its connection, and what is buffered for it.
mod windows {
    pub(super) const STREAM: u32 = 256 * 1024;
    pub(super) const CONNECTION: u32 = 1024 * 1024;
    pub(super) const SEND_BUFFER: usize = 256 * 1024;
}

impl Limits {
    /// Whether a request's headers are within the bounds. Those of HTTP/1.1 were held to them while they were read.
    pub fn allow<B>(&self, request: &Request<B>) -> bool {
        request.version() != http::Version::HTTP_2
            || (request.headers().len() <= self.headers && header_list(request) <= self.header_bytes)
    }
}

/// The size of the header list as RFC 9113 §6.5.2 counts it, without the pseudo-headers: the target has a bound of its own.
fn header_list<B>(request: &Request<B>) -> usize {
    request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// One connection on which TLS is done.
#[derive(Debug)]
pub struct Connection {
    /// The worker that it belongs to.
    pub worker: Arc<Worker>,
    /// Who is at the other end.
    pub peer: Peer,
    /// Its place in the lobby, or its slot.
    pub holding: Holding,
    /// How others end it.
    pub leash: Arc<Leash>,
    /// Which HTTP it speaks.
    pub protocol: Protocol,
    /// The headers that name its peer.
    pub headers: ConnectionHeaders,
    pulse: Pulse,
    early: Early,
    exchanges: Exchanges,
    waiting: Waiting,
    /// Whether a request was answered before its body was read.
    unread: AtomicBool,
    /// What it becomes once the answer that agrees to it is out.
    switch: Mutex<Option<Switch>>,
    /// How TLS went, until it is told; only where requests are traced.
    handshake: Mutex<Option<Handshaken>>,
}

/// A switch of protocols that both sides agreed to.
#[derive(Debug)]
struct Switch {
    tunnel: Tunnel,
    ending: Ending,
}

impl Connection {
    /// A request is refused without its body having been read. On HTTP/2 its stream goes on for a moment; on HTTP/1.1
    /// the connection ends with the answer, which says so, and is closed gently. Either way the client reads the answer
    /// and not a reset.
    pub fn leave_unread(&self, body: Incoming) {
        match self.protocol {
            Protocol::Http2 => unread::forget(body),
            Protocol::Http1 if !body.is_end_stream() => self.unread.store(true, Ordering::Relaxed),
            Protocol::Http1 => {}
        }
    }

    /// Whether no further request is read from an HTTP/1.1 connection, which its answer has to say (RFC 9112 §9.6).
    pub fn ends_after_this(&self) -> bool {
        self.leash.was_told(Order::WindDown) || self.unread.load(Ordering::Relaxed)
    }

    /// The backend gives an interim answer. Only an HTTP/1.1 client can be told.
    pub fn say_early(&self, status: StatusCode, headers: &HeaderMap) {
        self.early.say(status, headers);
    }

    /// Ends HTTP after the answer that is being given, and joins the client to the backend's side of the new protocol.
    pub fn switch(&self, tunnel: Tunnel, ending: Ending) {
        // Nothing panics while it is held.
        *self.switch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Switch { tunnel, ending });
    }

    /// How TLS went, once.
    pub fn take_handshake(&self) -> Option<Handshaken> {
        self.handshake.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn take_switch(&self) -> Option<Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Judges again what goes on: what its client may not have any more ends by that. Tells whether the client was
    /// somebody when it began, and is nobody now (DESIGN §2.2).
    fn review(&self) -> bool {
        let (worker, peer) = (&self.worker, &self.peer);
        let (live, now) = (worker.live.load(), Timestamp::now());
        match peer.client(&worker.verdicts, &live, now) {
            Ok(client) => {
                self.exchanges.review(&live, &client.rights, now);
                false
            }
            Err(_) => peer.has_fallen(),
        }
    }

    /// Facts that decide when the connection has done nothing for too long.
    fn situation(&self) -> Situation {
        let unread = [self.pulse.blocked_since(), self.waiting.oldest()];
        Situation {
            doing: self.pulse.felt(),
            unread_since: unread.into_iter().flatten().min(),
            has_slot: self.holding.has_slot(),
        }
    }
}

/// Serves one accepted socket until it ends.
pub fn serve(worker: Arc<Worker>, socket: TcpStream, accepted: Accepted) -> impl Future<Output = ()> {
    // On the heap, so that nothing is left of it once it is done.
    let secured = Box::pin(secure(worker, socket, accepted));
    async {
        if let Some((connection, stream)) = secured.await {
            match connection.protocol {
                Protocol::Http1 => serve_http1(connection, stream).await,
                Protocol::Http2 => Box::pin(serve_http2(connection, stream)).await,
            }
        }
    }
}

/// TLS; then it is known who is at the other end.
async fn secure(
    worker: Arc<Worker>,
    socket: TcpStream,
    accepted: Accepted,
) -> Option<(Arc<Connection>, Stream)> {
    let Accepted { address, number, place, leash } = accepted;
    // Nobody looks at this clock where nothing is traced.
    let began = worker.tracer.as_ref().map(|_| Instant::now());
    let secured = shake_hands(&worker, socket, &leash).await?;
    let resumed = secured.resumed;
    let handshake = began.map(|began| Handshaken { began, ended: Instant::now(), resumed });
    let live = worker.live.load_full();
    let judged = judge(&worker, address, secured.chain, &live);
    let peer = drive::until_finished(&leash, judged).await.flatten()?;
    place.is_judged(peer.is_known());
    let connection = Arc::new(Connection {
        peer,
        holding: Holding::in_lobby(place),
        leash,
        protocol: secured.protocol,
        headers: ConnectionHeaders::of(address.ip()),
        pulse: Pulse::start(),
        early: Early::default(),
        exchanges: Exchanges::default(),
        waiting: Waiting::default(),
        unread: AtomicBool::new(false),
        switch: Mutex::default(),
        handshake: Mutex::new(handshake),
        worker,
    });
    drop(live);
    connection.worker.introduce(number, &connection);
    Some((connection, secured.stream))
}

/// Certificates of a chain that is judged at once, whoever presents it: those of ordinary clients, whose judgement is cheap.
const SHORT_CHAIN: usize = 2;

/// Judges the client. A longer chain that is not known is judged on a thread beside the worker's, one at a time: a stranger can
/// make one that takes ten milliseconds, for which known clients would wait.
async fn judge(
    worker: &Arc<Worker>,
    address: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    live: &Arc<Live>,
) -> Option<Peer> {
    let now = Timestamp::now();
    if chain.len() <= SHORT_CHAIN || worker.verdicts.knows(&chain, live, now) {
        return Some(Peer::judged(address, chain, &worker.verdicts, live, now));
    }
    // Nobody closes the semaphore.
    let _turn = worker.judging.acquire().await.ok()?;
    let (worker, live) = (Arc::clone(worker), Arc::clone(live));
    spawn_blocking(move || Peer::judged(address, chain, &worker.verdicts, &live, now)).await.ok()
}

async fn shake_hands(worker: &Worker, socket: TcpStream, leash: &Leash) -> Option<TlsConnection> {
    let (tls, limit) = {
        let live = worker.live.load();
        (Arc::clone(&live.tls.value), live.patience.handshake)
    };
    let secured = drive::until_finished(leash, handshake::accept(socket, &tls, limit)).await;
    let result = match &secured {
        Some(Ok(secured)) if secured.resumed => Handshake::Resumed,
        Some(Ok(_)) => Handshake::Full,
        Some(Err(HandshakeError::Failed(_))) => Handshake::Failed,
        Some(Err(HandshakeError::TimedOut)) => Handshake::TimedOut,
        Some(Err(HandshakeError::PlainHttp(_))) => Handshake::PlainHttp,
        None => Handshake::GaveWay,
    };
    worker.counters.shook_hands(result);
    match secured? {
        Ok(secured) => Some(secured),
        Err(HandshakeError::PlainHttp(socket)) => {
            drive::until_finished(leash, answer_plain_http(worker, socket)).await;
            None
        }
        Err(HandshakeError::Failed(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(HandshakeError::TimedOut) => None,
    }
}

/// A fixed answer in plain text; nothing of the request is looked at or passed on.
async fn answer_plain_http(worker: &Worker, mut socket: TcpStream) {
    let request_id = worker.ids.next();
    let frame = Refusal::PlainHttp.frame(request_id.as_str());
    let response =
        Refusal::PlainHttp.response(Reader::Whole, request_id.as_str(), &Refusal::PlainHttp.detail());
    let answered = (response.status().as_u16(), response.body().len() as u64);
    worker.counters.decided(Decision::Refused(Refusal::PlainHttp.reason()));
    if let Ok(source) = socket.peer_addr() {
        record_plain_http(worker, source, request_id, answered);
    }
    let answer = async {
        if socket.write_all(&frame).await.is_ok() {
            let _ = socket.shutdown().await;
            let _ = swallow(&mut socket).await;
        }
    };
    let _ = timeout(unread::TIME, answer).await;
}

/// For whoever asks why, now or later; of its request nothing is known.
fn record_plain_http(worker: &Worker, source: SocketAddr, request_id: RequestId, answered: (u16, u64)) {
    let now = Timestamp::now();
    let done = Decision::Refused(Refusal::PlainHttp.reason());
    let record = Record::of_nothing_known(now, request_id.as_str(), source, done, answered);
    worker.audit.iter().for_each(|audit| audit.write(&record));
    worker.refusals.keep(Refused {
        time: now,
        judged_at: now,
        request_id,
        source,
        generation: worker.live.load().generation,
        client: None,
        chain: None,
        request: Kept::default(),
        reason: Refusal::PlainHttp.reason(),
        detail: Refusal::PlainHttp.detail().into(),
        rule: None,
    });
}

/// Reads and forgets what a peer still sends, within bounds: closing a socket with unread bytes resets it, and a
/// reset takes the answer with it.
async fn swallow(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let mut left = unread::BYTES;
    while left > 0 {
        match socket.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read as u64),
        }
    }
    Ok(())
}

type Http1 = http1::Connection<TokioIo<Felted>, Service>;

async fn serve_http1(connection: Arc<Connection>, stream: Stream) {
    let mut io = Felted::new(stream, Arc::clone(&connection));
    let (end, parts) = loop {
        // On the heap, so that nothing is left of it while the connection rests.
        let (end, http) = Box::pin(Drive::of(http1(&connection, io), &connection)).await;
        let Some(parts) = http.map(http1::Connection::into_parts) else { return };
        // At rest hyper has nothing. If it had, nobody could say what that is the beginning of.
        if end != End::Rested || !parts.read_buf.is_empty() {
            break (end, parts);
        }
        let resting = Resting::new(parts.io.into_inner());
        // Its buffer is empty, and 8 KiB long.
        drop((parts.read_buf, parts.service));
        connection.exchanges.rest();
        let (end, resting) = Drive::of(resting, &connection).await;
        let Some(resting) = resting else { return };
        if end != End::Woken {
            drop(connection);
            return Box::pin(resting.end(end)).await;
        }
        io = resting.io;
    };
    Box::pin(end_http1(connection, end, parts)).await;
}

/// hyper's part of it, until it rests or ends.
fn http1(connection: &Arc<Connection>, io: Felted) -> Http1 {
    let limits = connection.worker.live.load().limits;
    let mut http = http1::Builder::new();
    // Between requests a connection may be silent for longer than within one; the pulse tells the two apart.
    http.timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.headers)
        // A buffer is filled beyond its limit; a head is not.
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes)
        .half_close(false);
    http.serve_connection(TokioIo::new(io), Service(Arc::clone(connection)))
}

/// What remains to be done once hyper is done.
async fn end_http1(connection: Arc<Connection>, end: End, parts: http1::Parts<TokioIo<Felted>, Service>) {
    let pulse::Parts { mut stream, unparsed, beyond } = parts.io.into_inner().into_parts();
    if let (End::Served, Some(switch)) = (end, connection.take_switch()) {
        drop(parts.service);
        let said = [parts.read_buf, beyond].concat().into();
        return carry(connection, stream, said, switch).await;
    }
    // Of an upload, of what is no HTTP, or of requests sent along with one that ended the connection.
    let is_all_read = parts.read_buf.is_empty() && beyond.is_empty();
    let unread = connection.unread.load(Ordering::Relaxed) || unparsed.is_some() || !is_all_read;
    if let Some(status) = unparsed {
        let frame = gate::answer_unparsed(&connection, status, &parts.read_buf);
        let _ = timeout(unread::TIME, stream.write_all(&frame)).await;
    }
    // Its places are free before the client has said goodbye.
    drop((connection, parts.service));
    if end != End::Cut || unparsed.is_some() {
        close(stream, unread).await;
    }
}

/// Carries another protocol, for as long as the client is who it was.
async fn carry(connection: Arc<Connection>, stream: Stream, said: Bytes, switch: Switch) {
    let Switch { tunnel, ending } = switch;
    let limit = connection.worker.live.load().patience.upgrade_idle;
    let joined = tunnel.join(stream, said, limit);
    if let (_, Some(mut switched)) = Drive::of(Switched { joined, ending }, &connection).await {
        switched.ending.moved(switched.joined.bytes());
    }
}

async fn serve_http2(connection: Arc<Connection>, stream: Stream) {
    let spare = Arc::clone(&connection.worker.spare);
    let (outbox, io) = Outbox::new(Felted::new(stream, Arc::clone(&connection)), spare);
    let limits = connection.worker.live.load().limits;
    let mut http = hyper::server::conn::http2::Builder::new(Streams);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        // What is beyond our limit is answered by us; only what is far beyond it, by the protocol.
        .max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(limits.provoked_resets)
        .initial_stream_window_size(windows::STREAM)
        .initial_connection_window_size(windows::CONNECTION)
        .max_send_buf_size(windows::SEND_BUFFER);
    let http =
        Http2 { http: http.serve_connection(TokioIo::new(io), Service(Arc::clone(&connection))), outbox };
    let _ = Drive::of(http, &connection).await;
}

type Serving =
    std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Reply>, std::convert::Infallible>> + Send>>;

/// What hyper gives a connection's requests to. Each is a future of its own on the heap: an idle connection holds none.
struct Service(Arc<Connection>);

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = http::Response<Reply>;
    type Error = std::convert::Infallible;
    type Future = Serving;

    fn call(&self, request: Request<Incoming>) -> Serving {
        Box::pin(gate::answer(Arc::clone(&self.0), request))
    }
}

/// Ends TLS and TCP in order; where something was not read, not before the client had time to read the answer.
async fn close(mut stream: Stream, unread: bool) {
    let farewell = async {
        let _ = stream.shutdown().await;
        if unread {
            let _ = swallow(stream.socket_mut()).await;
        }
    };
    let _ = timeout(unread::TIME, farewell).await;
}
