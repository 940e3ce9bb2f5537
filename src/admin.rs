//! The second listener: probes, metrics and status, for the people who run Sidegate. Never reachable through the main
//! port; loopback unless it is told otherwise.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::app::Running;
use crate::reload::Outcome;
use crate::telemetry;

/// Probes and scrapers are few.
const MOST_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the admin listener until it is dropped.
pub async fn serve(listener: TcpListener, running: Arc<Running>) -> Infallible {
    let exposed = listener.local_addr().is_ok_and(|address| !address.ip().is_loopback());
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // A closed semaphore is impossible: nobody closes it.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((socket, _)) => {
                let running = Arc::clone(&running);
                tokio::spawn(async move {
                    converse(socket, running, exposed).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(socket: TcpStream, running: Arc<Running>, exposed: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let running = Arc::clone(&running);
        async move { Ok::<_, Infallible>(answer(&request, &running, exposed).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(true);
    // A probe that hangs up is no news.
    let _ = http.serve_connection(TokioIo::new(socket), service).await;
}

async fn answer(request: &Request<Incoming>, running: &Running, exposed: bool) -> Response<Full<Bytes>> {
    if request.uri().path() == "/reload" {
        return reload(request, running, exposed).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD", "only GET is answered here\n");
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => readiness(running),
        "/metrics" => metrics(running),
        "/status" if exposed => text(StatusCode::FORBIDDEN, EXPOSED),
        "/status" => json(StatusCode::OK, &running.census()),
        "/" => text(StatusCode::OK, "sidegate admin: /livez /readyz /metrics /status, and POST /reload\n"),
        _ => text(
            StatusCode::NOT_FOUND,
            "nothing here; there is /livez, /readyz, /metrics, /status and POST /reload\n",
        ),
    }
}

/// What only those may have who are on this machine.
const EXPOSED: &str =
    "this listener is reachable from other machines, so only /livez, /readyz and /metrics are served here\n";

/// Reads everything anew; the answer is what came of it.
async fn reload(request: &Request<Incoming>, running: &Running, exposed: bool) -> Response<Full<Bytes>> {
    if exposed {
        return text(StatusCode::FORBIDDEN, EXPOSED);
    }
    if request.method() != Method::POST {
        return not_allowed("POST", "a reload is asked for by POST\n");
    }
    // A page of any origin can have a browser of this machine send a POST; it cannot take this away.
    if request.headers().contains_key(header::ORIGIN) {
        return text(StatusCode::FORBIDDEN, "a reload is not asked for by a web page\n");
    }
    match running.reload().await {
        Some(attempt) if attempt.outcome == Outcome::Applied => json(StatusCode::OK, &attempt),
        Some(attempt) => json(StatusCode::UNPROCESSABLE_ENTITY, &attempt),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
    }
}

fn not_allowed(methods: &'static str, why: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, why);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// The sidecar's own state, and the backend's beside it.
fn readiness(running: &Running) -> Response<Full<Bytes>> {
    let (status, own) = match (running.is_ready(), running.is_serving()) {
        (true, _) => (StatusCode::OK, "ok"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "the backend does not serve"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down"),
    };
    let text = format!("{own}\nbackend: {}\n", running.health().condition().name());
    typed(status, "text/plain; charset=utf-8", Bytes::from(text))
}

fn metrics(running: &Running) -> Response<Full<Bytes>> {
    match telemetry::exposition(running) {
        Ok(text) => typed(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Bytes::from(text),
        ),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n"),
    }
}

fn json(status: StatusCode, what: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(what) {
        Ok(mut json) => {
            json.push(b'\n');
            typed(status, "application/json", Bytes::from(json))
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Binds the admin port.
///
/// # Errors
/// The address is in use, not ours, or not allowed to us.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
