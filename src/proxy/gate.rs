//! The course of one request, top to bottom: identify the client, read the request, permit it, admit it, prepare it, forward
//! it. The order is a promise (DESIGN §2), and each step needs what only the step before it can give.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use jiff::Timestamp;

use crate::admission::{Admitted, Entry, NotAdmitted};
use crate::client_headers::{Sender, StripPatterns};
use crate::forward::headers::{self, HopByHopWishes, OwnHeaders};
use crate::forward::{NoAnswer, Outcome, Tunnel, strip_framing};
use crate::live::Live;
use crate::policy::{Denied, Permit, Question, Upgrade};
use crate::protocol::Protocol;
use crate::proxy::client::Client;
use crate::proxy::reply::{Ending, Recording, Reply};
use crate::proxy::session::{ForwardedRequest, Session};
use crate::refusal::{BackendFault, Refusal};
use crate::target::{self, Ambiguity, Target};
use crate::telemetry::{BackendResult, Counters};

/// The gate's decision about one request: the response, and what becomes of the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The backend's response, or a documented one of Sidegate's own.
    pub response: Response<Reply>,
    /// The fate of the connection after the response.
    pub then: Then,
}

/// The fate of a connection after a response.
#[derive(Debug)]
pub(crate) enum Then {
    /// Further requests are welcome.
    KeepAlive,
    /// The body of the request was not read. HTTP/2 discards the rest of it and goes on; HTTP/1.1 discards it and closes the
    /// connection after the answer.
    Drain(Incoming),
    /// The connection ends with this response. A body was not read, or has nothing left.
    Close(Option<Incoming>),
    /// Both sides have agreed to another protocol.
    Switch(Box<Tunnel>, Ending),
}

/// Answers one request of a connection.
pub(crate) async fn answer(session: &Arc<Session>, mut request: Request<Incoming>) -> Answer {
    let mut recording = Recording::start(session, &request);
    let (outcome, unread) = match admit(session, &mut request, &mut recording).await {
        Ok(ready) => {
            pass_interim_answers(session, &mut request);
            (forward(session, ready, request, &mut recording).await, None)
        }
        Err(refusal) => {
            let host = target::host(request.version(), request.uri(), request.headers()).ok().flatten();
            recording.record_refused(request.method(), request.uri(), request.headers(), host);
            (Err(NotForwarded::Refused(refusal)), Some(request.into_body()))
        }
    };
    match outcome {
        Ok(Outcome::Answered(response)) => {
            Answer { response: recording.forwarded(response), then: Then::KeepAlive }
        }
        Ok(Outcome::Switched(response, tunnel)) => {
            let (response, ending) = recording.switched(response);
            Answer { response, then: Then::Switch(tunnel, ending) }
        }
        Err(NotForwarded::Refused(refusal)) => {
            let then = after_refusal(&refusal, session, recording.time(), unread);
            Answer { response: recording.refused(&refusal), then }
        }
        Err(NotForwarded::ClientLeft) => {
            Answer { response: recording.left(&Refusal::CutShort), then: Then::Close(None) }
        }
    }
}

/// The reason why a request has no answer of the backend.
enum NotForwarded {
    /// Sidegate answers it.
    Refused(Refusal),
    /// The client left in the middle of its request.
    ClientLeft,
}

/// Decides the fate of a connection after a refusal.
fn after_refusal(refusal: &Refusal, session: &Session, now: Timestamp, unread: Option<Incoming>) -> Then {
    let closes = match refusal {
        // The connection ends with the identity for which it was opened, and with a verdict that is out of date and cannot be
        // reached again here: no refusal outlives its cause.
        Refusal::Unauthenticated(_) => {
            session.peer.has_lapsed() || session.peer.is_outdated(&session.services.live.load(), now)
        }
        // Another parser may disagree about where this body ends. The connection is closed, so that what follows is never
        // parsed as a request (request smuggling).
        Refusal::Ambiguous(ambiguity) => {
            matches!(ambiguity, Ambiguity::InvalidFraming | Ambiguity::BrokenBody)
        }
        // A connection that got no slot gives its place in the lobby back.
        Refusal::ServerFull | Refusal::ShareTaken => true,
        // Bytes that a stalled client sends later belong to its body, and would be parsed as a request.
        Refusal::Stalled => session.protocol == Protocol::Http1,
        _ => false,
    };
    match unread {
        body if closes => Then::Close(body),
        Some(body) => Then::Drain(body),
        None => Then::KeepAlive,
    }
}

