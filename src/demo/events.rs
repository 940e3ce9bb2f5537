//! Embedded events backend: a service without authorization of its own, such as a sidecar protects.
//!
//! `POST /events` publishes, `GET /events?after=ID&limit=N` and `GET /events/{id}` read, and `GET /events/stream`
//! follows as server-sent events. It keeps the last events in memory, within bounds, and forgets them when it stops.

mod store;
mod stream;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;

use self::store::Store;
use self::stream::Subscription;

/// Maximum length of an event in bytes.
pub const MAX_EVENT: usize = 64 * 1024;
/// Maximum number of events in one answer.
pub const MAX_LISTED: usize = 1000;
/// Maximum number of open connections; further ones wait in the queue of the kernel.
const MAX_CONNECTIONS: usize = 1024;
const LISTED: usize = 100;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Running backend on a thread of its own. It stops when dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts a backend that accepts connections when this function returns. With port 0 the kernel chooses the port.
    ///
    /// # Errors
    /// The address cannot be bound, or the thread cannot be started.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("events-backend".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = accept_connections(listener) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address of the listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection, and returns when they are closed.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Only a panic of the thread causes an error, and then the backend is stopped anyway.
            let _ = thread.join();
        }
    }
}

type Answer = Response<Either<Full<Bytes>, Subscription>>;

async fn accept_connections(listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let store = Rc::new(RefCell::new(Store::default()));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, Rc::clone(&store));
                tokio::task::spawn_local(async move {
                    connection.await;
                    drop(place);
                });
            }
            // The process is probably out of descriptors, so the next attempt waits for connections to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, store: Rc<RefCell<Store>>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let store = Rc::clone(&store);
        async move { Ok::<_, Infallible>(answer(request, &store).await) }
    });
    // An error ends this connection only.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, store: &RefCell<Store>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/events") => publish(request, store).await,
        (&Method::GET | &Method::HEAD, "/events") => list(request.uri().query().unwrap_or_default(), store),
        (&Method::GET | &Method::HEAD, "/events/stream") => follow(request.headers(), store),
        (&Method::GET | &Method::HEAD, _) => read(&path, store),
        (_, "/events") => wrong_method("GET, HEAD, POST"),
        (_, path) if path.starts_with("/events/") => wrong_method("GET, HEAD"),
        _ => no_such(&path),
    }
}

async fn publish(request: Request<Incoming>, store: &RefCell<Store>) -> Answer {
    let announced = request.body().size_hint().lower();
    if announced > MAX_EVENT as u64 {
        return too_long();
    }
    match Limited::new(request.into_body(), MAX_EVENT).collect().await {
        Ok(body) => created(store.borrow_mut().publish(&body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => too_long(),
        Err(_) => problem(StatusCode::BAD_REQUEST, "the body broke off"),
    }
}

fn created(id: u64) -> Answer {
    let mut answer = json_answer(StatusCode::CREATED, json!({ "id": id }).to_string());
    if let Ok(location) = HeaderValue::try_from(format!("/events/{id}")) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

fn list(query: &str, store: &RefCell<Store>) -> Answer {
    let (Some(after), Some(limit)) = (number(query, "after", 0), number(query, "limit", LISTED as u64))
    else {
        return problem(StatusCode::BAD_REQUEST, "`after` and `limit` are whole numbers");
    };
    let limit = usize::try_from(limit).unwrap_or(MAX_LISTED).min(MAX_LISTED);
    let mut body = Vec::from(b"[");
    for (_, event) in store.borrow().after(after).take(limit) {
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.push(b']');
    json_answer(StatusCode::OK, body)
}

fn read(path: &str, store: &RefCell<Store>) -> Answer {
    let Some(id) = path.strip_prefix("/events/") else { return no_such(path) };
    let Ok(id) = id.parse() else {
        return problem(StatusCode::BAD_REQUEST, "an event's id is a whole number");
    };
    match store.borrow().event(id) {
        Some(event) => json_answer(StatusCode::OK, event.clone()),
        None => problem(StatusCode::NOT_FOUND, &format!("no event {id}, or no longer kept")),
    }
}

fn follow(headers: &HeaderMap, store: &RefCell<Store>) -> Answer {
    let seen =
        headers.get("last-event-id").map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
    if seen == Some(None) {
        return problem(StatusCode::BAD_REQUEST, "`Last-Event-ID` is a whole number");
    }
    let mut answer = Response::new(Either::Right(store.borrow_mut().subscribe(seen.flatten())));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this resource knows {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn no_such(path: &str) -> Answer {
    problem(StatusCode::NOT_FOUND, &format!("nothing at {path}; events are at /events"))
}

fn too_long() -> Answer {
    problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("an event has at most {MAX_EVENT} bytes"))
}

fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    json_answer(status, json!({ "title": title, "status": status.as_u16(), "detail": detail }).to_string())
}

fn json_answer(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Returns a number in the query, or the default if the name is missing; `None` if the value is not a number.
fn number(query: &str, name: &str, otherwise: u64) -> Option<u64> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.map_or(Some(otherwise), |text| text.parse().ok())
}

#[cfg(test)]
mod tests;
