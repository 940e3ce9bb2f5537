//! The admin listener: probes, metrics, status, and the page with its API, for operators. It is never reachable through the
//! main port, and bound to loopback unless configured otherwise.

mod api;
mod body;
mod events;
mod exchange;
mod guard;
mod headlines;
mod metrics;
mod page;
mod places;
mod running;
mod status;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::proxy::listener;
use crate::reload::{Outcome, PerPart};
use crate::telemetry;
use api::Api;
use body::{Answer, json, not_allowed, text, typed};
use events::Events;
use exchange::{AnswerGuard, Exchange, Line};
use guard::{Guard, GuardRefusal};
use places::{Place, Places};

pub(crate) use running::{Running, observe};
pub(crate) use status::Status;

/// Most bytes of a request's head.
const LARGEST_HEAD: usize = 64 << 10;
/// Number of connections that are accepted before other tasks run: many fewer than there are places.
const AT_ONCE: usize = 8;
/// Time limit for the answer to `POST /reload`. Reads that hang are abandoned sooner; a policy of the largest size takes
/// seconds to compile.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The admin listener, as its connections see it.
#[derive(Debug)]
struct Admin {
    running: Arc<Running>,
    /// The listener can be reached from other machines.
    exposed: bool,
    /// The value that the page sends with its actions; each process has another one.
    page: String,
    events: Events,
    api: Api,
    places: Arc<Places>,
    /// The turn to write an answer: one at a time on the thread that answers probes.
    thread: Semaphore,
}

/// Serves the admin listener until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, running: Arc<Running>) -> Infallible {
    let admin = Arc::new(Admin {
        exposed: listener.local_addr().is_ok_and(|address| !address.ip().is_loopback()),
        page: telemetry::RequestIds::new().next().as_str().to_owned(),
        events: Events::default(),
        api: Api::new(Arc::clone(&running)),
        running,
        places: Arc::default(),
        thread: Semaphore::new(1),
    });
    let mut accepted = 0_usize;
    loop {
        match listener.accept().await {
            Ok((socket, source)) => {
                let place = admin.places.take(source.ip(), Instant::now());
                tokio::spawn(converse(socket, Arc::clone(&admin), place));
                // A request that has arrived is read before newer connections can take its place.
                accepted = accepted.wrapping_add(1);
                if accepted.is_multiple_of(AT_ONCE) {
                    tokio::task::yield_now().await;
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(socket: TcpStream, admin: Arc<Admin>, place: Place) {
    let exchange = Arc::clone(&place.exchange);
    let service = service_fn(move |request: Request<Incoming>| {
        let (admin, exchange) = (Arc::clone(&admin), Arc::clone(&exchange));
        async move { Ok::<_, Infallible>(admin.answer_and_note(request, exchange).await) }
    });
    // Events are small, and should arrive at once.
    let _ = socket.set_nodelay(true);
    let mut http = http1::Builder::new();
    // The exchange has time limits of its own, which tell an idle connection from a head that comes byte by byte.
    http.timer(TokioTimer::new()).header_read_timeout(None).keep_alive(true).max_buf_size(LARGEST_HEAD);
    let line = Line::new(socket, Arc::clone(&place.exchange));
    tokio::select! {
        biased;
        () = place.exchange.end() => {}
        // A client that closes its connection is not logged.
        _ = http.serve_connection(TokioIo::new(line), service) => {}
    }
}

const NOTHING_HERE: &str = "nothing here; there is the page at /, /livez, /readyz, /metrics, /status, /connections, /api/ and POST /reload\n";

impl Admin {
    /// Answers a request, and notes the phases of the exchange.
    async fn answer_and_note(&self, request: Request<Incoming>, exchange: Arc<Exchange>) -> Answer {
        // Hundreds of requests may come in one packet: connections take turns, so that no connection's first request waits
        // behind them.
        if exchange.has_answered() {
            tokio::task::yield_now().await;
        }
        let needs_turn = needs_turn(request.uri().path());
        let turn = if needs_turn { self.places.turn() } else { None };
        let is_refused = needs_turn && turn.is_none();
        exchange.work(turn);
        let answer = if is_refused { busy() } else { self.answer(request).await };
        exchange.answer(answer.body().is_events());
        answer.map(|body| body.with(AnswerGuard::new(exchange)))
    }

    /// Waits for the turn to write an answer. Hundreds of requests at once would otherwise be answered in a row, and every
    /// probe would wait behind them.
    async fn in_turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        let turn = self.thread.acquire().await.ok();
        tokio::task::yield_now().await;
        turn
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/livez" | "/readyz" | "/metrics" if !is_reading => read_only(),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => readiness(&self.running),
            "/metrics" => {
                let _turn = self.in_turn().await;
                metrics(&self.running)
            }
            _ => self.guarded(request, is_reading).await.unwrap_or_else(GuardRefusal::answer),
        }
    }

    /// Answers requests that need the guard's consent.
    async fn guarded(&self, request: Request<Incoming>, is_reading: bool) -> Result<Answer, GuardRefusal> {
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
            "/status" => {
                let _turn = self.in_turn().await;
                Ok(json(StatusCode::OK, &self.running.status()))
            }
            "/api/session" => Ok(json(StatusCode::OK, &serde_json::json!({ "page": self.page }))),
            "/api/events" => Ok(self.events.listen(Arc::clone(&self.running))),
            _ => {
                let answer = self.api.read(path, request.uri().query()).await;
                Ok(answer.unwrap_or_else(|| text(StatusCode::NOT_FOUND, NOTHING_HERE)))
            }
        }
    }

    /// Reads everything anew, and answers with the result.
    async fn reload(&self, request: &Request<Incoming>, guard: Guard<'_>) -> Result<Answer, GuardRefusal> {
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

/// The answer while a reload is still in progress; its result will be in `/status`.
fn still_reloading(running: &Running) -> serde_json::Value {
    let parts = running.reloads().parts;
    let ages = PerPart::from_fn(|part| parts.of(part).look_age_seconds);
    serde_json::json!({ "error": "the reload still goes on; see `/status`", "look_age_seconds": ages })
}

/// `true` if an answer takes more than a moment, or much memory. Probes, metrics and the files of the page are answered at
/// any load.
fn needs_turn(path: &str) -> bool {
    path.starts_with("/api/") || matches!(path, "/status" | "/connections" | "/reload")
}

fn busy() -> Answer {
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too much is asked here at once\n");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn read_only() -> Answer {
    not_allowed("GET, HEAD", "only GET is answered here\n")
}

/// The readiness of the sidecar, and the condition of the backend.
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
    match metrics::exposition(running) {
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
/// The address is in use, does not belong to this machine, or is not permitted to this user.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listener::bind(address)
}
