//! Forwarding: an admitted request goes to the backend byte for byte, and its answer comes back as it is.
//!
//! An HTTP/1.1 connection to the backend carries one exchange at a time and is driven by the task of that request: a request
//! costs no hand-over between tasks, and an idle connection has no task. An HTTP/2 connection carries many exchanges and has
//! a task of its own.

mod abandoned;
mod breaker;
mod delivery;
pub mod discard;
mod exchange;
mod framing;
pub mod headers;
mod health;
mod link;
mod multiplex;
mod pool;
mod read_ahead;
mod recorder;
mod response_flaw;
mod socket;
mod task_waker;
mod tunnel;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::Admitted;
use crate::client_headers::StripPatterns;
use crate::from_files::FromFiles;
use crate::policy::{Permit, TimeLimit};
use crate::protocol::Protocol;
use crate::refusal::{BackendFault, ResponseFlaw};

pub use abandoned::ClientAbort;
use abandoned::{Alone, Work};
pub use breaker::BreakerRules;
pub use delivery::{Collector, deliver};
use discard::Discard;
pub use exchange::{Answer, BrokenOff, Outgoing};
use exchange::{Carrier, Silence, Upload};
use framing::Afterwards;
pub use framing::{AnswerLimits, strip_framing};
pub use health::{Check, Condition, Health, watch};
use link::{Link, SendOutcome};
use multiplex::{Multiplex, OpenStream};
use pool::Pool;
use read_ahead::ReadAhead;
pub use read_ahead::Streams;
pub use socket::{Location, client_config};
use socket::{NoSocket, Socket};
pub use tunnel::{JoinedStreams, Tunnel};

/// The backend: its location, its protocol, its time limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address.
    pub location: Location,
    /// The version of HTTP that the backend speaks.
    pub protocol: Protocol,
    /// The `Host` of requests that name none (HTTP/1.0).
    pub authority: String,
    /// The rules by which the backend counts as down.
    pub breaker: BreakerRules,
    /// The health check, if one is configured.
    pub check: Option<Check>,
}

/// Time limits of exchanges with the backend.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Time to make a connection, TLS included.
    pub connect: Duration,
    /// Time from the request's headers, or the last of its body, to the response's headers.
    pub response: Duration,
    /// Time for which a client may send nothing of a body.
    pub body: Duration,
    /// Time for which the backend may say nothing in the middle of an answer.
    pub idle: Duration,
}

/// No time limit: a time that no exchange lives to see, and that can still be added to an instant.
pub(crate) const UNLIMITED: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the time limit that holds for an exchange: that of its route, or that of the configuration.
pub(crate) fn time_limit(of_route: Option<TimeLimit>, configured: Duration) -> Duration {
    of_route.map_or(configured, |limit| limit.time().unwrap_or(UNLIMITED))
}

/// The terms of requests to the backend, as the snapshot in force has them.
#[derive(Debug)]
pub struct Terms {
    /// Time that the backend, and the client on the way to it, may take.
    pub timeouts: Timeouts,
    /// Notice that the backend gets when a client takes its request back.
    pub client_abort: ClientAbort,
    /// Bounds on the headers of answers.
    pub answers: AnswerLimits,
    /// Longest time that a connection may be idle.
    pub keep_idle: Duration,
    /// The part of an upload that may still come after an early answer.
    pub discard: Discard,
    /// The client's side of TLS to the backend; `None` if the backend speaks plain HTTP.
    pub tls: Option<FromFiles<ClientConfig>>,
}

impl Terms {
    fn basis(&self) -> Basis {
        Basis {
            tls: self.tls.as_ref().map(|tls| tls.digest),
            answers: self.answers,
            keep_idle: self.keep_idle,
        }
    }
}

/// One worker's connections to the backend, kept alive between requests.
#[derive(Debug)]
pub struct Backend {
    settings: Settings,
    /// The connections. They are replaced when their basis changes: connections with an earlier basis finish their exchanges
    /// and are not used again.
    connections: ArcSwap<Connections>,
    /// The backend's health, as all workers know it.
    health: Arc<Health>,
    /// Bytes of answers that were read ahead and wait for their clients.
    unread: Arc<ReadAhead>,
}

#[derive(Debug)]
struct Connections {
    kind: Kind,
    basis: Basis,
}

