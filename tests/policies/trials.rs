//! Trials of policies on live traffic: `mode: audit` forwards and records requests that would get 403, and a shadow policy is
//! judged beside the enforced one. Neither changes any other answer (DESIGN §6, §8).

use std::fs;

use serde_json::{Value, json};

use crate::support::proxy::{POLICY, run};
use crate::support::{Backend, Proxy, Setup, eventually};

const EMPTY: &str = "version: 1\n";
/// The consumer may do everything except DELETE; other clients may do nothing.
const FREEZE: &str = r#"version: 1
permissions:
  everything: ["* /**"]
clients:
  - name: consumer
    match: { uri: "spiffe://shop.example/ns/reports/sa/*" }
    permissions: [everything]
deny:
  - name: freeze
    routes: ["DELETE /**"]
"#;

fn start_in_audit_mode(setup: Setup) -> Proxy {
    setup.set("mode", "audit").start()
}

fn trial_denials(proxy: &Proxy, rule: &str) -> f64 {
    proxy.admin.metrics().labelled("sidegate_trial_denials_total", &[("rule", rule)])
}

/// Adds a key to the configuration and reloads it.
fn reload_with(proxy: &mut Proxy, key: &str, value: impl Into<Value>) -> Value {
    proxy.setup.config[key] = value.into();
    proxy.setup.write();
    proxy.admin.reload()
}

fn write_policy(proxy: &Proxy, name: &str, text: &str) {
    fs::write(proxy.setup.path(name), text).unwrap();
}

#[test]
fn audit_mode_forwards_denied_requests_and_records_the_denials() {
    let backend = Backend::ok();
    let mut proxy = start_in_audit_mode(Setup::new(&backend.url()).policy(FREEZE));
    let mut producer = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(producer.get("/events").unwrap().text(), "ok");
    let record = proxy.process.audit_where("what no grant allows", |_| true);
    let fields = ["decision", "reason", "done", "status", "rule"].map(|field| record[field].clone());
    let expected =
        [json!("denied"), json!("insufficient_permissions"), json!("forwarded"), json!(200), Value::Null];
    assert_eq!(fields, expected, "{record}");

    let mut consumer = proxy.consumer().connect(proxy.address).unwrap();
    for (method, decision, rule) in [("DELETE", "denied", "freeze"), ("PUT", "allowed", "consumer")] {
        let request = format!("{method} /events/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(consumer.ask(&request).unwrap().status, 200);
        let record = proxy.process.audit_where("the decision", |record| record["method"] == method);
        assert_eq!((&record["decision"], &record["done"]), (&json!(decision), &json!("forwarded")));
        assert_eq!(record["rule"]["name"], rule, "{record}");
        assert!(record["rule"]["file"].as_str().unwrap().ends_with("policy.yaml"), "{record}");
    }
    assert_eq!((trial_denials(&proxy, ""), trial_denials(&proxy, "freeze")), (1.0, 1.0));
    let metrics = proxy.admin.metrics();
    assert_eq!(metrics.labelled("sidegate_decisions_total", &[("reason", "permitted")]), 3.0);
    assert_eq!(metrics.labelled("sidegate_mode", &[("mode", "audit")]), 1.0);
    assert_eq!(metrics.labelled("sidegate_mode", &[("mode", "enforce")]), 0.0);
    assert_eq!(proxy.admin.status()["mode"], "audit");
}

#[test]
fn audit_mode_changes_no_refusal_except_403() {
    let backend = Backend::ok();
    let mut proxy =
        start_in_audit_mode(Setup::new(&backend.url()).policy(EMPTY).set("limits.max_connections", 1));
    let verdict = |client: crate::support::Client, path: &str| {
        client.connect(proxy.address).unwrap().get(path).unwrap().verdict()
    };
    assert_eq!(verdict(proxy.anonymous(), "/events"), "401 not_authenticated");
    let mut held = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(held.get("/events").unwrap().status, 200);
    assert_eq!(proxy.admin.status()["slots_used"], 1, "a connection in audit mode uses a slot");
    assert_eq!(verdict(proxy.producer(), "/events"), "504 server_full");
    assert_eq!(verdict(proxy.producer(), "/a//b"), "400 ambiguous_request");
    let record = proxy.process.audit_where("the full server", |record| record["status"] == 504);
    assert_eq!((&record["decision"], &record["done"]), (&json!("denied"), &json!("server_full")), "{record}");
    let record = proxy.process.audit_where("the ambiguity", |record| record["status"] == 400);
    assert_eq!((&record["decision"], &record["done"]), (&json!("ambiguous"), &json!("ambiguous_request")));
}

#[test]
fn the_mode_changes_without_a_restart_and_denied_exchanges_end_with_audit_mode() {
    let backend = Backend::streaming();
    let mut proxy = Setup::new(&backend.url()).policy(EMPTY).start();
    let denied = proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(denied.verdict(), "403 insufficient_permissions");
    let attempt = reload_with(&mut proxy, "mode", "audit");
    assert_eq!(attempt["needs_restart"], json!([]), "{attempt}");
    let warning = &attempt["diagnostics"][0];
    assert_eq!((&warning["code"], &warning["severity"]), (&json!("audit-mode"), &json!("warning")));

    let mut stream = proxy.producer().connect(proxy.address).unwrap();
    stream.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_until(b"data: 1\n\n").unwrap();
    // A reload without a change of the mode does not end the stream.
    proxy.admin.reload();
    assert_eq!(proxy.admin.status()["in_flight"], 1);
    reload_with(&mut proxy, "mode", "enforce");
    eventually("the end of the stream", || proxy.admin.status()["in_flight"].clone(), |used| *used == 0);
    let denied = proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(denied.verdict(), "403 insufficient_permissions");
}

/// The way of an operator from no policy to an enforced policy (DESIGN §7).
#[test]
fn a_first_policy_is_made_from_the_requests_of_clients() {
    let backend = Backend::ok();
    let deny = "version: 1\ndeny: [{ name: freeze, routes: [\"DELETE /**\"] }]\n";
    let mut proxy = start_in_audit_mode(Setup::new(&backend.url()).policy(deny));
    let mut producer = proxy.producer().connect(proxy.address).unwrap();
    let requests = [("POST", "/events"), ("GET", "/events/17"), ("DELETE", "/events/17")];
    for (method, path) in requests {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(producer.ask(&request).unwrap().status, 200);
    }
    let records: Vec<_> =
        (0..3).map(|_| proxy.process.audit_where("a decision", |_| true).to_string()).collect();
    let records_file = proxy.setup.path("audit.log");
    fs::write(&records_file, records.join("\n")).unwrap();
    let records_file = records_file.to_str().unwrap();
    let learned = run(&["policy", "suggest", records_file]);
    assert!(learned.stdout.contains("GET /events/{id}") && !learned.stdout.contains("DELETE"), "{learned:?}");
    write_policy(&proxy, "policy.yaml", &learned.stdout);
    let policy = proxy.setup.path("policy.yaml");
    let policy = policy.to_str().unwrap();
    assert_eq!(run(&["policy", "check", "--strict", policy]).code, Some(0));
    let replayed = run(&["policy", "replay", records_file, "--policy", policy]);
    assert_eq!(replayed.stdout.matches("newly allowed").count(), 2, "{replayed:?}");
    assert!(replayed.stdout.ends_with("decisions: 1 unchanged, 2 changed"), "{replayed:?}");

    reload_with(&mut proxy, "mode", "enforce");
    for ((method, path), status) in requests.into_iter().zip([200, 200, 403]) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(producer.ask(&request).unwrap().status, status, "{method}");
    }
}

