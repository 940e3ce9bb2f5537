//! Two metrics separate the time that Sidegate adds to a request from the time of the backend. They count exactly the
//! requests that the backend answered (DESIGN §8).

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::admin::Metrics;
use crate::support::backend::OK;
use crate::support::http2::request;
use crate::support::{Backend, Setup};

const ADDED: &str = "sidegate_added_latency_seconds";
const BACKEND: &str = "sidegate_backend_latency_seconds";
/// Time that the backend takes for each request.
const THOUGHT: Duration = Duration::from_millis(80);

fn slow_backend() -> Backend {
    slow_behind(Arc::default())
}

/// A slow backend whose work begins once the test releases the gate.
fn slow_behind(gate: Arc<Mutex<()>>) -> Backend {
    Backend::scripted(move |connection| {
        while connection.request()?.is_some() {
            drop(gate.lock());
            thread::sleep(THOUGHT);
            connection.wire.send(OK)?;
        }
        Ok(())
    })
}

fn count(metrics: &Metrics, name: &str) -> f64 {
    metrics.value(&format!("{name}_count"))
}

fn sum(metrics: &Metrics, name: &str) -> f64 {
    metrics.value(&format!("{name}_sum"))
}

#[test]
fn the_queue_counts_as_added_time_and_the_work_of_the_backend_does_not() {
    let gate = Arc::new(Mutex::new(()));
    let backend = slow_behind(Arc::clone(&gate));
    let proxy = Setup::new(&backend.url())
        .set("backend.max_in_flight", 1)
        .set("backend.queue_timeout", "60s")
        .start();
    let start = Instant::now();
    proxy.connect().get("/events").unwrap();
    let whole = start.elapsed().as_secs_f64();
    let alone = proxy.admin.metrics();
    assert_eq!((count(&alone, ADDED), count(&alone, BACKEND)), (1.0, 1.0));
    assert!(sum(&alone, BACKEND) >= THOUGHT.as_secs_f64(), "{alone:?}");
    assert!(sum(&alone, ADDED) > 0.0 && sum(&alone, ADDED) + sum(&alone, BACKEND) <= whole, "{alone:?}");

    let connection = proxy.http2();
    let held = gate.lock().unwrap();
    let waiting = [(); 2].map(|()| connection.open(request("GET", "/events", &[]), true).unwrap());
    proxy.admin.wait_for("sidegate_requests_queued", 1.0);
    drop(held);
    for exchange in waiting {
        assert_eq!(exchange.answer_before_end().unwrap().status, 200);
    }
    let queued = proxy.admin.metrics();
    assert_eq!((count(&queued, ADDED), count(&queued, BACKEND)), (3.0, 3.0));
    // The second request waited for the first answer, at least since the backend began its work on the first.
    assert!(sum(&queued, ADDED) - sum(&alone, ADDED) >= THOUGHT.as_secs_f64(), "{queued:?}");
    assert!(sum(&queued, BACKEND) - sum(&alone, BACKEND) >= 2.0 * THOUGHT.as_secs_f64(), "{queued:?}");
}

#[test]
fn requests_that_the_backend_did_not_answer_count_in_neither() {
    let backend = Backend::never_answering();
    let proxy = Setup::new(&backend.url()).set("backend.response_timeout", "100ms").start();
    for client in [proxy.anonymous(), proxy.consumer(), proxy.producer()] {
        client.connect(proxy.address).unwrap().get("/events").unwrap();
    }
    let metrics = proxy.admin.metrics();
    assert_eq!(metrics.value("sidegate_decisions_total"), 3.0);
    assert_eq!((count(&metrics, ADDED), count(&metrics, BACKEND)), (0.0, 0.0));
}

#[test]
fn buckets_are_cumulative_and_the_same_for_both_metrics() {
    let backend = slow_backend();
    let proxy = Setup::new(&backend.url()).set("workers", 2).start();
    for _ in 0..3 {
        proxy.connect().get("/events").unwrap();
    }
    let metrics = proxy.admin.metrics();
    let buckets = |name: &str| -> Vec<(f64, f64)> {
        let start = format!("{name}_bucket{{le=\"");
        let lines = metrics.0.lines().filter_map(|line| line.strip_prefix(&start)?.split_once("\"} "));
        lines.map(|(bound, count)| (bound.parse().unwrap(), count.parse().unwrap())).collect()
    };
    for name in [ADDED, BACKEND] {
        let buckets = buckets(name);
        assert!(buckets.is_sorted(), "{metrics:?}");
        assert_eq!((buckets[0].0, buckets[buckets.len() - 2].0), (0.000_05, 10.0));
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, 3.0));
    }
    let bounds = |name| buckets(name).iter().map(|(bound, _)| *bound).collect::<Vec<_>>();
    assert_eq!(bounds(ADDED), bounds(BACKEND));
    let within = |limit: f64| buckets(BACKEND).iter().rfind(|(bound, _)| *bound <= limit).unwrap().1;
    assert_eq!(within(THOUGHT.as_secs_f64()), 0.0, "{metrics:?}");
}
