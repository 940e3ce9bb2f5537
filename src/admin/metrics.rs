//! The metrics, in the OpenMetrics text format.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Running, Status};
use crate::admission::Bound;
use crate::forward::Condition;
use crate::identity::{Expiry, Flaw};
use crate::policy::{Change, Mode};
use crate::refusal::Fault;
use crate::telemetry::{
    BUCKET_BOUNDS, BackendResult, Counters, Decision, Distribution, Done, Handshake, Trials,
};

/// Returns all metrics in the OpenMetrics text format.
///
/// # Errors
/// Writing text into memory does not fail in practice.
pub(super) fn exposition(running: &Running) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("sidegate");
    registry.register_collector(Box::new(Snapshot::of(running)));
    let mut out = String::with_capacity(4096);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// One value of a family, with its labels.
type Sample = (Vec<(&'static str, Cow<'static, str>)>, u64);

/// A family: its name, its help text, its values.
type Family = (&'static str, &'static str, Vec<Sample>);

#[derive(Debug)]
struct Snapshot {
    counters: Vec<Family>,
    gauges: Vec<Family>,
    /// Names without their units, help texts and distributions.
    latencies: [(&'static str, &'static str, Distribution); 2],
    /// Seconds until the content of a file expires, and the time before that from which on a warning is due, by kind and
    /// file.
    expiries: BTreeMap<(&'static str, String), (i64, i64)>,
}

/// Returns one label.
fn label(name: &'static str, value: impl Into<Cow<'static, str>>) -> Vec<(&'static str, Cow<'static, str>)> {
    vec![(name, value.into())]
}

/// Returns a value without labels.
fn one(value: impl TryInto<u64>) -> Vec<Sample> {
    vec![(Vec::new(), value.try_into().unwrap_or(u64::MAX))]
}

impl Snapshot {
    fn of(running: &Running) -> Self {
        let status = running.status();
        Self {
            counters: counters(running, &status),
            gauges: gauges(&status),
            latencies: latencies(running),
            expiries: expiries(&running.expiries(), Timestamp::now()),
        }
    }
}

fn counters(running: &Running, status: &Status) -> Vec<Family> {
    let sum = |count: &dyn Fn(&Counters) -> u64| running.counters().map(count).sum::<u64>();
    let decisions = Decision::all().map(|decision| {
        let fault = decision.fault().map_or("none", Fault::name);
        let labels = vec![
            ("outcome", decision.outcome().into()),
            ("reason", decision.reason().into()),
            ("fault", fault.into()),
        ];
        (labels, sum(&|counters| counters.decisions(decision)))
    });
    let backend = added_up(running, Counters::backend);
    let backend =
        BackendResult::NAMES.iter().zip(backend).map(|(name, count)| (label("result", *name), count));
    let unfinished = added_up(running, Counters::unfinished);
    let client_left = unfinished.first().copied().unwrap_or_default();
    let unfinished = Done::UNFINISHED.iter().zip(unfinished).map(|(done, count)| {
        let fault = done.fault().map_or("none", Fault::name);
        (vec![("done", done.name().into()), ("fault", fault.into())], count)
    });
    let handshakes = Handshake::all().map(|result| {
        let labels = vec![("result", result.name().into()), ("cause", result.cause().into())];
        (labels, sum(&|counters| counters.handshakes(result)))
    });
    let evicted = Bound::ALL.map(|bound| (label("bound", bound.name()), running.evicted(bound)));
    let reloads = status.reload.parts.iter().flat_map(|(part, counts)| {
        let results = [("applied", counts.applied), ("refused", counts.refused)];
        results.map(|(result, count)| (vec![("part", part.name().into()), ("result", result.into())], count))
    });
    let dropped =
        vec![(label("kind", "log"), status.log_dropped), (label("kind", "audit"), status.audit_dropped)];
    let trial_denials = Trials::denials(running.trials()).into_iter();
    let trial_denials =
        trial_denials.map(|(rule, count)| (label("rule", String::from(rule)), count)).collect();
    vec![
        ("decisions", "Requests decided, by outcome, reason and the side at fault", decisions.collect()),
        ("backend_requests", "Requests sent to the backend, by result", backend.collect()),
        (
            "unfinished_answers",
            "Forwarded requests whose answer did not come to its end, by the way it ended and the side at fault",
            unfinished.collect(),
        ),
        (
            "client_left",
            "Forwarded requests whose client left before the end of the answer",
            one(client_left),
        ),
        (
            "handshakes",
            "TLS handshakes, by result, and those that failed by their cause",
            handshakes.collect(),
        ),
        (
            "invalid_certificates",
            "Requests refused because their client's certificate is invalid, by its flaw",
            flaws(running),
        ),
        (
            "lobby_evictions",
            "Connections without a slot that were closed for newer ones, by the bound that was reached",
            evicted.to_vec(),
        ),
        (
            "connections_turned_away",
            "Connections closed before TLS because their source opened too many",
            one(status.turned_away),
        ),
        (
            "accept_errors",
            "Connections that could not be accepted, for example because no descriptor was left",
            one(status.accept_errors),
        ),
        ("reloads", "Reloads of each part of the configuration and its files, by result", reloads.collect()),
        (
            "backend_breaker_openings",
            "Openings of the circuit breaker because the backend could not be reached",
            one(running.health().openings()),
        ),
        (
            "trial_denials",
            "Requests that mode: audit forwarded although the policy denies them, by the deny rule (empty if no grant allows them)",
            trial_denials,
        ),
        (
            "shadow_differences",
            "Requests that the shadow policy decides differently, by the change and the rule that makes the difference",
            differences(running),
        ),
        (
            "spans_dropped",
            "Spans of traces that were dropped because the collector was away or too slow",
            one(status.spans_dropped),
        ),
        (
            "lines_dropped",
            "Lines that were dropped because their writer was too slow, or that could not be written",
            dropped,
        ),
    ]
}

/// Adds up the counts of all workers.
fn added_up<const N: usize>(running: &Running, of: impl Fn(&Counters) -> [u64; N]) -> [u64; N] {
    running.counters().map(of).fold([0; N], |sum, counts| {
        let mut both = sum.iter().zip(counts).map(|(sum, count)| sum + count);
        std::array::from_fn(|_| both.next().unwrap_or_default())
    })
}

fn flaws(running: &Running) -> Vec<Sample> {
    let sums = added_up(running, Counters::flaws);
    Flaw::NAMES.into_iter().zip(sums).map(|(flaw, count)| (label("flaw", flaw), count)).collect()
}

fn differences(running: &Running) -> Vec<Sample> {
    let of = |change: Change| {
        let counts = Trials::differences(running.trials(), change).into_iter();
        counts.map(move |(rule, count)| {
            (vec![("change", change.name().into()), ("rule", String::from(rule).into())], count)
        })
    };
    Change::ALL.into_iter().flat_map(of).collect()
}

fn gauges(status: &Status) -> Vec<Family> {
    let connections = [("lobby", status.lobby), ("admitted", status.slots_used)];
    let connections = connections.map(|(state, count)| (label("state", state), count as u64));
    let backend = Condition::ALL
        .map(|condition| (label("state", condition.name()), u64::from(condition == status.backend)));
    let mode = Mode::ALL.map(|(name, mode)| (label("mode", name), u64::from(mode == status.mode)));
    let success = status.reload.parts.iter();
    let success = success.map(|(part, counts)| (label("part", part.name()), u64::from(counts.success)));
    let build = vec![("version", status.version.into()), ("commit", status.commit.into())];
    vec![
        ("backend_state", "1 for the state that the backend is in", backend.to_vec()),
        ("slots_used", "Connection slots that are taken", one(status.slots_used)),
        ("slots_limit", "Connection slots in all (limits.max_connections)", one(status.slots_limit)),
        ("connections", "Open client connections, by state", connections.to_vec()),
        ("handshakes_in_progress", "TLS handshakes in progress", one(status.handshakes)),
        ("requests_in_flight", "Requests that the backend works on", one(status.in_flight)),
        (
            "requests_in_flight_limit",
            "The limit of requests in flight (backend.max_in_flight)",
            one(status.in_flight_limit),
        ),
        ("requests_queued", "Requests in the queue for a place in flight", one(status.queued)),
        ("backend_idle_connections", "Idle connections to the backend", one(status.backend_idle_connections)),
        ("workers", "Worker threads", one(status.workers)),
        (
            "config_generation",
            "The number of snapshots of policy and trust that were put in force",
            one(status.generation),
        ),
        (
            "reload_success",
            "1 while the files of a part are in force; 0 while they are refused or cannot be read, and the previous state stays in force",
            success.collect(),
        ),
        (
            "reload_look_age_seconds",
            "Seconds since all parts were last read",
            one(status.reload.look_age_seconds),
        ),
        (
            "last_reload_timestamp_seconds",
            "The time of the last reload, applied or refused, in seconds since 1970; 0 before the first",
            one(status.reload.decided_at.map_or(0, Timestamp::as_second)),
        ),
        ("mode", "1 for the mode that is in force", mode.to_vec()),
        ("build_info", "1; the labels are the version of the program and its commit", vec![(build, 1)]),
        ("ready", "1 while the readiness probe succeeds", one(u64::from(status.ready))),
    ]
}

fn latencies(running: &Running) -> [(&'static str, &'static str, Distribution); 2] {
    [
        (
            "added_latency",
            "Time that Sidegate adds to a request that the backend answered: until it is forwarded, and from the answer's headers until they are passed on",
            Distribution::of(running.counters().map(|counters| &counters.added)),
        ),
        (
            "backend_latency",
            "From sending a request to the backend until the headers of its answer",
            Distribution::of(running.counters().map(|counters| &counters.waited)),
        ),
    ]
}

/// The expiries by kind and file. If a file holds several, the earliest counts.
fn expiries(all: &[Expiry], now: Timestamp) -> BTreeMap<(&'static str, String), (i64, i64)> {
    let mut expiries = BTreeMap::new();
    for expiry in all {
        let left = (expiry.until.duration_since(now).as_secs(), expiry.notice().as_secs());
        let key = (expiry.kind.name(), expiry.file.clone());
        expiries.entry(key).and_modify(|least: &mut (i64, i64)| *least = left.min(*least)).or_insert(left);
    }
    expiries
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, samples) in &self.counters {
            write(&mut encoder, name, help, samples, ConstCounter::new)?;
        }
        for (name, help, samples) in &self.gauges {
            write(&mut encoder, name, help, samples, |value| {
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
            })?;
        }
        for (name, help, distribution) in &self.latencies {
            let family =
                encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            distribution.encode(family)?;
        }
        let left = "Seconds until a certificate or CRL expires, by kind and file; negative afterwards";
        self.encode_expiries(&mut encoder, "certificate_expiry_seconds", left, |(left, _)| left)?;
        let notice = "Seconds before the end of a certificate or CRL from which on a warning is due";
        self.encode_expiries(&mut encoder, "certificate_notice_seconds", notice, |(_, notice)| notice)
    }
}

impl Snapshot {
    fn encode_expiries(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn((i64, i64)) -> i64,
    ) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for ((kind, file), times) in &self.expiries {
            let labels = [("kind", *kind), ("file", file.as_str())];
            ConstGauge::new(value(*times)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl EncodeMetric for Distribution {
    #[expect(clippy::cast_precision_loss, reason = "seconds to 15 digits")]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let bounds = BUCKET_BOUNDS.into_iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(seconds(self.nanoseconds), self.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn write<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: &[Sample],
    metric: impl Fn(u64) -> M,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, metric(0).metric_type())?;
    for (labels, value) in samples {
        if labels.is_empty() {
            return metric(*value).encode(family);
        }
        metric(*value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}