/// The part of the terms that a connection keeps for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Basis {
    /// The digest of the TLS files ([`FromFiles::digest`]).
    tls: Option<[u8; 32]>,
    answers: AnswerLimits,
    keep_idle: Duration,
}

#[derive(Debug)]
enum Kind {
    Own(Arc<Pool>),
    Shared(Multiplex),
}

impl Connections {
    fn none_yet(protocol: Protocol, terms: &Terms) -> Self {
        let kind = match protocol {
            Protocol::Http1 => Kind::Own(Arc::default()),
            Protocol::Http2 => Kind::Shared(Multiplex::default()),
        };
        Self { kind, basis: terms.basis() }
    }

    /// Sends nothing more on shared connections on which requests wait and nothing was answered since that instant. (A
    /// connection of HTTP/1.1 ends with its exchange.)
    fn retire_silent(&self, since: Instant) {
        if let Kind::Shared(multiplex) = &self.kind {
            multiplex.retire_silent(since);
        }
    }
}

/// The backend's response to a request.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request has the large one, and a box would cost it an allocation"
)]
pub enum Outcome {
    /// An answer.
    Answered(Response<Answer>),
    /// An agreement to switch to the requested protocol.
    Switched(Response<()>, Box<Tunnel>),
}

/// The instants of an exchange with the backend.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The start of the exchange, including the time to make a connection if there was none.
    pub asked: Instant,
    /// The arrival of the answer's headers.
    pub answered: Instant,
}

/// The reason why a request has no answer of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// A fault of the backend.
    Fault(BackendFault),
    /// The request was not sent, because the backend could not be reached several times in a row. After this time one request
    /// tries again.
    Paused(Duration),
    /// The client stopped sending its body.
    ClientStalled,
    /// The client left in the middle of its body. The backend may work on the part that it has received.
    ClientLeft,
    /// The client's body is not framed as its headers announce.
    MalformedBody,
}

impl From<BackendFault> for NoAnswer {
    fn from(fault: BackendFault) -> Self {
        Self::Fault(fault)
    }
}

impl Backend {
    /// Returns a backend without connections. The first request makes one.
    #[must_use]
    pub fn new(settings: Settings, terms: &Terms, health: Arc<Health>) -> Self {
        let connections = ArcSwap::from_pointee(Connections::none_yet(settings.protocol, terms));
        Self { settings, connections, health, unread: Arc::default() }
    }