/// Returns the answer to bytes that hyper could not parse, in place of hyper's own with that status. The connection ends with
/// it.
pub(crate) fn answer_unparsed(session: &Arc<Session>, status: StatusCode, unparsed: &[u8]) -> Vec<u8> {
    let mut recording = Recording::unparsed(session);
    let live = session.services.live.load();
    let refusal = match identify(session, &live, &mut recording) {
        Err(refusal) => refusal,
        Ok(_) => {
            let first_line = unparsed.iter().position(|byte| *byte == b'\n');
            let is_target_too_long = first_line.is_none_or(|length| length > live.paths.max_length);
            match status {
                StatusCode::URI_TOO_LONG => Refusal::Ambiguous(Ambiguity::TooLong),
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if is_target_too_long => {
                    Refusal::Ambiguous(Ambiguity::TooLong)
                }
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Refusal::HeadersTooLarge,
                _ => Refusal::Ambiguous(Ambiguity::NotHttp),
            }
        }
    };
    recording.framed(&refusal)
}

/// Returns the answer to a request whose headers are far larger than the limit, so that HTTP/2 did not hand it over.
pub(crate) fn answer_oversized(session: &Arc<Session>) -> Response<Bytes> {
    let mut recording = Recording::unparsed(session);
    let identified = identify(session, &session.services.live.load(), &mut recording);
    recording.whole(&identified.map_or_else(|refusal| refusal, |_| Refusal::HeadersTooLarge))
}

/// A request that can only be forwarded.
struct Ready {
    admitted: Admitted,
    /// Names that the trailers may not have, beside the listed ones.
    stripped_trailers: Option<StripPatterns>,
}

/// Steps 1 to 5: judges the request and takes its slot, then waits for a place in flight.
async fn admit(
    session: &Session,
    request: &mut Request<Incoming>,
    recording: &mut Recording,
) -> Result<Ready, Refusal> {
    let (entry, stripped_trailers) = match judge(session, request, recording) {
        // Step 1 has changed nothing of the request, so the request can be judged once more.
        Err(Refusal::Unauthenticated(_)) if judge_aside(session, recording.time()).await => {
            judge(session, request, recording)?
        }
        judged => judged?,
    };
    let admitted = match entry {
        Entry::Open(admitted) => admitted,
        Entry::Queued(queued) => match while_granted(recording, pin!(queued.turn())).await {
            Some(turn) => turn.map_err(not_admitted)?,
            None => return Err(not_permitted(request.method(), request.uri())),
        },
    };
    Ok(Ready { admitted, stripped_trailers })
}

/// Judges a client again whose verdict is out of date, if the judgement takes too long for the worker's own thread.
async fn judge_aside(session: &Session, now: Timestamp) -> bool {
    let is_outdated = session.peer.is_outdated(&session.services.live.load(), now);
    // The future is on the heap, because nearly no request needs it.
    is_outdated && Box::pin(session.judge_aside(now)).await
}

