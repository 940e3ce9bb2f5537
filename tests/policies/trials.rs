//! A policy can be tried on live traffic before it is enforced: `mode: audit` lets pass what would be 403 and records it, and
//! a shadow policy is judged beside the real one. Neither changes any other answer (DESIGN §6, §8).

use std::fs;

use serde_json::{Value, json};

use crate::support::proxy::{POLICY, run};
use crate::support::{Backend, Proxy, Setup, eventually};

const NOTHING: &str = "version: 1\n";
/// The consumer may do everything but delete; nobody else may do anything.
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

fn audited(setup: Setup) -> Proxy {
    setup.set("mode", "audit").start()
}

fn trial_denials(proxy: &Proxy, rule: &str) -> f64 {
    proxy.admin.metrics().labelled("sidegate_trial_denials_total", &[("rule", rule)])
}

/// Writes the configuration anew with one key more, and has it put in force.
fn reload_with(proxy: &mut Proxy, key: &str, value: impl Into<Value>) -> Value {
    proxy.setup.config[key] = value.into();
    proxy.setup.write();
    proxy.admin.reload()
}

fn policies(proxy: &Proxy, name: &str, text: &str) {
    fs::write(proxy.setup.path(name), text).unwrap();
}

#[test]
fn what_would_be_denied_is_passed_on_and_recorded_as_a_denial() {
    let backend = Backend::ok();
    let mut proxy = audited(Setup::new(&backend.url()).policy(FREEZE));
    let mut producer = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(producer.get("/events").unwrap().text(), "ok");
    let record = proxy.process.audit_where("what no grant allows", |_| true);
    let told = ["decision", "reason", "done", "status", "rule"].map(|field| record[field].clone());
    let expected =
        [json!("denied"), json!("insufficient_permissions"), json!("forwarded"), json!(200), Value::Null];
    assert_eq!(told, expected, "{record}");

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
fn whoever_is_nobody_and_whatever_is_full_is_refused_as_ever() {
    let backend = Backend::ok();
    let mut proxy = audited(Setup::new(&backend.url()).policy(NOTHING).set("limits.max_connections", 1));
    let verdict = |client: crate::support::Client, path: &str| {
        client.connect(proxy.address).unwrap().get(path).unwrap().verdict()
    };
    assert_eq!(verdict(proxy.anonymous(), "/events"), "401 not_authenticated");
    let mut held = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(held.get("/events").unwrap().status, 200);
    assert_eq!(proxy.admin.status()["slots_used"], 1, "it holds a slot like any other");
    assert_eq!(verdict(proxy.producer(), "/events"), "504 server_full");
    assert_eq!(verdict(proxy.producer(), "/a//b"), "400 ambiguous_request");
    let record = proxy.process.audit_where("the full server", |record| record["status"] == 504);
    assert_eq!((&record["decision"], &record["done"]), (&json!("denied"), &json!("server_full")), "{record}");
    let record = proxy.process.audit_where("the ambiguity", |record| record["status"] == 400);
    assert_eq!((&record["decision"], &record["done"]), (&json!("ambiguous"), &json!("ambiguous_request")));
}

#[test]
fn the_mode_changes_without_a_restart_and_what_was_let_pass_ends_with_it() {
    let backend = Backend::streaming();
    let mut proxy = Setup::new(&backend.url()).policy(NOTHING).start();
    let denied = proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(denied.verdict(), "403 insufficient_permissions");
    let attempt = reload_with(&mut proxy, "mode", "audit");
    assert_eq!(attempt["needs_restart"], json!([]), "{attempt}");
    let warning = &attempt["diagnostics"][0];
    assert_eq!((&warning["code"], &warning["severity"]), (&json!("audit-mode"), &json!("warning")));

    let mut stream = proxy.producer().connect(proxy.address).unwrap();
    stream.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_until(b"data: 1\n\n").unwrap();
    // Another snapshot of the same mode is no reason to end it.
    proxy.admin.reload();
    assert_eq!(proxy.admin.status()["in_flight"], 1);
    reload_with(&mut proxy, "mode", "enforce");
    eventually("its end", || proxy.admin.status()["in_flight"].clone(), |used| *used == 0);
    let denied = proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(denied.verdict(), "403 insufficient_permissions");
}

/// From nothing to a policy that is enforced, as an operator goes (DESIGN §7).
#[test]
fn a_first_policy_is_learned_from_what_clients_did() {
    let backend = Backend::ok();
    let deny = "version: 1\ndeny: [{ name: freeze, routes: [\"DELETE /**\"] }]\n";
    let mut proxy = audited(Setup::new(&backend.url()).policy(deny));
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
    policies(&proxy, "policy.yaml", &learned.stdout);
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
fn doctor_and_the_start_say_that_nothing_is_enforced() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("mode", "audit");
    let finished = run(&["doctor", "--config", setup.write().to_str().unwrap()]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("`mode: audit` enforces no policy"), "{finished:?}");
    let mut process =
        crate::support::proxy::Process::spawn(&["run", "--config", setup.write().to_str().unwrap()]);
    process.log_where("the warning", |line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|it| it.starts_with("mode: audit"))
    });
}

