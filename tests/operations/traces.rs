//! The trace of a client is passed on to the backend, and the spans of Sidegate go to a collector. A collector that is not
//! available delays nothing (DESIGN §5, §8).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::Value;
use sidegate::telemetry::{Decision, Done, RequestIds, Share, TraceEnd, TraceStart, Tracer};
use tokio::time::Instant;

use crate::support::backend::RefusingPort;
use crate::support::tls::Tls;
use crate::support::{Backend, Proxy, Setup, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Without an export of traces.
#[test]
fn a_valid_trace_is_passed_on_unchanged_and_an_invalid_one_is_replaced() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).start();
    let mut connection = proxy.connect();
    let whole = format!("00-{TRACE}-{SPAN}-01");
    let later = format!("01-{TRACE}-{SPAN}-01-more");
    let asks = [
        (vec![whole.as_str()], true),
        (vec![later.as_str()], true),
        (vec!["00-none"], false),
        (vec![whole.as_str(), whole.as_str()], false),
        (vec![], false),
    ];
    for (number, (traces, passes)) in asks.iter().enumerate() {
        let lines: String = traces.iter().map(|trace| format!("traceparent: {trace}\r\n")).collect();
        let state = "tracestate: vendor=1\r\n";
        connection.ask(&format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{lines}{state}\r\n")).unwrap();
        let seen = backend.received().remove(number);
        let told = seen.header("traceparent");
        if *passes {
            assert_eq!((told, seen.header("tracestate")), (traces.clone(), vec!["vendor=1"]));
        } else {
            let id = seen.header("x-request-id")[0];
            assert_eq!(told, [format!("00-{id}-{}-00", &id[16..])], "{traces:?}");
            assert!(seen.header("tracestate").is_empty(), "{traces:?}");
        }
    }
}

fn traced(backend: &str, collector: &str) -> Setup {
    Setup::new(backend).set("tracing.otlp", collector)
}

fn ask(connection: &mut Tls, path: &str, traceparent: &str) -> u16 {
    let trace =
        if traceparent.is_empty() { String::new() } else { format!("traceparent: {traceparent}\r\n") };
    connection.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{trace}\r\n")).unwrap().status
}

/// Returns the spans that a collector received, as OTLP in JSON.
fn spans(collector: &Backend) -> Vec<Value> {
    let mut spans = Vec::new();
    for request in collector.received() {
        assert_eq!(request.start_line(), "POST /v1/traces HTTP/1.1");
        assert_eq!(request.header("content-type"), ["application/json"]);
        let message: Value = serde_json::from_slice(&request.body).unwrap();
        for resource in message["resourceSpans"].as_array().unwrap() {
            let service = &resource["resource"]["attributes"][0];
            assert_eq!(
                (&service["key"], &service["value"]["stringValue"]),
                (&"service.name".into(), &"sidegate".into())
            );
            for scope in resource["scopeSpans"].as_array().unwrap() {
                assert_eq!(scope["scope"]["name"], "sidegate");
                spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
    }
    spans
}

#[track_caller]
fn wait_for(collector: &Backend, count: usize) -> BTreeMap<String, Value> {
    let spans = eventually("the spans", || spans(collector), |spans| spans.len() >= count);
    assert_eq!(spans.len(), count, "{spans:?}");
    spans.into_iter().map(|span| (span["name"].as_str().unwrap().to_owned(), span)).collect()
}

fn attribute<'s>(span: &'s Value, key: &str) -> &'s Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |attribute| attribute["value"].as_object().unwrap().values().next().unwrap())
}

/// Returns the start and the end of a span, by the wall clock.
fn times(span: &Value) -> (u64, u64) {
    let at = |key: &str| span[key].as_str().unwrap().parse().unwrap();
    (at("startTimeUnixNano"), at("endTimeUnixNano"))
}

#[test]
fn the_trace_of_a_client_gets_spans_of_the_handshake_the_decision_and_the_backend() {
    let (backend, collector) = (Backend::ok(), Backend::ok());
    let proxy = traced(&backend.url(), &collector.url()).start();
    let mut connection = proxy.connect();
    assert_eq!(ask(&mut connection, "/events?token=secret", &format!("00-{TRACE}-{SPAN}-01")), 200);
    let named = wait_for(&collector, 4);
    let [own, decision, work, handshake] =
        ["GET", "decision", "backend", "handshake"].map(|name| &named[name]);
    for span in named.values() {
        assert_eq!(span["traceId"], TRACE, "{span}");
        let (start, end) = times(span);
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        assert!(start <= end && end <= now && now - start < 60_000_000_000, "{span}");
    }
    assert_eq!((&own["parentSpanId"], &own["kind"]), (&SPAN.into(), &2.into()), "{own}");
    for child in [decision, work, handshake] {
        assert_eq!(child["parentSpanId"], own["spanId"], "{child}");
    }
    assert_eq!((&decision["kind"], &work["kind"], &handshake["kind"]), (&1.into(), &3.into(), &1.into()));
    assert!(
        times(handshake).1 <= times(own).0
            && times(decision).1 <= times(work).0
            && times(work).1 <= times(own).1
    );
    assert_eq!(attribute(own, "url.path"), "/events");
    assert_eq!(attribute(own, "http.response.status_code"), "200");
    assert_eq!(
        (attribute(decision, "sidegate.decision"), attribute(decision, "sidegate.rule")),
        (&"allowed".into(), &"producer".into())
    );
    assert!(!named.values().any(|span| span.to_string().contains("secret")), "{named:?}");
    // The spans of the backend become children of the span that waits for it.
    let told = backend.received()[0].header("traceparent")[0].to_owned();
    assert_eq!(told, format!("00-{TRACE}-{}-01", work["spanId"].as_str().unwrap()));

    // A connection has one handshake.
    collector.clear_records();
    assert_eq!(ask(&mut connection, "/events", &format!("00-{TRACE}-{SPAN}-01")), 200);
    assert!(!wait_for(&collector, 3).contains_key("handshake"));
}

