//! The story of a request, top to bottom: who is it, what does it ask, may it, is there room, forward it. The order
//! is a promise (DESIGN §2): each step needs what only the step before it can give.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use crate::admission::{Admitted, Entry, NotAdmitted};
use crate::client_headers::{Sender, StripPatterns};
use crate::connection::{Asked, Connection};
use crate::forward::headers::{self, Said, Wishes};
use crate::forward::{NoAnswer, Outcome};
use crate::handshake::Protocol;
use crate::leash::Order;
use crate::live::Live;
use crate::policy::Question;
use crate::refusal::Refusal;
use crate::reply::{Recording, Reply};
use crate::target::{self, Ambiguity, Target};

/// Answers one request of a connection: the backend's answer, or a documented one of our own.
///
/// # Errors
/// None.
pub async fn answer(
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let mut recording = Recording::start(&connection, &request);
    let hears_early = connection.protocol == Protocol::Http1 && request.version() == Version::HTTP_11;
    let outcome = match admit(&connection, &mut request, &mut recording).await {
        Ok((admitted, own)) => {
            if hears_early {
                hear_early(&connection, &mut request);
            }
            forward(&connection, admitted, request, own, &mut recording).await
        }
        Err(refusal) => {
            let host = target::host(request.version(), request.uri(), request.headers()).ok().flatten();
            recording.asked(request.method(), request.uri(), request.headers(), host);
            connection.leave_unread(request.into_body());
            Err(refusal)
        }
    };
    let mut response = match outcome {
        Ok(Outcome::Answered(response)) => recording.forwarded(response),
        Ok(Outcome::Switched(response, tunnel)) => {
            let (response, ending) = recording.switched(response);
            connection.switch(*tunnel, ending);
            return Ok(response);
        }
        Err(refusal) => recording.refused(&refusal),
    };
    if connection.protocol == Protocol::Http1 && connection.ends_after_this() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Answers what hyper could not parse, and would have answered with that status: as a request whose method and path
/// nobody knows. The connection ends with it.
pub fn answer_unparsed(connection: &Arc<Connection>, status: StatusCode, unparsed: &[u8]) -> Vec<u8> {
    let mut recording = Recording::unparsed(connection);
    let worker = &connection.worker;
    let live = worker.live.load();
    let refusal = match connection.peer.client(&worker.verdicts, &live, recording.time()) {
        Err(unauthenticated) => Refusal::Unauthenticated(unauthenticated),
        Ok(client) => {
            recording.is_of(&client);
            let first_line = unparsed.iter().position(|byte| *byte == b'\n');
            let too_long = first_line.is_none_or(|length| length > live.paths.max_length);
            match status {
                StatusCode::URI_TOO_LONG => Refusal::Ambiguous(Ambiguity::TooLong),
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if too_long => {
                    Refusal::Ambiguous(Ambiguity::TooLong)
                }
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Refusal::HeadersTooLarge,
                _ => Refusal::Ambiguous(Ambiguity::NotHttp),
            }
        }
    };
    recording.framed(&refusal)
}

/// Steps 1 to 5. What comes out can only be forwarded.
async fn admit(
    connection: &Connection,
    request: &mut Request<Incoming>,
    recording: &mut Recording,
) -> Result<(Admitted, Option<StripPatterns>), Refusal> {
    let (entry, own) = enter(connection, request, recording)?;
    let admitted = match entry {
        Entry::Open(admitted) => admitted,
        Entry::Queued(queued) => match while_granted(recording, pin!(queued.turn())).await {
            Some(turn) => turn.map_err(|because| not_admitted(connection, because))?,
            None => return Err(not_permitted(request)),
        },
    };
    Ok((admitted, own))
}

/// Everything up to the queue, by one snapshot and one reading of the clock.
fn enter(
    connection: &Connection,
    request: &mut Request<Incoming>,
    recording: &mut Recording,
) -> Result<(Entry, Option<StripPatterns>), Refusal> {
    let worker = &connection.worker;
    let live = worker.live.load();
    let now = recording.time();

    let client = connection.peer.client(&worker.verdicts, &live, now).map_err(|unauthenticated| {
        // The answer goes out; then the connection ends with the identity that it was opened for.
        if connection.peer.has_fallen() {
            connection.leash.give(Order::WindDown);
        }
        Refusal::Unauthenticated(unauthenticated)
    })?;
    recording.is_of(&client);

    if !live.limits.allow(request) {
        return Err(Refusal::HeadersTooLarge);
    }
    target::check_framing(request.headers()).map_err(|ambiguity| {
        // Where its body ends is not known to everybody alike, so nothing after it is a request.
        connection.leash.give(Order::WindDown);
        Refusal::Ambiguous(ambiguity)
    })?;
    let (target, host) = read(request, live.paths)?;
    let wishes = strip(connection, request, &live);

    let question = Question {
        target: &target,
        host: host.as_deref().into(),
        headers: Some(request.headers()),
        source: connection.peer.address.ip(),
        now,
        upgrade: wishes.upgrade(),
    };
    let verdict = live.policy.authorize(&client.rights, &question);
    recording.judged(&verdict);
    if let Some((since, difference)) = live.difference(client.shadow.as_ref(), &question, &verdict) {
        recording.differs(since, difference, &client, &target);
    }
    let permit = live.mode.permit(verdict, &question).map_err(|_| not_permitted(request))?;

    let switches = permit.upgrade();
    let entry = worker
        .admission
        .admit(permit, &client.allowance, &connection.holding)
        .map_err(|because| not_admitted(connection, because))?;

    let headers = live.policy.depends_on_headers().then(|| request.headers().clone());
    let said = Said {
        identity: &client.headers,
        connection: &connection.headers,
        host: host.as_deref().unwrap_or_else(|| worker.backend.authority()),
        request_id: recording.request_id(),
        trace: recording.onward(),
    };
    headers::set(request, wishes, &said);
    if switches {
        headers::switch(request.headers_mut());
    }
    *request.uri_mut() = target.clone().into_uri();
    recording.asks(Asked {
        target,
        host,
        headers,
        upgrade: switches.then_some(headers::WEBSOCKET),
        source: connection.peer.address.ip(),
    });
    let own = headers::own_of_trailers(request, &live.stripped_of_trailers);
    Ok((entry, own))
}

/// Strips what the client may not say, so that what is judged is what is forwarded.
fn strip(connection: &Connection, request: &mut Request<Incoming>, live: &Live) -> Wishes {
    let address = connection.headers.peer();
    let is_trusted = live.trusted_proxies.iter().any(|network| network.contains(address));
    let sender = if is_trusted { Sender::TrustedProxy } else { Sender::Client };
    headers::strip(request, &live.identity_headers.stripped, sender)
}

/// What is asked, in its one reading.
fn read(
    request: &Request<Incoming>,
    rules: target::TargetRules,
) -> Result<(Target, Option<Box<str>>), Refusal> {
    // A tunnel is never built; its target is no path that a rule could name.
    if request.method() == Method::CONNECT {
        return Err(not_permitted(request));
    }
    let target = Target::parse(request.method(), request.uri(), rules).map_err(Refusal::Ambiguous)?;
    let host =
        target::host(request.version(), request.uri(), request.headers()).map_err(Refusal::Ambiguous)?;
    Ok((target, host.map(Box::from)))
}

fn not_permitted(request: &Request<Incoming>) -> Refusal {
    Refusal::NotPermitted { method: request.method().clone(), path: request.uri().path().to_owned() }
}

/// A connection for which there is no slot ends with the answer that says so.
fn not_admitted(connection: &Connection, because: NotAdmitted) -> Refusal {
    if matches!(because, NotAdmitted::Full | NotAdmitted::ShareTaken) {
        connection.leash.give(Order::WindDown);
    }
    match because {
        NotAdmitted::Full => Refusal::ServerFull,
        NotAdmitted::ShareTaken => Refusal::ShareTaken,
        NotAdmitted::InFlightTaken => Refusal::InFlightTaken,
        NotAdmitted::TooOften(wait) => Refusal::TooOften(wait),
        NotAdmitted::Overloaded(wait) => Refusal::Overloaded(wait),
    }
}

/// Passes interim answers on as they come (RFC 9110 §15.2). Not 100: whether the client waits for leave to send its
/// body is between it and us.
fn hear_early(connection: &Arc<Connection>, request: &mut Request<Incoming>) {
    let connection = Arc::clone(connection);
    hyper::ext::on_informational(request, move |response| {
        if response.status() != StatusCode::CONTINUE {
            let mut told = response.headers().clone();
            headers::strip_connection(&mut told);
            connection.say_early(response.status(), &told);
        }
    });
}

/// Goes on with a request, unless its grant is withdrawn meanwhile: then it is refused as if it came now.
async fn while_granted<T>(
    recording: &Recording,
    mut going_on: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    poll_fn(|cx| match recording.poll_withdrawn(cx) {
        true => Poll::Ready(None),
        false => going_on.as_mut().poll(cx).map(Some),
    })
    .await
}

/// Step 6.
async fn forward(
    connection: &Connection,
    admitted: Admitted,
    request: Request<Incoming>,
    own: Option<StripPatterns>,
    recording: &mut Recording,
) -> Result<Outcome, Refusal> {
    let worker = &connection.worker;
    let (method, path) = (request.method().clone(), request.uri().clone());
    let sending = pin!(worker.backend.send(admitted, request, own));
    let outcome = match while_granted(recording, sending).await {
        Some(Ok((outcome, times))) => {
            worker.counters.asked_backend(None);
            recording.answered(times);
            Ok(outcome)
        }
        Some(Err(NoAnswer::Fault(fault))) => {
            worker.counters.asked_backend(Some(fault));
            Err(Refusal::Backend(fault))
        }
        Some(Err(NoAnswer::Paused(wait))) => Err(Refusal::Paused(wait)),
        // What it still sends would be no request.
        Some(Err(NoAnswer::ClientStalled)) => {
            if connection.protocol == Protocol::Http1 {
                connection.leash.give(Order::WindDown);
            }
            Err(Refusal::Stalled)
        }
        None => Err(Refusal::NotPermitted { method: method.clone(), path: path.path().to_owned() }),
    };
    if outcome.is_err() {
        recording.asked(&method, &path, &HeaderMap::new(), None);
    }
    outcome
}
