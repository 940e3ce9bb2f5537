//! HTTP/2 on one connection.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::drive::{Drive, Http2};
use super::outbox::Outbox;
use super::stream::ClientStream;
use super::{Responding, gate};
use crate::forward::Streams;
use crate::handshake::Stream;
use crate::proxy::gate::{Answer, Then};
use crate::proxy::reply::Reply;
use crate::proxy::session::Session;
use crate::stop::Order;

/// Bytes that a client may send ahead on one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that a client may send ahead on its connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that hyper buffers for each stream to the client.
const SEND_BUFFER: usize = 256 * 1024;

pub(super) async fn serve(session: Arc<Session>, stream: Stream) {
    let spare = Arc::clone(&session.services.spare);
    let limits = session.services.live.load().limits;
    let io = ClientStream::new(stream, Arc::clone(&session));
    let (outbox, io) = Outbox::new(io, spare, limits.provoked_resets);
    let mut http = http2::Builder::new(Streams);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        // The gate answers headers beyond our limit. Of a list beyond this bound HTTP/2 keeps nothing, see `oversized`.
        .max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.pending_resets)
        // The outbox counts them: here the count would be that of the whole life of the connection.
        .max_local_error_reset_streams(None)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let requests = Requests(Arc::clone(&session));
    let http = Http2 { http: http.serve_connection(TokioIo::new(io), requests), outbox };
    let _ = Drive::of(http, &session).await;
}

/// The requests of one connection, as hyper hands them over.
struct Requests(Arc<Session>);

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Responding;

    fn call(&self, request: Request<Incoming>) -> Responding {
        let session = Arc::clone(&self.0);
        session.activity.note_accepted();
        Box::pin(async move { Ok(obey(&session, gate::answer(&session, request).await)) })
    }
}

/// Does what the gate has decided. A body that is not read is discarded within bounds, so that the client reads the answer and
/// not a reset.
fn obey(session: &Session, answer: Answer) -> Response<Reply> {
    match answer.then {
        // HTTP/2 has no switch of protocols by request (RFC 9113 §8.6): the gate asks the backend for none.
        Then::KeepAlive | Then::Switch(..) => {}
        Then::Drain(body) => session.discard().in_background(body),
        Then::Close(body) => {
            body.into_iter().for_each(|body| session.discard().in_background(body));
            session.stop.send(Order::WindDown);
        }
    }
    answer.response
}
