//! The second listener: probes, metrics, status, and the page with its API, for the people who run Sidegate. Never
//! reachable through the main port; loopback unless it is told otherwise.

mod api;
mod body;
mod events;
mod guard;
mod headlines;
mod page;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::app::Running;
use crate::reload::{Outcome, PerPart};
use crate::telemetry;
use api::Api;
use body::{Answer, json, not_allowed, text, typed};
use events::Events;
use guard::{Barred, Guard};

/// Probes, scrapers and people are few.
const MOST_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the answer to `POST /reload`. Reads that hang are given up sooner; a policy of the largest size takes
/// seconds to compile.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The listener, as its connections see it.
#[derive(Debug)]
struct Admin {
    running: Arc<Running>,
    /// It can be reached from other machines.
    exposed: bool,
    /// What the page shows with what it has done; another one for each process.
    page: String,
    events: Events,
    api: Api,
}

/// Serves the admin listener until it is dropped.
pub async fn serve(listener: TcpListener, running: Arc<Running>) -> Infallible {
    let admin = Arc::new(Admin {
        exposed: listener.local_addr().is_ok_and(|address| !address.ip().is_loopback()),
        page: telemetry::RequestIds::new().next().as_str().to_owned(),
        events: Events::default(),
        api: Api::new(Arc::clone(&running)),
        running,
    });
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // A closed semaphore is impossible: nobody closes it.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((socket, _)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    converse(socket, admin).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(socket: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    // Events are small, and wanted now.
    let _ = socket.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(true);
    // A probe that hangs up is no news.
    let _ = http.serve_connection(TokioIo::new(socket), service).await;
}

const NOTHING_HERE: &str = "nothing here; there is the page at /, /livez, /readyz, /metrics, /status, /connections, /api/ and POST /reload\n";

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/livez" | "/readyz" | "/metrics" if !is_reading => read_only(),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => readiness(&self.running),
            "/metrics" => metrics(&self.running),
            _ => self.guarded(request, is_reading).await.unwrap_or_else(Barred::answer),
        }
    }

    /// What not everybody may have.
    async fn guarded(&self, request: Request<Incoming>, is_reading: bool) -> Result<Answer, Barred> {
        let live = self.running.live();
        let guard = Guard { exposed: self.exposed, token: live.admin_token.as_ref(), page: &self.page };
        let path = request.uri().path();
        if let Some(file) = page::file(path, request.headers()) {
            guard.gives_page(&request)?;
            return Ok(if is_reading { file } else { read_only() });
        }
        if path == "/reload" {
            return self.reload(&request, guard).await;
        }
        guard.gives_state(&request)?;
        match path {
            "/api/explain" => Ok(self.api.explain(request).await),
            _ if !is_reading => Ok(read_only()),
            "/status" => Ok(json(StatusCode::OK, &self.running.census())),
            "/api/session" => Ok(json(StatusCode::OK, &serde_json::json!({ "page": self.page }))),
            "/api/events" => Ok(self.events.listen(Arc::clone(&self.running))),
            _ => {
                let answer = self.api.read(path, request.uri().query()).await;
                Ok(answer.unwrap_or_else(|| text(StatusCode::NOT_FOUND, NOTHING_HERE)))
            }
        }
    }

    /// Reads everything anew; the answer is what came of it.
    async fn reload(&self, request: &Request<Incoming>, guard: Guard<'_>) -> Result<Answer, Barred> {
        guard.gives_state(request)?;
        if request.method() != Method::POST {
            return Ok(not_allowed("POST", "a reload is asked for by POST\n"));
        }
        guard.does(request)?;
        let Ok(attempt) = tokio::time::timeout(RELOAD_TIMEOUT, self.running.reload()).await else {
            return Ok(json(StatusCode::SERVICE_UNAVAILABLE, &still_reloading(&self.running)));
        };
        let Some(attempt) = attempt else {
            return Ok(text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"));
        };
        let status = match attempt.outcome {
            Outcome::Applied => StatusCode::OK,
            Outcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Outcome::Hanging => StatusCode::SERVICE_UNAVAILABLE,
        };
        Ok(json(status, &attempt))
    }
}

/// The answer while a reload goes on; what comes of it is in `/status`.
fn still_reloading(running: &Running) -> serde_json::Value {
    let parts = running.reloads().parts;
    let ages = PerPart::from_fn(|part| parts.of(part).look_age_seconds);
    serde_json::json!({ "error": "the reload still goes on; see `/status`", "look_age_seconds": ages })
}

fn read_only() -> Answer {
    not_allowed("GET, HEAD", "only GET is answered here\n")
}

/// The sidecar's own state, and the backend's beside it.
fn readiness(running: &Running) -> Answer {
    let (status, own) = match (running.is_ready(), running.is_serving()) {
        (true, _) => (StatusCode::OK, "ok"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "the backend does not serve"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down"),
    };
    let text = format!("{own}\nbackend: {}\n", running.health().condition().name());
    typed(status, "text/plain; charset=utf-8", Bytes::from(text))
}

fn metrics(running: &Running) -> Answer {
    match telemetry::exposition(running) {
        Ok(text) => typed(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Bytes::from(text),
        ),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n"),
    }
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
