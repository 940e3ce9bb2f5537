//! The admin listener answers operators and their tools (DESIGN §8).

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http1::Wire;
use crate::support::{Backend, Proxy, Setup};

#[test]
fn probes_say_that_the_process_lives_and_is_ready() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    assert_eq!(proxy.admin.get("/livez").status, 200);
    assert_eq!(proxy.admin.get("/readyz").status, 200);
    assert_eq!(proxy.admin.get("/elsewhere").status, 404);
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    assert_eq!(wire.post("/livez", "").unwrap().status, 405);
}

#[test]
fn the_status_is_json() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let status = proxy.admin.status();
    assert!(status.is_object(), "{status}");
    assert!(status.to_string().contains(env!("CARGO_PKG_VERSION")), "{status}");
}

#[test]
fn metrics_count_decisions_connections_and_slots() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", 7).start();
    let mut admitted = proxy.connect();
    for _ in 0..3 {
        admitted.get("/events").unwrap();
    }
    let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
    stranger.get("/events").unwrap();
    let mut denied = proxy.consumer().connect(proxy.address).unwrap();
    denied.get("/events").unwrap();
    denied.get("/events").unwrap();

    let metrics = proxy.admin.metrics();
    assert_eq!(metrics.value("sidegate_slots_used"), 1.0, "{metrics:?}");
    assert_eq!(metrics.value("sidegate_slots_limit"), 7.0);
    assert_eq!(metrics.labelled("sidegate_connections", &[("state", "admitted")]), 1.0);
    assert_eq!(metrics.labelled("sidegate_connections", &[("state", "lobby")]), 2.0);
    let decisions = |reason: &str| metrics.labelled("sidegate_decisions_total", &[("reason", reason)]);
    assert_eq!(decisions("not_authenticated"), 1.0);
    assert_eq!(decisions("insufficient_permissions"), 2.0);
    assert_eq!(metrics.value("sidegate_decisions_total"), 6.0);
    assert_eq!(metrics.value("sidegate_backend_requests_total"), 3.0);
    assert!(metrics.value("sidegate_handshakes_total") >= 3.0);
}

#[test]
fn metrics_are_well_formed() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let text = proxy.admin.metrics().0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(series.starts_with("sidegate_") || series.starts_with("process_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(text.contains("# TYPE sidegate_slots_used gauge"), "{text}");
}

#[test]
fn no_path_of_the_admin_listener_is_on_the_main_port() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    for path in ["/livez", "/readyz", "/metrics", "/status", "/connections"] {
        // The policy permits everything to this client, so the backend answers.
        assert_eq!(connection.get(path).unwrap().text(), "ok", "{path}");
    }
    assert_eq!(backend.received().len(), 5);
}

/// The kubelet probes by the address of the pod. Everything that reveals more than health and counts stays on loopback.
#[test]
fn a_listener_beyond_loopback_serves_only_probes_and_metrics() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("admin.listen", "0.0.0.0:0").start();
    let address = SocketAddr::from(([127, 0, 0, 1], proxy.admin.address.port()));
    let mut wire = Wire::plain(address).unwrap();
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/status", 403)] {
        assert_eq!(wire.get(path).unwrap().status, status, "{path}");
    }
}

#[test]
fn each_decision_leaves_one_record() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let answer = proxy.consumer().connect(proxy.address).unwrap().get("/events?secret=1").unwrap();
    let id = answer.json()["request_id"].clone();
    let record = proxy.process.audit_where("the refusal", |record| record["request_id"] == id);
    assert_eq!(record["method"], "GET");
    assert_eq!(record["status"], 403);
    assert_eq!(record["reason"], "insufficient_permissions");
    assert!(record["path"].as_str().unwrap().starts_with("/events"), "{record}");

    proxy.connect().post("/events", "x").unwrap();
    let record = proxy.process.audit_where("the permit", |record| record["method"] == "POST");
    // The identity has the keys of `match`, which `policy replay` and `policy suggest` read.
    assert_eq!(record["identity"]["common_name"], serde_json::json!(["order-producer"]), "{record}");
    assert_eq!(
        record["identity"]["uri"],
        serde_json::json!(["spiffe://shop.example/ns/orders/sa/producer"]),
        "{record}"
    );
    assert_eq!(record["status"], 200);
    assert!(matches!(record["client"], Value::String(_) | Value::Object(_)), "{record}");
}