#[test]
fn doctor_and_the_start_warn_that_no_policy_is_enforced() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("mode", "audit");
    let finished = run(&["doctor", "--config", setup.write().to_str().unwrap()]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("`mode: audit` enforces no policy"), "{finished:?}");
    let mut process =
        crate::support::proxy::Process::spawn(&["run", "--config", setup.write().to_str().unwrap()]);
    process.log_where("the warning", |line| {
        line["level"] == "WARN"
            && line["message"].as_str().is_some_and(|message| message.starts_with("mode: audit"))
    });
}

fn differences(proxy: &Proxy, change: &str, rule: &str) -> f64 {
    let labels = [("change", change), ("rule", rule)];
    proxy.admin.metrics().labelled("sidegate_shadow_differences_total", &labels)
}

#[test]
fn a_shadow_policy_changes_no_answer_and_every_difference_is_reported() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("shadow_policies", "next.yaml").set("workers", 2);
    fs::write(setup.path("next.yaml"), FREEZE).unwrap();
    let mut proxy = setup.start();
    let ask = |client: crate::support::Client, method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        client.connect(proxy.address).unwrap().ask(&request).unwrap().verdict()
    };
    // The enforced policy allows the producer everything and the consumer one path.
    assert_eq!(ask(proxy.producer(), "GET", "/events"), "200");
    assert_eq!(ask(proxy.producer(), "DELETE", "/events"), "200");
    assert_eq!(ask(proxy.consumer(), "GET", "/events"), "403 insufficient_permissions");
    assert_eq!(ask(proxy.consumer(), "GET", "/readable"), "200");

    let record_of = |proxy: &mut Proxy, path: &str, method: &str| {
        let is_expected = |record: &Value| record["path"] == path && record["method"] == method;
        proxy.process.audit_where("the difference", is_expected)
    };
    let lost = record_of(&mut proxy, "/events", "GET");
    assert_eq!((&lost["decision"], &lost["rule"]["name"]), (&json!("allowed"), &json!("producer")), "{lost}");
    assert_eq!(lost["shadow"], json!({ "change": "newly_denied", "decision": "denied", "rule": null }));
    let frozen = record_of(&mut proxy, "/events", "DELETE");
    assert_eq!(frozen["shadow"]["rule"]["name"], "freeze", "{frozen}");
    assert!(frozen["shadow"]["rule"]["file"].as_str().unwrap().ends_with("next.yaml"), "{frozen}");
    let won = record_of(&mut proxy, "/events", "GET");
    assert_eq!((&won["decision"], &won["shadow"]["change"]), (&json!("denied"), &json!("newly_allowed")));
    assert_eq!(record_of(&mut proxy, "/readable", "GET")["shadow"], Value::Null, "both policies allow it");

    let counted = [("newly_denied", "producer"), ("newly_denied", "freeze"), ("newly_allowed", "consumer")];
    for (change, rule) in counted {
        assert_eq!(differences(&proxy, change, rule), 1.0, "{change} {rule}");
    }
    let status = proxy.admin.status()["shadow"].clone();
    assert_eq!(status["problems"], 0, "{status}");
    let listed: Vec<_> = status["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| difference["rule"].clone())
        .collect();
    assert_eq!(listed, ["consumer", "freeze", "producer"], "{status}");
    let last = &status["recent"][0];
    assert_eq!((&last["method"], &last["path"]), (&json!("GET"), &json!("/events")), "{status}");
    assert_eq!(
        (&last["decision"]["decision"], &last["shadow"]["decision"]),
        (&json!("denied"), &json!("allowed"))
    );
    assert_eq!(status["recent"].as_array().unwrap().len(), 3);
}

