//! HTTP/1.1 on one connection: served by hyper, given back while the connection rests, closed or switched to another protocol
//! at its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::closing::{self, Input, close};
use super::drive::{Drive, End, Switched};
use super::resting::Resting;
use super::stream::{ClientStream, StreamParts};
use super::{Responding, gate};
use crate::forward::Tunnel;
use crate::handshake::Stream;
use crate::proxy::gate::{Answer, Then};
use crate::proxy::reply::{Ending, Reply};
use crate::proxy::session::Session;
use crate::stop::Order;

type Http1 = http1::Connection<TokioIo<ClientStream>, Requests>;

pub(super) async fn serve(session: Arc<Session>, stream: Stream) {
    let mut io = ClientStream::new(stream, Arc::clone(&session));
    let (end, parts) = loop {
        // hyper is a future on the heap, so that its memory is free while the connection rests.
        let (end, http) = Box::pin(Drive::of(http1(&session, io), &session)).await;
        let Some(parts) = http.map(http1::Connection::into_parts) else { return };
        // Bytes that hyper has read and not used would be the beginning of an unknown message: such a connection does not rest.
        if end != End::Rested || !parts.read_buf.is_empty() {
            break (end, parts);
        }
        let resting = Resting::new(parts.io.into_inner());
        // hyper's buffer is empty, and takes 8 KiB.
        drop((parts.read_buf, parts.service));
        session.rest();
        let (end, resting) = Drive::of(resting, &session).await;
        let Some(resting) = resting else { return };
        if end != End::Woken {
            let stop = Arc::clone(&session.stop);
            drop(session);
            return Box::pin(resting.end(end, &stop)).await;
        }
        io = resting.io;
    };
    Box::pin(finish(session, end, parts)).await;
}

/// hyper's part of the connection, until the connection rests or ends.
fn http1(session: &Arc<Session>, io: ClientStream) -> Http1 {
    let limits = session.services.live.load().limits;
    let mut http = http1::Builder::new();
    // Between requests a connection may be silent for longer than within one; the session's activity tells the two apart.
    http.timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.headers)
        // hyper fills a buffer beyond its limit, but not a head.
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes)
        .half_close(false);
    http.serve_connection(TokioIo::new(io), Requests::new(session))
}

/// The requests of one connection, as hyper hands them over.
struct Requests {
    session: Arc<Session>,
    outcome: Arc<Outcome>,
}

/// The gate's decisions about the end of the connection.
#[derive(Default)]
struct Outcome {
    /// A request was answered before its body was read.
    has_unread_body: AtomicBool,
    /// The protocol that follows, once both sides have agreed to it.
    switch: ArcSwapOption<Switch>,
}

/// A switch of protocols that both sides have agreed to.
struct Switch {
    tunnel: Tunnel,
    ending: Ending,
}

impl Requests {
    fn new(session: &Arc<Session>) -> Self {
        Self { session: Arc::clone(session), outcome: Arc::default() }
    }
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Responding;

    fn call(&self, request: Request<Incoming>) -> Responding {
        let (session, outcome) = (Arc::clone(&self.session), Arc::clone(&self.outcome));
        Box::pin(async move { Ok(outcome.obey(&session, gate::answer(&session, request).await)) })
    }
}

impl Outcome {
    /// Does what the gate has decided, and says in the answer where no further request is read (RFC 9112 §9.6).
    fn obey(&self, session: &Session, answer: Answer) -> Response<Reply> {
        let Answer { mut response, then } = answer;
        match then {
            Then::KeepAlive => {}
            Then::Drain(body) => self.leave_unread(&body),
            Then::Close(body) => {
                body.iter().for_each(|body| self.leave_unread(body));
                session.stop.send(Order::WindDown);
            }
            Then::Switch(tunnel, ending) => {
                self.switch.store(Some(Arc::new(Switch { tunnel: *tunnel, ending })));
                return response;
            }
        }
        if session.stop.includes(Order::WindDown) || self.has_unread_body.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The connection ends with the answer and is closed gently, so that the client reads the answer and not a reset.
    fn leave_unread(&self, body: &Incoming) {
        if !body.is_end_stream() {
            self.has_unread_body.store(true, Ordering::Relaxed);
        }
    }

    fn take_switch(&self) -> Option<Switch> {
        self.switch.swap(None).and_then(Arc::into_inner)
    }
}

/// Ends the connection once hyper has ended.
async fn finish(session: Arc<Session>, end: End, parts: http1::Parts<TokioIo<ClientStream>, Requests>) {
    let StreamParts { mut stream, unparsed, beyond } = parts.io.into_inner().into_parts();
    let outcome = parts.service.outcome;
    if let (End::Served, Some(switch)) = (end, outcome.take_switch()) {
        let said = [parts.read_buf, beyond].concat().into();
        return carry(session, stream, said, switch).await;
    }
    let is_all_read = parts.read_buf.is_empty() && beyond.is_empty() && unparsed.is_none();
    let has_upload = outcome.has_unread_body.load(Ordering::Relaxed) || session.activity.is_amid_message();
    let input = match (is_all_read, has_upload && unparsed.is_none()) {
        (_, true) => Input::Upload,
        (false, false) => Input::Unread,
        (true, false) => Input::Read,
    };
    if let Some(status) = unparsed {
        let frame = gate::answer_unparsed(&session, status, &parts.read_buf);
        let _ = timeout(closing::TIME, stream.write_all(&frame)).await;
    }
    let (stop, discard) = (Arc::clone(&session.stop), session.services.live.load().limits.discard);
    // The connection's slot is free before the client has closed its side. A connection whose input is still discarded counts
    // in the lobby, so that strangers cannot hold any number of them.
    let place = (input != Input::Read).then(|| session.place_in_lobby());
    drop((session, parts.service.session));
    if end != End::Cut || unparsed.is_some() {
        close(stream, input, discard, &stop).await;
    }
    drop(place);
}

/// Carries the other protocol for as long as the client's identity lasts. `said` was read behind the request.
async fn carry(session: Arc<Session>, stream: Stream, said: Bytes, switch: Switch) {
    let Switch { tunnel, ending } = switch;
    let limit = session.services.live.load().client_timeouts.upgrade_idle_timeout;
    let joined = tunnel.join(stream, said, limit);
    if let (_, Some(mut switched)) = Drive::of(Switched { joined, ending }, &session).await {
        switched.ending.add_bytes(switched.joined.bytes());
    }
}
