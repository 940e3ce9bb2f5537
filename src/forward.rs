//! Forwarding: an admitted request goes to the backend byte for byte, over a connection that nobody else uses
//! meanwhile, and its answer comes back as it is.
//!
//! An HTTP/1.1 connection to the backend is driven by the task of the request that uses it, not by a task of its own: a
//! request costs no hand-over between tasks, and an idle connection costs none at all. An HTTP/2 connection carries
//! many requests, and has its own task.

mod ahead;
mod bell;
mod breaker;
mod delivery;
pub mod discard;
mod exchange;
pub mod headers;
mod health;
mod linger;
mod link;
mod multiplex;
mod pool;
mod socket;
mod tunnel;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::Admitted;
use crate::client_headers::StripPatterns;
use crate::from_files::FromFiles;
use crate::protocol::Protocol;
use crate::refusal::BackendFault;

use ahead::ReadAhead;
pub use ahead::Streams;
pub use breaker::BreakerRules;
pub use delivery::{Collector, deliver};
pub use exchange::{Answer, BrokenOff, Outgoing};
use exchange::{Carrier, Silence, Upload};
pub use health::{Check, Condition, Health, watch};
pub use linger::ClientAbort;
use linger::Work;
use link::{Link, Sent};
use multiplex::{Multiplex, Seat};
use pool::Pool;
pub use socket::{Location, client_config};
use socket::{NoSocket, Socket};
pub use tunnel::{Joined, Tunnel};

/// Where the backend is, what it speaks, and how long it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub location: Location,
    /// Which HTTP it speaks.
    pub protocol: Protocol,
    /// `Host` for requests that name none (HTTP/1.0).
    pub authority: String,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Notice that the backend gets when a client takes its request back.
    pub client_abort: ClientAbort,
    /// When it counts as down.
    pub breaker: BreakerRules,
    /// How it is asked whether it is well, if it is.
    pub check: Option<Check>,
}

/// How long the backend may take, and the client on the way to it.
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

/// The terms of requests to the backend, as the snapshot in force has them.
#[derive(Debug)]
pub struct Terms {
    /// Time that the backend, and the client on the way to it, may take.
    pub timeouts: Timeouts,
    /// Notice that the backend gets when a client takes its request back.
    pub client_abort: ClientAbort,
    /// The client's side of TLS to the backend; `None` if the backend speaks plain HTTP.
    pub tls: Option<FromFiles<ClientConfig>>,
}

impl Terms {
    fn tls_digest(&self) -> Option<[u8; 32]> {
        self.tls.as_ref().map(|tls| tls.digest)
    }
}

/// One worker's way to the backend: its own connections, kept alive between requests.
#[derive(Debug)]
pub struct Backend {
    settings: Settings,
    /// Replaced when the backend is trusted by other certificates: what was made by those before is used to its end, and
    /// not again.
    connections: ArcSwap<Connections>,
    /// What all workers know of it.
    health: Arc<Health>,
    /// Bytes of its answers that wait for clients to read them.
    unread: Arc<ReadAhead>,
}

#[derive(Debug)]
struct Connections {
    kind: Kind,
    /// The digest of the TLS files with which the connections were made ([`FromFiles::digest`]).
    tls: Option<[u8; 32]>,
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
        Self { kind, tls: terms.tls_digest() }
    }

    /// Sends nothing more on shared connections on which requests wait and nothing was answered since then. (One of its
    /// own ends with its exchange.)
    fn leave_silent(&self, since: Instant) {
        if let Kind::Shared(multiplex) = &self.kind {
            multiplex.leave_silent(since);
        }
    }
}

/// What the backend did with a request.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request has the large one, and a box would cost it an allocation"
)]
pub enum Outcome {
    /// It answered.
    Answered(Response<Answer>),
    /// It agreed to switch to the protocol that was asked for.
    Switched(Response<()>, Box<Tunnel>),
}

/// When the backend was asked, and when the headers of its answer were there.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From here on the backend was waited for, and a connection to it where there was none.
    pub asked: Instant,
    /// Up to here.
    pub answered: Instant,
}

