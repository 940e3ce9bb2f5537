//! The present state, the last quarter of an hour, the connections, and the trust.

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::body::{Answer, compact, json as answered};
use super::super::headlines::{self, Facts};
use super::ApiContext;
use super::query::{Query, has_all};
use crate::admin::Running;
use crate::identity::Expiry;
use crate::telemetry::{Decision, Done, Refused, Sample, Times};

/// Most connections of one answer.
const MOST_CONNECTIONS: usize = 1_000;

pub(super) fn now_answer(context: &ApiContext, _: &Query) -> Answer {
    answered(StatusCode::OK, &now(&context.running, &context.running.refusals()))
}

/// The present state.
pub(in super::super) fn now(running: &Running, refusals: &[Arc<Refused>]) -> Value {
    let (status, now) = (running.status(), Timestamp::now());
    let minute = running.past().last(60);
    let facts = Facts { status: &status, samples: &minute, refusals, now };
    let headlines = headlines::of(running, &facts);
    json!({
        "at": now,
        "version": status.version,
        "ready": status.ready,
        "uptime_seconds": status.uptime_seconds,
        "generation": status.generation,
        "mode": status.mode,
        "slots": { "used": status.slots_used, "limit": status.slots_limit },
        "lobby": { "connections": status.lobby, "handshakes": status.handshakes },
        "in_flight": { "used": status.in_flight, "limit": status.in_flight_limit, "queued": status.queued },
        "backend": { "state": status.backend, "idle_connections": status.backend_idle_connections },
        "headlines": headlines,
        "sample": minute.last().map(|sample| columns(std::slice::from_ref(sample))),
    })
}

/// The last quarter of an hour, one column per figure.
pub(super) fn history(context: &ApiContext, _: &Query) -> Answer {
    compact(&columns(&context.running.past().samples()))
}

fn columns(samples: &[Sample]) -> Value {
    let column = |figure: fn(&Sample) -> u32| json!(samples.iter().map(figure).collect::<Vec<_>>());
    let of_reason = |reason: &str, sample: &Sample| -> u32 {
        let same = Decision::all().filter(|decision| decision.reason() == reason);
        same.map(|decision| sample.decided(decision)).sum()
    };
    let decisions: Map<String, Value> = Decision::all()
        .map(|decision| decision.reason())
        .map(|reason| {
            let counts: Vec<u32> = samples.iter().map(|sample| of_reason(reason, sample)).collect();
            (reason.to_owned(), json!(counts))
        })
        .collect();
    let unfinished: Map<String, Value> = Done::UNFINISHED
        .into_iter()
        .map(|done| {
            let counts: Vec<u32> = samples.iter().map(|sample| sample.unfinished(done)).collect();
            (done.name().to_owned(), json!(counts))
        })
        .collect();
    json!({
        "every_seconds": 1,
        "at": samples.iter().map(|sample| sample.at.as_second()).collect::<Vec<_>>(),
        "slots_used": column(|sample| sample.slots_used),
        "lobby": column(|sample| sample.lobby),
        "in_flight": column(|sample| sample.in_flight),
        "queued": column(|sample| sample.queued),
        "decisions": decisions,
        "unfinished": unfinished,
        "added": times(samples, |sample| sample.added),
        "backend": times(samples, |sample| sample.backend),
    })
}

fn times(samples: &[Sample], of: fn(&Sample) -> Times) -> Value {
    let column = |quantile: fn(Times) -> Option<u32>| -> Vec<_> {
        samples.iter().map(|sample| quantile(of(sample))).collect()
    };
    json!({ "p50_us": column(|times| times.p50), "p99_us": column(|times| times.p99) })
}

/// Differences of the shadow policy; `null` without one.
pub(super) fn shadow(context: &ApiContext, _: &Query) -> Answer {
    answered(StatusCode::OK, &json!({ "shadow": context.running.status().shadow }))
}

/// Open connections, the oldest first: those whose source, client or state has all words of `q`.
pub(super) fn connections(context: &ApiContext, query: &Query) -> Answer {
    let (words, limit) = (query.words("q"), query.number("limit", MOST_CONNECTIONS, MOST_CONNECTIONS));
    let all = context.running.connections();
    let total = all.len();
    let found: Vec<_> = all
        .into_iter()
        .filter(|view| {
            let place = if view.slot { "slot" } else { "lobby" };
            let client = view.client.as_deref().unwrap_or_default();
            let text = format!("{} {client} {} {place} {}", view.source, view.state, view.grants.join(" "));
            has_all(&text, &words)
        })
        .collect();
    let matching = found.len();
    let shown: Vec<_> = found.into_iter().take(limit).collect();
    answered(StatusCode::OK, &json!({ "total": total, "matching": matching, "connections": shown }))
}

/// Certificates and CRLs that expire, the earliest first, and the outcomes of reloads.
pub(super) fn trust(context: &ApiContext, _: &Query) -> Answer {
    let (running, now) = (&context.running, Timestamp::now());
    let live = running.live();
    let expires: Vec<Value> = running.expiring().iter().map(|expiry| expires(expiry, now)).collect();
    answered(
        StatusCode::OK,
        &json!({
            "generation": live.generation,
            "expires": expires,
            "checks_revocation": live.trust.checks_revocation(),
            "revoked": live.trust.revoked(),
            "reload": running.reloads(),
        }),
    )
}

fn expires(expiry: &Expiry, now: Timestamp) -> Value {
    let seconds = |from: Timestamp, until: Timestamp| until.duration_since(from).as_secs();
    let warning = expiry.warning(now);
    json!({
        "kind": expiry.kind.name(),
        "file": expiry.file,
        "name": expiry.name,
        "from": expiry.from,
        "until": expiry.until,
        "seconds_left": seconds(now, expiry.until),
        "lifetime_seconds": seconds(expiry.from, expiry.until),
        "state": match (&warning, now > expiry.until) {
            (_, true) => "expired",
            (Some(_), false) => "soon",
            (None, false) => "good",
        },
        "help": warning.and_then(|warning| warning.help),
    })
}