/// Steps 1 to 5 but for the wait: all under one snapshot and at one instant.
fn judge(
    session: &Session,
    request: &mut Request<Incoming>,
    recording: &mut Recording,
) -> Result<(Entry, Option<StripPatterns>), Refusal> {
    let live = session.services.live.load();
    let client = identify(session, &live, recording)?;
    let (target, host) = read(request, &live)?;
    let wishes = strip(session, request, &live);
    let question = Question {
        target: &target,
        host: host.as_deref().into(),
        headers: Some(request.headers()),
        source: session.peer.address.ip(),
        now: recording.time(),
        upgrade: wishes.upgrade(),
    };
    let permit = permit(&live, &client, &question, recording)
        .map_err(|_| not_permitted(request.method(), request.uri()))?;
    let switches = permit.allows_upgrade();
    let admission = &session.services.admission;
    let entry = admission.admit(permit, &client.allowance, &session.holding).map_err(not_admitted)?;
    let forwarded = ForwardedRequest {
        target,
        host,
        headers: live.policy.depends_on_headers().then(|| request.headers().clone()),
        upgrade: switches.then_some(Upgrade::WebSocket),
        source: session.peer.address.ip(),
    };
    prepare(session, request, &client, wishes, &forwarded, recording);
    recording.register_forwarded(forwarded);
    Ok((entry, headers::own_of_trailers(request, &live.stripped_of_trailers)))
}

/// Step 1: the client, authenticated at this instant.
fn identify(session: &Session, live: &Live, recording: &mut Recording) -> Result<Arc<Client>, Refusal> {
    let client = session.client(live, recording.time());
    let client = client.inspect_err(|because| recording.set_unauthenticated(because));
    let client = client.map_err(Refusal::Unauthenticated)?;
    recording.set_client(&client);
    Ok(client)
}

/// Step 2: what the request asks for, in its only possible reading.
fn read(request: &Request<Incoming>, live: &Live) -> Result<(Target, Option<Box<str>>), Refusal> {
    if !live.limits.allow(request) {
        return Err(Refusal::HeadersTooLarge);
    }
    target::check_framing(request.headers()).map_err(Refusal::Ambiguous)?;
    target::check_lengths(request.version(), request.headers()).map_err(Refusal::Ambiguous)?;
    // A tunnel is never opened; its target is no path that a rule could name.
    if request.method() == Method::CONNECT {
        return Err(not_permitted(request.method(), request.uri()));
    }
    let (method, uri) = (request.method(), request.uri());
    let target = Target::parse(method, uri, live.paths).map_err(Refusal::Ambiguous)?;
    let host = target::host(request.version(), uri, request.headers()).map_err(Refusal::Ambiguous)?;
    Ok((target, host.map(Box::from)))
}

/// Strips headers that the client may not send, before the policy judges the request: what is judged is what is forwarded.
fn strip(session: &Session, request: &mut Request<Incoming>, live: &Live) -> HopByHopWishes {
    let address = session.headers.peer();
    let is_trusted = live.trusted_proxies.iter().any(|network| network.contains(address));
    let sender = if is_trusted { Sender::TrustedProxy } else { Sender::Client };
    headers::strip(request, &live.identity_headers.stripped, sender)
}

/// Step 3: the policy's permit.
fn permit(
    live: &Live,
    client: &Client,
    question: &Question<'_>,
    recording: &mut Recording,
) -> Result<Permit, Denied> {
    let verdict = live.policy.authorize(&client.rights, question);
    recording.set_verdict(&verdict);
    if let Some((since, difference)) = live.difference(client.shadow.as_ref(), question, &verdict) {
        recording.add_difference(since, difference, client, question.target);
    }
    live.mode.permit(verdict, question)
}

/// Prepares the headers and the target that the backend gets.
fn prepare(
    session: &Session,
    request: &mut Request<Incoming>,
    client: &Client,
    wishes: HopByHopWishes,
    forwarded: &ForwardedRequest,
    recording: &Recording,
) {
    let said = OwnHeaders {
        identity: &client.headers,
        connection: &session.headers,
        host: forwarded.host.as_deref().unwrap_or_else(|| session.services.backend.authority()),
        request_id: recording.request_id(),
        trace: recording.onward(),
    };
    headers::set(request, wishes, &said);
    if forwarded.upgrade.is_some() {
        headers::switch(request.headers_mut());
    }
    *request.uri_mut() = forwarded.target.clone().into_uri();
}

fn not_permitted(method: &Method, uri: &Uri) -> Refusal {
    Refusal::NotPermitted { method: method.clone(), path: uri.path().to_owned() }
}