    /// Sends an admitted request. The guards of `admitted` are held until the backend's work for the request has ended, even
    /// if the client has left before. `own` are names that the trailers may not have, beside the listed ones.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub async fn send(
        &self,
        terms: &Terms,
        admitted: Admitted,
        mut request: Request<Incoming>,
        own: Option<StripPatterns>,
    ) -> Result<(Outcome, Times), NoAnswer> {
        let asked = Instant::now();
        if let Err(wait) = self.health.pass(asked) {
            terms.discard.in_background(request.into_body());
            return Err(NoAnswer::Paused(wait));
        }
        let permit = *admitted.permit();
        let guards = admitted.into_guards();
        let upload = Upload::of(request.body(), asked);
        let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let request = request.map(|body| Outgoing::new(body, version, upload.clone(), own, terms.discard));
        let (Timeouts { body, .. }, own) = (terms.timeouts, permit.timeouts());
        let response = time_limit(own.response, terms.timeouts.response);
        let idle = time_limit(own.idle, terms.timeouts.idle);
        // A client that has left does not wait without a limit.
        let alone =
            if response == UNLIMITED { Alone::For(terms.timeouts.response) } else { Alone::Until(response) };
        let work = Work::begin(guards, upload.clone(), asked, (alone, terms.client_abort));
        let mut exchange = pin!(self.answer_of(terms, request, work, asked));
        let mut now = asked;
        loop {
            // The side that is waited for, client or backend, has its own time limit, from the last byte that moved.
            let (waits_for_client, moved_last) = match &upload {
                Some(upload) => (upload.waits_for_client(), upload.moved_last()),
                None => (false, asked),
            };
            let (ends, other) = match waits_for_client {
                true => (moved_last + body, moved_last + response),
                false => (moved_last + response, moved_last + body),
            };
            if ends <= now {
                if waits_for_client {
                    return Err(NoAnswer::ClientStalled);
                }
                self.connections.load().retire_silent(moved_last);
                return Err(NoAnswer::Fault(BackendFault::ResponseTimeout));
            }
            // The other side may be waited for meanwhile.
            let look = if other > now && upload.is_some() { ends.min(other) } else { ends };
            let answered = timeout_at(look, &mut exchange).await;
            now = Instant::now();
            if let Ok(answered) = answered {
                let silence = || Silence::of(idle, upload.clone());
                let outcome = answered.and_then(|(response, carrier, work)| {
                    Ok(self.hand_back(response, carrier, work, silence(), permit)?)
                });
                if let Err(NoAnswer::Fault(BackendFault::NotHttp(flaw))) = &outcome {
                    self.health.answered_badly(&self.settings.location, *flaw);
                }
                return Ok((outcome?, Times { asked, answered: now }));
            }
        }
    }

    /// Sends a request until a connection takes it. A stale connection is no fault of the backend: as long as nothing was
    /// sent on it, the request goes out on the next one, in the end on a new one. An idempotent request without a body that
    /// was lost with a kept connection is sent once more, on a new one.
    async fn answer_of(
        &self,
        terms: &Terms,
        mut request: Request<Outgoing>,
        mut work: Work,
        now: Instant,
    ) -> Result<(Response<Incoming>, Carrier, Work), NoAnswer> {
        if self.settings.protocol == Protocol::Http2 {
            headers::fit_http2(&mut request, self.settings.location.scheme());
        }
        let connections = self.trusted(terms);
        let mut lost: Option<Instant> = None;
        loop {
            let (sent, is_new) = match &connections.kind {
                Kind::Own(pool) => {
                    headers::frame_unknown_length(&mut request);
                    let (link, is_new) = self.link(terms, pool, lost.is_none().then_some(now)).await?;
                    let sent = link.send(request, work).await;
                    (sent.map(|link| Carrier::Own(link, Arc::clone(pool))), is_new)
                }
                Kind::Shared(multiplex) => {
                    let (stream, is_new) = self.stream(terms, multiplex, lost).await?;
                    (multiplex::send(stream, request, work, !is_new).await.map(Carrier::Shared), is_new)
                }
            };
            match sent {
                SendOutcome::Answered(mut response, mut carrier, work) => {
                    self.health.reached(&self.settings.location);
                    let afterwards = framing::make_anew(&mut response, &terms.answers);
                    if afterwards.map_err(BackendFault::NotHttp)? == Afterwards::Closes {
                        carrier.close_afterwards();
                    }
                    return Ok((response, carrier, work));
                }
                SendOutcome::Returned(back, held) if !is_new => (request, work) = (back, held),
                SendOutcome::Lost(back, held) if !is_new && lost.is_none() => {
                    lost = Some(Instant::now());
                    (request, work) = (back, held);
                }
                SendOutcome::Returned(..) | SendOutcome::Lost(..) => {
                    return Err(BackendFault::Terminated.into());
                }
                SendOutcome::Failed(no_answer) => return Err(no_answer),
            }
        }
    }

    /// Takes a connection of HTTP/1.1 that is kept at this instant, or makes one. The second value is `true` if the connection is
    /// new.
    async fn link(
        &self,
        terms: &Terms,
        pool: &Pool,
        now: Option<Instant>,
    ) -> Result<(Link, bool), BackendFault> {
        match now.and_then(|now| pool.take(now)) {
            Some(link) => Ok((link, false)),
            // The future is on the heap: most requests find a connection, and need not carry the memory to make one.
            None => Ok((Box::pin(self.connect_alone(terms)).await?, true)),
        }
    }

    async fn connect_alone(&self, terms: &Terms) -> Result<Link, BackendFault> {
        let socket = self.dial(terms).await?;
        Link::open(socket, terms.answers, terms.keep_idle).await.map_err(|_| BackendFault::Terminated)
    }

    /// Opens a stream on a connection of HTTP/2, or on a new one. The second value is `true` if the connection is new. `since` is
    /// the instant before which a connection must not have been opened.
    async fn stream(
        &self,
        terms: &Terms,
        multiplex: &Multiplex,
        since: Option<Instant>,
    ) -> Result<(OpenStream, bool), BackendFault> {
        match multiplex.take(since) {
            Some(stream) => Ok((stream, false)),
            None => Box::pin(self.connect_shared(terms, multiplex, since)).await,
        }
    }

    async fn connect_shared(
        &self,
        terms: &Terms,
        multiplex: &Multiplex,
        since: Option<Instant>,
    ) -> Result<(OpenStream, bool), BackendFault> {
        let turn = timeout(terms.timeouts.connect, multiplex.turn_to_dial());
        let _turn = turn.await.map_err(|_| BackendFault::ConnectTimeout)?;
        match multiplex.take(since) {
            Some(stream) => Ok((stream, false)),
            None => Ok((multiplex.open(self.dial(terms).await?, &terms.answers).await?, true)),
        }
    }

    /// Makes a socket, TLS included, and notes the result for all workers.
    async fn dial(&self, terms: &Terms) -> Result<Socket, BackendFault> {
        let location = &self.settings.location;
        let tls = terms.tls.as_ref().map(|tls| &tls.value);
        let dialed = timeout(terms.timeouts.connect, location.dial(tls)).await;
        let dialed = dialed.unwrap_or_else(|_| {
            Err(NoSocket { fault: BackendFault::ConnectTimeout, error: io::ErrorKind::TimedOut.into() })
        });
        match &dialed {
            Ok(_) => self.health.connected(location),
            Err(NoSocket { fault: BackendFault::OwnResources, error }) => {
                self.health.no_resources(location, error)
            }
            Err(NoSocket { error, .. }) => self.health.not_connected(location, error),
        }
        dialed.map_err(|no_socket| no_socket.fault)
    }

    /// `Host` for a request that named none.
    pub fn authority(&self) -> &str {
        &self.settings.authority
    }

    /// Drops connections that have been idle for too long or were closed by the backend; to be called at regular intervals.
    pub fn sweep(&self, terms: &Terms) {
        match &self.trusted(terms).kind {
            Kind::Own(pool) => pool.sweep(),
            Kind::Shared(multiplex) => multiplex.sweep(terms.keep_idle),
        }
    }

    /// The connections, all made with the TLS files and the limits in force.
    fn trusted(&self, terms: &Terms) -> Arc<Connections> {
        let connections = self.connections.load_full();
        if connections.basis == terms.basis() {
            return connections;
        }
        let anew = Arc::new(Connections::none_yet(self.settings.protocol, terms));
        self.connections.store(Arc::clone(&anew));
        anew
    }

    /// Connections waiting for their next request.
    pub fn idle_connections(&self) -> usize {
        match &self.connections.load().kind {
            Kind::Own(pool) => pool.len(),
            Kind::Shared(multiplex) => multiplex.idle(),
        }
    }

    /// Makes the backend's response one of ours: without what belongs to the connection it came over.
    fn hand_back(
        &self,
        response: Response<Incoming>,
        mut carrier: Carrier,
        work: Work,
        silence: Silence,
        permit: Permit,
    ) -> Result<Outcome, BackendFault> {
        let (mut parts, body) = response.into_parts();
        parts.version = http::Version::HTTP_11;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            // The bytes that follow are not HTTP; a client that did not ask for them must not get them (DESIGN §5).
            let unasked = BackendFault::NotHttp(ResponseFlaw::UnaskedSwitch);
            if !permit.allows_upgrade() || !headers::agrees_to_switch(&parts.headers) {
                return Err(unasked);
            }
            let Carrier::Own(link, _) = carrier else { return Err(unasked) };
            let (socket, said) = link.into_socket().ok_or(unasked)?;
            headers::strip_connection(&mut parts.headers);
            headers::switch(&mut parts.headers);
            let tunnel = Box::new(Tunnel::new(socket, said, work, permit.timeouts().idle));
            return Ok(Outcome::Switched(Response::from_parts(parts, ()), tunnel));
        }
        if let Some(keep_alive) = headers::strip_connection(&mut parts.headers) {
            carrier.note_keep_alive(&keep_alive);
        }
        let mut answer = Answer::new(body, carrier, silence, work, Arc::clone(&self.unread));
        answer.look_at_first_part().map_err(BackendFault::NotHttp)?;
        Ok(Outcome::Answered(Response::from_parts(parts, answer)))
    }
}
