//! The backend's health, shared by all workers: whether the backend can be reached, which every request shows, and the result
//! of its health check, if one is configured.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::breaker::{Breaker, Turn};
use super::{Backend, BreakerRules, Location, Settings, Socket, Terms, link, multiplex};
use crate::atomic_instant::AtomicInstant;
use crate::protocol::Protocol;
use crate::refusal::ResponseFlaw;

/// The health check of the backend (`backend.health`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The target of the GET request.
    pub path: PathAndQuery,
    /// The interval of the checks, and the time limit of each.
    pub interval: Duration,
}

/// The backend's health.
#[derive(Debug)]
pub struct Health {
    breaker: Breaker,
    /// A connection was tried at least once.
    tried: AtomicBool,
    /// The result of the last check.
    checked: AtomicU8,
    is_checked: bool,
    start: Instant,
    /// The last log line about an answer that is not HTTP, and about resources that this process lacks.
    bad_answer_logged: AtomicInstant,
    no_resources_logged: AtomicInstant,
}

/// The condition of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No connection was tried yet.
    Untried,
    /// The backend can be reached, and its health check, if any, succeeds.
    Up,
    /// The last connection could not be made.
    Failing,
    /// Many connections in a row could not be made, and requests are kept back.
    Down,
    /// The backend can be reached, and its health check fails.
    Unwell,
}

/// Least time between two log lines of one kind about exchanges that failed.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Results of the health check: none yet, success, failure.
const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

impl Condition {
    /// All conditions.
    pub const ALL: [Self; 5] = [Self::Untried, Self::Up, Self::Failing, Self::Down, Self::Unwell];

    /// The name in metrics and on the page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untried => "untried",
            Self::Up => "up",
            Self::Failing => "failing",
            Self::Down => "down",
            Self::Unwell => "unwell",
        }
    }
}

impl serde::Serialize for Condition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Health {
    /// Returns the health of a backend that was not tried yet.
    #[must_use]
    pub fn new(rules: BreakerRules, check: Option<&Check>) -> Self {
        Self {
            breaker: Breaker::new(rules, Instant::now()),
            tried: AtomicBool::new(false),
            checked: AtomicU8::new(UNKNOWN),
            is_checked: check.is_some(),
            start: Instant::now(),
            bad_answer_logged: AtomicInstant::unset(),
            no_resources_logged: AtomicInstant::unset(),
        }
    }

    /// The condition of the backend.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let checked = self.checked.load(Ordering::Relaxed);
        if self.breaker.is_open() {
            Condition::Down
        } else if self.breaker.is_failing() {
            Condition::Failing
        } else if checked == NO {
            Condition::Unwell
        } else if !self.tried.load(Ordering::Relaxed) || (self.is_checked && checked == UNKNOWN) {
            Condition::Untried
        } else {
            Condition::Up
        }
    }

    /// `true` if clients are to be sent here, as far as the backend is concerned. A backend that was not tried yet counts as
    /// serving, unless a health check is going to try it.
    #[must_use]
    pub fn serves(&self) -> bool {
        match self.condition() {
            Condition::Up | Condition::Failing => true,
            Condition::Untried => !self.is_checked,
            Condition::Down | Condition::Unwell => false,
        }
    }

    /// Number of times that requests began to be kept back.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.breaker.openings()
    }

    pub(super) fn pass(&self, now: Instant) -> Result<(), Duration> {
        self.breaker.pass(now)
    }

    /// Notes that a connection was made, or a request answered.
    pub(super) fn reached(&self, backend: &Location) {
        if self.breaker.succeeded() == Turn::Recovers {
            tracing::info!(%backend, "the backend can be reached again");
        }
    }

    /// Notes that a connection was made.
    pub(super) fn connected(&self, backend: &Location) {
        self.tried.store(true, Ordering::Relaxed);
        self.reached(backend);
    }

    /// Notes that a connection could not be made. The log says so once, and once more when requests begin to be kept back.
    pub(super) fn not_connected(&self, backend: &Location, error: &io::Error) {
        self.tried.store(true, Ordering::Relaxed);
        match self.breaker.failed(Instant::now()) {
            Turn::Fails => tracing::warn!(%backend, %error, "cannot connect to the backend"),
            Turn::Opens => {
                tracing::warn!(%backend, %error, "cannot connect to the backend; requests are answered 504 until it can be reached");
            }
            Turn::None | Turn::Recovers => {}
        }
    }

    /// Notes that an answer was not HTTP. The log says so at most once in a while; each audit record has the cause.
    pub(super) fn answered_badly(&self, backend: &Location, flaw: ResponseFlaw) {
        if self.is_due(&self.bad_answer_logged) {
            tracing::warn!(%backend, cause = flaw.name(), "the backend gave an answer that is not HTTP");
        }
    }

    /// Notes that no connection could be tried, because this process lacks resources. That says nothing of the backend.
    pub(super) fn no_resources(&self, backend: &Location, error: &io::Error) {
        if self.is_due(&self.no_resources_logged) {
            tracing::error!(%backend, %error, "this process has no resources for a connection to the backend");
        }
    }

    /// Returns `true`, and notes the time, if the last log line of a kind was long enough ago.
    fn is_due(&self, logged: &AtomicInstant) -> bool {
        let is_due = logged.get(self.start).is_none_or(|last| last.elapsed() >= LOG_EVERY);
        if is_due {
            logged.set_now(self.start);
        }
        is_due
    }

    fn checked(&self, backend: &Location, answer: Result<StatusCode, String>) {
        let is_well = answer.as_ref().is_ok_and(|status| status.is_success() || status.is_redirection());
        let before = self.checked.swap(if is_well { YES } else { NO }, Ordering::Relaxed);
        match answer {
            Ok(status) if is_well && before == NO => {
                tracing::info!(%backend, %status, "the backend is well again")
            }
            Ok(status) if !is_well && before != NO => {
                tracing::warn!(%backend, %status, "the backend does not answer its health check as one that is well");
            }
            Err(error) if before != NO => {
                tracing::warn!(%backend, error, "the backend does not answer its health check");
            }
            _ => {}
        }
    }
}