fn not_admitted(because: NotAdmitted) -> Refusal {
    match because {
        NotAdmitted::Full => Refusal::ServerFull,
        NotAdmitted::ShareTaken => Refusal::ShareTaken,
        NotAdmitted::InFlightTaken => Refusal::InFlightTaken,
        NotAdmitted::TooOften(wait) => Refusal::TooOften(wait),
        NotAdmitted::Overloaded(wait) => Refusal::Overloaded(wait),
    }
}

/// Passes interim answers of the backend on as they come (RFC 9110 §15.2), to clients of HTTP/1.1. 100 is not passed on:
/// hyper tells the client itself to send its body.
fn pass_interim_answers(session: &Arc<Session>, request: &mut Request<Incoming>) {
    if session.protocol != Protocol::Http1 || request.version() != Version::HTTP_11 {
        return;
    }
    let session = Arc::clone(session);
    hyper::ext::on_informational(request, move |response| {
        if response.status() != StatusCode::CONTINUE {
            let mut end_to_end = response.headers().clone();
            strip_framing(&mut end_to_end);
            session.interim.push(response.status(), &end_to_end);
        }
    });
}

/// Runs a future unless the request's grant is withdrawn meanwhile. The request is then refused as if it came now.
async fn while_granted<T>(recording: &Recording, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match recording.poll_withdrawn(cx) {
        true => Poll::Ready(None),
        false => future.as_mut().poll(cx).map(Some),
    })
    .await
}

/// Step 6: the backend's answer.
async fn forward(
    session: &Session,
    ready: Ready,
    request: Request<Incoming>,
    recording: &mut Recording,
) -> Result<Outcome, NotForwarded> {
    let services = &session.services;
    let terms = Arc::clone(&services.live.load().backend);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut exchange = Exchange { counters: &services.counters, result: Some(BackendResult::ClientLeft) };
    let sending = pin!(services.backend.send(&terms, ready.admitted, request, ready.stripped_trailers));
    let refusal = match while_granted(recording, sending).await {
        Some(Ok((outcome, times))) => {
            exchange.result = Some(BackendResult::Answered);
            recording.set_times(times);
            return Ok(outcome);
        }
        Some(Err(NoAnswer::ClientLeft)) => return Err(NotForwarded::ClientLeft),
        Some(Err(no_answer)) => {
            exchange.result = result_without(no_answer);
            refusal_without(no_answer, recording)
        }
        None => {
            exchange.result = Some(BackendResult::Withdrawn);
            not_permitted(&method, &uri)
        }
    };
    recording.record_refused(&method, &uri, &HeaderMap::new(), None);
    Err(NotForwarded::Refused(refusal))
}

/// An exchange with the backend, which is counted when it is dropped: by its result, or, without one, as the exchange of a
/// client that has left.
struct Exchange<'a> {
    counters: &'a Counters,
    /// `None` if nothing was sent.
    result: Option<BackendResult>,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.result.into_iter().for_each(|result| self.counters.asked_backend(result));
    }
}

const fn result_without(answer: NoAnswer) -> Option<BackendResult> {
    match answer {
        NoAnswer::Fault(fault) => Some(BackendResult::Fault(fault)),
        // The request was not sent.
        NoAnswer::Paused(_) => None,
        NoAnswer::ClientLeft => Some(BackendResult::ClientLeft),
        NoAnswer::ClientStalled | NoAnswer::MalformedBody => Some(BackendResult::RequestBroken),
    }
}

fn refusal_without(answer: NoAnswer, recording: &mut Recording) -> Refusal {
    match answer {
        NoAnswer::Fault(fault) => {
            if let BackendFault::NotHttp(flaw) = fault {
                recording.set_cause(flaw);
            }
            Refusal::Backend(fault)
        }
        NoAnswer::Paused(wait) => Refusal::Paused(wait),
        NoAnswer::ClientStalled => Refusal::Stalled,
        NoAnswer::ClientLeft => Refusal::CutShort,
        NoAnswer::MalformedBody => Refusal::Ambiguous(Ambiguity::BrokenBody),
    }
}