/// Why a request has no answer of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// By the backend's fault.
    Fault(BackendFault),
    /// It was not asked: it could not be reached several times in a row. After this time one request tries again.
    Paused(Duration),
    /// The client stopped sending its body.
    ClientStalled,
}

impl From<BackendFault> for NoAnswer {
    fn from(fault: BackendFault) -> Self {
        Self::Fault(fault)
    }
}

impl Backend {
    /// No connection is made before the first request.
    #[must_use]
    pub fn new(settings: Settings, terms: &Terms, health: Arc<Health>) -> Self {
        let connections = ArcSwap::from_pointee(Connections::none_yet(settings.protocol, terms));
        Self { settings, connections, health, unread: Arc::default() }
    }

    /// Sends an admitted request. Only [`Admitted`] opens this door. The guards are held until the backend's work for it has
    /// ended, also where the client is gone before. `own` are names that its trailers may not have beside the listed ones.
    ///
    /// # Errors
    /// What the backend or the client did instead.
    pub async fn send(
        &self,
        terms: &Terms,
        admitted: Admitted,
        mut request: Request<Incoming>,
        own: Option<StripPatterns>,
    ) -> Result<(Outcome, Times), NoAnswer> {
        let asked = Instant::now();
        if let Err(wait) = self.health.pass(asked) {
            discard::in_background(request.into_body());
            return Err(NoAnswer::Paused(wait));
        }
        let may_switch = admitted.permit().upgrade();
        let guards = admitted.into_guards();
        let upload = Upload::of(request.body(), asked);
        let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let request = request.map(|body| Outgoing::new(body, version, upload.clone(), own));
        let (Timeouts { response, body, idle, .. }, abort) = (terms.timeouts, terms.client_abort);
        let work = Work::begin(guards, upload.clone(), asked, (response, abort));
        let mut exchange = pin!(self.answer_of(terms, request, work));
        let mut now = asked;
        loop {
            // Whoever is waited for has its own time, from the last byte that moved.
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
                self.connections.load().leave_silent(moved_last);
                return Err(NoAnswer::Fault(BackendFault::ResponseTimeout));
            }
            // Who is waited for may change meanwhile.
            let look = if other > now && upload.is_some() { ends.min(other) } else { ends };
            let answered = timeout_at(look, &mut exchange).await;
            now = Instant::now();
            if let Ok(answered) = answered {
                let (response, carrier, work) = answered?;
                let silence = Silence::of(idle, upload.clone());
                let outcome = self.hand_back(response, carrier, work, silence, may_switch)?;
                return Ok((outcome, Times { asked, answered: now }));
            }
        }
    }

    /// A stale connection is no fault of the backend: as long as nothing was sent on it, the request goes out on the
    /// next one, in the end on a new one.
    async fn answer_of(
        &self,
        terms: &Terms,
        mut request: Request<Outgoing>,
        mut work: Work,
    ) -> Result<(Response<Incoming>, Carrier, Work), BackendFault> {
        if self.settings.protocol == Protocol::Http2 {
            headers::fit_http2(&mut request, self.settings.location.scheme());
        }
        let connections = self.trusted(terms);
        loop {
            let (sent, is_new) = match &connections.kind {
                Kind::Own(pool) => {
                    headers::frame_unknown_length(&mut request);
                    let (link, is_new) = self.link(terms, pool).await?;
                    let sent = link.send(request, work).await;
                    (sent.map(|link| Carrier::Own(link, Arc::clone(pool))), is_new)
                }
                Kind::Shared(multiplex) => {
                    let (seat, is_new) = self.seat(terms, multiplex).await?;
                    (multiplex::send(seat, request, work).await.map(Carrier::Shared), is_new)
                }
            };
            match sent {
                Sent::Answered(response, carrier, work) => {
                    self.health.reached(&self.settings.location);
                    return Ok((response, carrier, work));
                }
                Sent::Returned(back, held) if !is_new => (request, work) = (back, held),
                Sent::Returned(..) => return Err(BackendFault::Terminated),
                Sent::Failed(fault) => return Err(fault),
            }
        }
    }

    /// A connection that nobody else uses meanwhile. Tells also whether it is a new one.
    async fn link(&self, terms: &Terms, pool: &Pool) -> Result<(Link, bool), BackendFault> {
        match pool.take() {
            Some(link) => Ok((link, false)),
            // On the heap: most requests find a connection, and need not carry what it takes to make one.
            None => Ok((Box::pin(self.connect_alone(terms)).await?, true)),
        }
    }

    async fn connect_alone(&self, terms: &Terms) -> Result<Link, BackendFault> {
        let socket = self.dial(terms).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|_| BackendFault::Terminated)?;
        Ok(Link::new(sender, connection))
    }

    /// A seat on a connection that others use as well. Tells also whether that is a new one.
    async fn seat(&self, terms: &Terms, multiplex: &Multiplex) -> Result<(Seat, bool), BackendFault> {
        match multiplex.take() {
            Some(seat) => Ok((seat, false)),
            None => Box::pin(self.connect_shared(terms, multiplex)).await,
        }
    }

    async fn connect_shared(
        &self,
        terms: &Terms,
        multiplex: &Multiplex,
    ) -> Result<(Seat, bool), BackendFault> {
        let turn = timeout(terms.timeouts.connect, multiplex.turn_to_dial());
        let _turn = turn.await.map_err(|_| BackendFault::ConnectTimeout)?;
        match multiplex.take() {
            Some(seat) => Ok((seat, false)),
            None => Ok((multiplex.open(self.dial(terms).await?).await?, true)),
        }
    }

    /// A socket, TLS included; whether there is one is noted for all workers.
    async fn dial(&self, terms: &Terms) -> Result<Socket, BackendFault> {
        let location = &self.settings.location;
        let tls = terms.tls.as_ref().map(|tls| &tls.value);
        let dialed = timeout(terms.timeouts.connect, location.dial(tls)).await;
        let dialed = dialed.unwrap_or_else(|_| {
            Err(NoSocket { fault: BackendFault::ConnectTimeout, error: io::ErrorKind::TimedOut.into() })
        });
        match &dialed {
            Ok(_) => self.health.connected(location),
            Err(NoSocket { error, .. }) => self.health.not_connected(location, error),
        }
        dialed.map_err(|no_socket| no_socket.fault)
    }

    /// `Host` for a request that named none.
    pub fn authority(&self) -> &str {
        &self.settings.authority
    }

    /// Drops connections that have been idle for too long or were closed by the backend; to be called now and then.
    pub fn sweep(&self, terms: &Terms) {
        match &self.trusted(terms).kind {
            Kind::Own(pool) => pool.sweep(),
            Kind::Shared(multiplex) => multiplex.sweep(),
        }
    }

    /// The connections, none of which was made by other certificates than those of now.
    fn trusted(&self, terms: &Terms) -> Arc<Connections> {
        let connections = self.connections.load_full();
        if connections.tls.is_none() {
            return connections;
        }
        if connections.tls == terms.tls_digest() {
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
        carrier: Carrier,
        work: Work,
        silence: Silence,
        may_switch: bool,
    ) -> Result<Outcome, BackendFault> {
        let (mut parts, body) = response.into_parts();
        parts.version = http::Version::HTTP_11;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            // What follows is no HTTP; nobody may have it who did not ask for it (DESIGN §5).
            if !may_switch || !headers::agrees_to_switch(&parts.headers) {
                return Err(BackendFault::NotHttp);
            }
            let Carrier::Own(link, _) = carrier else { return Err(BackendFault::NotHttp) };
            let (socket, said) = link.into_socket().ok_or(BackendFault::NotHttp)?;
            headers::strip_connection(&mut parts.headers);
            headers::switch(&mut parts.headers);
            let tunnel = Box::new(Tunnel::new(socket, said, work));
            return Ok(Outcome::Switched(Response::from_parts(parts, ()), tunnel));
        }
        headers::strip_connection(&mut parts.headers);
        Ok(Outcome::Answered(Response::from_parts(
            parts,
            Answer::new(body, carrier, silence, work, Arc::clone(&self.unread)),
        )))
    }
}