/// Checks the backend at regular intervals, each time on a connection of its own. If the backend can be reached again,
/// requests get through at once.
pub async fn watch(backend: Backend, check: Check, terms: impl Fn() -> Arc<Terms>) -> Infallible {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = timeout(check.interval, ask(&backend, &terms(), &check.path)).await;
        let answer = answer.unwrap_or_else(|_| Err("it took too long".to_owned()));
        backend.health.checked(&backend.settings.location, answer);
    }
}

async fn ask(backend: &Backend, terms: &Terms, path: &PathAndQuery) -> Result<StatusCode, String> {
    let socket = backend.dial(terms).await.map_err(|fault| format!("{fault:?}"))?;
    let status = match backend.settings.protocol {
        Protocol::Http1 => ask_http1(backend, terms, socket, path).await,
        Protocol::Http2 => ask_http2(backend, terms, socket, path).await,
    };
    status.map_err(|error| error.to_string())
}

async fn ask_http1(
    backend: &Backend,
    terms: &Terms,
    socket: Socket,
    path: &PathAndQuery,
) -> hyper::Result<StatusCode> {
    let (mut sender, connection) = link::client(&terms.answers).handshake(TokioIo::new(socket)).await?;
    let request = question(Uri::from(path.clone()), Some(&backend.settings.authority));
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer?.status()),
        // The connection ends before the answer only by an error, which the answer carries as well.
        Err(error) = connection => Err(error),
    }
}

async fn ask_http2(
    backend: &Backend,
    terms: &Terms,
    socket: Socket,
    path: &PathAndQuery,
) -> hyper::Result<StatusCode> {
    let handshake = multiplex::client(&terms.answers).handshake(TokioIo::new(socket));
    let (mut sender, connection) = handshake.await?;
    let Settings { location, authority, .. } = &backend.settings;
    let uri =
        Uri::builder().scheme(location.scheme()).authority(authority.as_str()).path_and_query(path.clone());
    let request = question(uri.build().unwrap_or_default(), None);
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer?.status()),
        Err(error) = connection => Err(error),
    }
}

fn question(uri: Uri, host: Option<&str>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.extend(host.and_then(|host| Some((header::HOST, host.parse().ok()?))));
    headers.insert(
        header::USER_AGENT,
        header::HeaderValue::from_static(concat!("sidegate/", env!("CARGO_PKG_VERSION"))),
    );
    request
}