#[test]
fn the_trace_of_a_client_says_if_it_is_recorded_and_other_traces_are_sampled() {
    for (sample, root) in [(1, "01"), (0, "00")] {
        let (backend, collector) = (Backend::ok(), Backend::ok());
        let proxy = traced(&backend.url(), &collector.url()).set("tracing.sample", sample).start();
        let mut connection = proxy.connect();
        let not_recorded = format!("00-{TRACE}-{SPAN}-00");
        assert_eq!(ask(&mut connection, "/unrecorded", &not_recorded), 200);
        assert_eq!(ask(&mut connection, "/root", ""), 200);
        assert_eq!(ask(&mut connection, "/recorded", &format!("00-{TRACE}-{SPAN}-01")), 200);
        // Spans arrive in order, so an earlier span would have arrived before the last.
        let is_there =
            |spans: &Vec<Value>| spans.iter().any(|span| attribute(span, "url.path") == "/recorded");
        let spans = eventually("the last one", || spans(&collector), is_there);
        let of = |path: &str| spans.iter().filter(|span| attribute(span, "url.path") == path).count();
        assert_eq!((of("/unrecorded"), of("/root")), (0, usize::from(sample == 1)));
        let seen = backend.received();
        let told: Vec<_> = seen.iter().map(|request| request.header("traceparent")[0]).collect();
        assert_eq!(told[0], not_recorded);
        let id = seen[1].header("x-request-id")[0];
        assert!(told[1].starts_with(&format!("00-{id}-")) && told[1].ends_with(root), "{}", told[1]);
    }
}

#[test]
fn refusals_are_traced_and_a_failure_of_the_backend_is_in_its_span() {
    let (refusing, collector) = (RefusingPort::new(), Backend::ok());
    let proxy = traced(&refusing.url(), &collector.url()).start();
    let parent = format!("00-{TRACE}-{SPAN}-01");
    for (client, status, names) in [
        (proxy.anonymous(), 401, vec!["GET", "decision", "handshake"]),
        (proxy.consumer(), 403, vec!["GET", "decision", "handshake"]),
        (proxy.producer(), 504, vec!["GET", "backend", "decision", "handshake"]),
    ] {
        collector.clear_records();
        assert_eq!(ask(&mut client.connect(proxy.address).unwrap(), "/events", &parent), status);
        let named = wait_for(&collector, names.len());
        assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), names);
        assert_eq!(attribute(&named["GET"], "http.response.status_code"), &Value::from(status.to_string()));
        if status == 504 {
            assert_eq!(named["backend"]["status"]["code"], 2);
            assert_eq!(attribute(&named["backend"], "error.type"), "backend_unavailable");
        }
    }
}

/// No request waits for a collector, and lost spans are counted.
#[test]
fn without_its_collector_only_spans_are_lost() {
    let (backend, refusing) = (Backend::ok(), RefusingPort::new());
    let mut proxy = traced(&backend.url(), &refusing.url()).start();
    let mut connection = proxy.connect();
    assert_eq!(ask(&mut connection, "/events", ""), 200);
    proxy.process.log_where("the warning", |line| {
        line["message"].as_str().is_some_and(|it| it.starts_with("the collector of traces cannot be reached"))
    });
    assert_eq!(ask(&mut connection, "/events", ""), 200);
    proxy.admin.wait_for("sidegate_spans_dropped_total", 7.0);
}

/// No request waits for a collector that reads nothing, because the queue is bounded.
#[test]
fn spans_that_do_not_fit_into_the_queue_are_dropped_and_counted() {
    let (tracer, mut outbox) = Tracer::new(Share::ALL);
    let (ids, headers) = (RequestIds::new(), HeaderMap::new());
    let (time, started) = (Timestamp::now(), Instant::now());
    for _ in 0..5000 {
        let (id, source) = (ids.next(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let begun =
            TraceStart { time, started, id, method: &Method::GET, path: "/", headers: &headers, source };
        let ended =
            TraceEnd { decision: Decision::Forwarded, done: Done::Forwarded, status: Some(200), asked: None };
        tracer.begin(&begun, &ids, || None).unwrap().end(ended);
    }
    let batches = std::iter::from_fn(|| outbox.rest());
    let sent: usize =
        batches.map(|batch| String::from_utf8(batch.body).unwrap().matches("\"GET\"").count()).sum();
    // A request without a span of the backend has two spans. Its name is in it once more, as an attribute.
    assert_eq!(sent / 2, 4096);
    assert_eq!(tracer.dropped(), 2 * (5000 - 4096));
}

#[test]
fn the_last_spans_are_sent_before_the_process_ends() {
    let (backend, collector) = (Backend::ok(), Backend::ok());
    let mut proxy: Proxy = traced(&backend.url(), &collector.url()).start();
    let mut connection = proxy.connect();
    for _ in 0..5 {
        assert_eq!(ask(&mut connection, "/events", ""), 200);
    }
    drop(connection);
    proxy.process.signal("INT");
    assert_eq!(proxy.process.exit().code(), Some(0));
    assert_eq!(spans(&collector).len(), 16);
}