#[test]
fn a_mistake_in_a_shadow_policy_is_reported_and_changes_nothing_else() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("shadow_policies", "next.yaml");
    let mut proxy = setup.start();
    let served = |proxy: &Proxy| proxy.producer().connect(proxy.address).unwrap().get("/x").unwrap().status;
    assert_eq!(served(&proxy), 200, "without the file");
    let status = proxy.admin.status()["shadow"].clone();
    assert_eq!((&status["problems"], &status["since"]), (&json!(1), &Value::Null), "{status}");

    write_policy(&proxy, "next.yaml", EMPTY);
    eventually("the shadow", || proxy.admin.status()["shadow"]["since"].clone(), Value::is_string);
    assert_eq!(served(&proxy), 200);
    assert_eq!(differences(&proxy, "newly_denied", "producer"), 1.0);

    // A mistake in the shadow policy, together with a change of the enforced policy.
    write_policy(&proxy, "next.yaml", &POLICY.replace("[everything]", "[everythin]"));
    write_policy(&proxy, "policy.yaml", &POLICY.replace("little", "some"));
    let attempt = proxy.admin.reload();
    let codes: Vec<_> = attempt["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|diagnostic| diagnostic["code"].clone())
        .collect();
    assert_eq!(codes, ["shadow-policy", "unknown-name"], "{attempt}");
    assert!(attempt["diagnostics"][1]["file"].as_str().unwrap().ends_with("next.yaml"), "{attempt}");
    assert_eq!(attempt["outcome"], "applied");
    let success = |part| proxy.admin.metrics().labelled("sidegate_reload_success", &[("part", part)]);
    assert_eq!((success("policies"), success("shadow_policies")), (1.0, 0.0));
    assert_eq!(proxy.admin.status()["shadow"]["problems"], 1);
    assert_eq!(served(&proxy), 200);
    assert_eq!(
        differences(&proxy, "newly_denied", "producer"),
        2.0,
        "the last valid shadow policy is still judged"
    );

    // A new shadow policy starts the counts of the status again; counters of metrics only grow.
    write_policy(&proxy, "next.yaml", POLICY);
    proxy.admin.reload();
    assert_eq!(served(&proxy), 200);
    let status = proxy.admin.status()["shadow"].clone();
    assert_eq!((&status["problems"], &status["differences"]), (&json!(0), &json!([])), "{status}");
    assert_eq!(differences(&proxy, "newly_denied", "producer"), 2.0);
    proxy.setup.config.as_object_mut().unwrap().remove("shadow_policies");
    proxy.setup.write();
    proxy.admin.reload();
    assert_eq!(proxy.admin.status()["shadow"], Value::Null);
}