fn differences(proxy: &Proxy, change: &str, rule: &str) -> f64 {
    let labels = [("change", change), ("rule", rule)];
    proxy.admin.metrics().labelled("sidegate_shadow_differences_total", &labels)
}

#[test]
fn a_shadow_policy_changes_no_answer_and_every_difference_is_told() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("shadow_policies", "next.yaml").set("workers", 2);
    fs::write(setup.path("next.yaml"), FREEZE).unwrap();
    let mut proxy = setup.start();
    let ask = |client: crate::support::Client, method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        client.connect(proxy.address).unwrap().ask(&request).unwrap().verdict()
    };
    // In force: the producer may do everything, the consumer reads one path.
    assert_eq!(ask(proxy.producer(), "GET", "/events"), "200");
    assert_eq!(ask(proxy.producer(), "DELETE", "/events"), "200");
    assert_eq!(ask(proxy.consumer(), "GET", "/events"), "403 insufficient_permissions");
    assert_eq!(ask(proxy.consumer(), "GET", "/readable"), "200");

    let told = |proxy: &mut Proxy, path: &str, method: &str| {
        let such = |record: &Value| record["path"] == path && record["method"] == method;
        proxy.process.audit_where("the difference", such)
    };
    let lost = told(&mut proxy, "/events", "GET");
    assert_eq!((&lost["decision"], &lost["rule"]["name"]), (&json!("allowed"), &json!("producer")), "{lost}");
    assert_eq!(lost["shadow"], json!({ "change": "newly_denied", "decision": "denied", "rule": null }));
    let frozen = told(&mut proxy, "/events", "DELETE");
    assert_eq!(frozen["shadow"]["rule"]["name"], "freeze", "{frozen}");
    assert!(frozen["shadow"]["rule"]["file"].as_str().unwrap().ends_with("next.yaml"), "{frozen}");
    let won = told(&mut proxy, "/events", "GET");
    assert_eq!((&won["decision"], &won["shadow"]["change"]), (&json!("denied"), &json!("newly_allowed")));
    assert_eq!(told(&mut proxy, "/readable", "GET")["shadow"], Value::Null, "both say yes");

    let counted = [("newly_denied", "producer"), ("newly_denied", "freeze"), ("newly_allowed", "consumer")];
    for (change, rule) in counted {
        assert_eq!(differences(&proxy, change, rule), 1.0, "{change} {rule}");
    }
    let status = proxy.admin.status()["shadow"].clone();
    assert_eq!(status["problems"], 0, "{status}");
    let listed: Vec<_> =
        status["differences"].as_array().unwrap().iter().map(|it| it["rule"].clone()).collect();
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
fn a_mistake_in_a_shadow_policy_is_told_and_touches_nothing_else() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("shadow_policies", "next.yaml");
    let mut proxy = setup.start();
    let served = |proxy: &Proxy| proxy.producer().connect(proxy.address).unwrap().get("/x").unwrap().status;
    assert_eq!(served(&proxy), 200, "without the file");
    let status = proxy.admin.status()["shadow"].clone();
    assert_eq!((&status["problems"], &status["since"]), (&json!(1), &Value::Null), "{status}");

    policies(&proxy, "next.yaml", NOTHING);
    eventually("the shadow", || proxy.admin.status()["shadow"]["since"].clone(), Value::is_string);
    assert_eq!(served(&proxy), 200);
    assert_eq!(differences(&proxy, "newly_denied", "producer"), 1.0);

    // A mistake in it, and a change of the real one beside it.
    policies(&proxy, "next.yaml", &POLICY.replace("[everything]", "[everythin]"));
    policies(&proxy, "policy.yaml", &POLICY.replace("little", "some"));
    let attempt = proxy.admin.reload();
    let codes: Vec<_> =
        attempt["diagnostics"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
    assert_eq!(codes, ["shadow-policy", "unknown-name"], "{attempt}");
    assert!(attempt["diagnostics"][1]["file"].as_str().unwrap().ends_with("next.yaml"), "{attempt}");
    assert_eq!(attempt["outcome"], "applied");
    let success = |part| proxy.admin.metrics().labelled("sidegate_reload_success", &[("part", part)]);
    assert_eq!((success("policies"), success("shadow_policies")), (1.0, 0.0));
    assert_eq!(proxy.admin.status()["shadow"]["problems"], 1);
    assert_eq!(served(&proxy), 200);
    assert_eq!(differences(&proxy, "newly_denied", "producer"), 2.0, "the one before it is still judged");

    // What is compared anew is counted anew in the status; counters only grow.
    policies(&proxy, "next.yaml", POLICY);
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
