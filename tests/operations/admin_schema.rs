//! Every answer of the admin listener follows `deploy/admin-api.schema.json` (DESIGN §8).

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::admin_api::{POLICY, chain_of, explain};

use crate::support::http1::Wire;
use crate::support::schema::violations;
use crate::support::{Backend, Setup, eventually};

/// Returns the differences between an answer and its definition.
fn violations_of(schema: &Value, path: &str, answer: &Value) -> Vec<String> {
    let mut schema = schema.clone();
    schema["$ref"] = format!("#/$defs/{}", path.replace('/', "~1")).into();
    violations(&schema, answer)
}

/// The schema has exactly the keys of the answers.
#[test]
fn every_answer_follows_its_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../deploy/admin-api.schema.json")).unwrap();
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).policy(POLICY).set("shadow_policies", "next.yaml");
    fs::write(setup.path("next.yaml"), POLICY.split("deny:").next().unwrap()).unwrap();
    let proxy = setup.start();
    let mut producer = proxy.connect();
    producer.get("/events").unwrap();
    producer.post("/events", "").unwrap();
    proxy.client(&proxy.pki().expired()).connect(proxy.address).unwrap().get("/events").unwrap();
    fs::write(proxy.setup.path("policy.yaml"), "version: 2").unwrap();
    proxy.admin.refused_reload();
    eventually("a sample", || proxy.admin.get("/api/now").json(), |now| now["sample"].is_object());
    let refusals = proxy.admin.get("/api/refusals").json();
    let id = |index: usize| refusals["refusals"][index]["request_id"].as_str().unwrap().to_owned();
    let paths_with_queries = [
        "/api/now".to_owned(),
        "/api/history".to_owned(),
        "/api/refusals".to_owned(),
        format!("/api/refusal?id={}", id(0)),
        format!("/api/refusal?id={}", id(1)),
        "/api/policy".to_owned(),
        "/api/matrix".to_owned(),
        "/api/grant?client=reports&permission=reports:export".to_owned(),
        "/api/grant?client=order-service&permission=events:publish".to_owned(),
        "/api/grant?client=reports&permission=events:read".to_owned(),
        "/api/client?name=reports".to_owned(),
        "/api/trust".to_owned(),
        "/api/shadow".to_owned(),
        "/connections".to_owned(),
    ];
    let mut answered: BTreeSet<&str> = BTreeSet::new();
    for question in &paths_with_queries {
        let path = question.split('?').next().unwrap();
        assert_eq!(
            violations_of(&schema, path, &proxy.admin.get(question).json()),
            Vec::<String>::new(),
            "{question}"
        );
        answered.insert(path);
    }
    let certificate = chain_of(&proxy.pki().producer);
    let asked = [
        json!({ "certificate": certificate, "method": "GET", "path": "/events" }),
        json!({ "client": "common_name=a", "method": "GET", "path": "/events" }),
        json!({ "edited": { (proxy.setup.path("policy.yaml").to_str().unwrap()): "version: 3" } }),
    ];
    for question in asked {
        let answer = explain(proxy.admin, &question);
        assert_eq!(
            violations_of(&schema, "/api/explain", &answer),
            Vec::<String>::new(),
            "{question}: {answer}"
        );
    }
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    wire.send(format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin.address)).unwrap();
    wire.head().unwrap();
    let event = String::from_utf8(wire.read_until(b"\n\n").unwrap()).unwrap();
    let data = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
    assert_eq!(violations_of(&schema, "/api/events", &data), Vec::<String>::new());
    answered.extend(["/api/explain", "/api/events"]);
    let paths = schema["$defs"].as_object().unwrap().keys().filter(|name| name.starts_with('/'));
    assert_eq!(paths.map(String::as_str).collect::<BTreeSet<_>>(), answered);
}
