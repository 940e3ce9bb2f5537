//! The admin listener shows operators the refusals, the open connections, the permissions and the last minutes (DESIGN §8).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sidegate::demo::pki::{Credential, pem};

use crate::support::admin::Admin;
use crate::support::http1::Wire;
use crate::support::{Backend, DEADLINE, Proxy, Setup, eventually};

pub const POLICY: &str = r#"version: 1
permissions:
  events:read:
    - GET /events
    - GET /events/{id}
  events:publish:
    - POST /events
  reports:export:
    - route: GET /reports/{name}
      query: { format: [csv] }
      headers: { X-Purpose: [audit] }
roles:
  producer: ["events:*"]
clients:
  - name: order-service
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    roles: [producer]
  - name: reports
    match: { uri: "spiffe://shop.example/ns/reports/sa/*" }
    permissions: [reports:export]
deny:
  - name: publishing-freeze
    permissions: [events:publish]
  - name: by-mode
    routes: [{ route: POST /**, headers: { X-Mode: batch } }]
"#;

pub fn proxy(backend: &Backend) -> Proxy {
    Setup::new(&backend.url()).policy(POLICY).start()
}

/// Asks the playground.
pub fn explain(admin: Admin, question: &Value) -> Value {
    let answer = admin.ask("POST", "/api/explain", "", &question.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

pub fn chain_of(credential: &Credential) -> String {
    credential.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
}

#[test]
fn a_refusal_is_kept_and_explained_as_by_policy_explain() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let mut consumer = proxy.consumer().connect(proxy.address).unwrap();
    let id = |answer: &Value| answer["request_id"].as_str().unwrap().to_owned();
    let missed = id(&consumer.get("/events/17").unwrap().json());
    let secret = "/reports/a?format=pdf&token=s3cr3t";
    let by_query = id(&consumer.get(secret).unwrap().json());
    let header =
        "GET /reports/a?format=csv HTTP/1.1\r\nHost: localhost\r\nX-Purpose: fun\r\nCookie: s3cr3t\r\n\r\n";
    let by_header = id(&consumer.ask(header).unwrap().json());
    let mut producer = proxy.connect();
    let forbidden = id(&producer.post("/events", "").unwrap().json());
    let expired = proxy.client(&proxy.pki().expired());
    let invalid = id(&expired.connect(proxy.address).unwrap().get("/events").unwrap().json());

    let list = proxy.admin.get("/api/refusals").json();
    let ids: Vec<_> = list["refusals"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, [&invalid, &forbidden, &by_header, &by_query, &missed].map(Clone::clone));
    let newest = &list["refusals"][0];
    assert_eq!((&newest["status"], &newest["authenticated"]), (&json!(401), &json!(false)));
    assert!(newest["client"].as_str().unwrap().contains("order-producer"), "{newest}");
    assert!(newest["detail"].as_str().unwrap().contains("expired"), "{newest}");
    assert_eq!(list["refusals"][1]["rule"]["name"], "publishing-freeze");

    let found = |query: &str| {
        proxy.admin.get(&format!("/api/refusals?{query}")).json()["refusals"].as_array().unwrap().len()
    };
    assert_eq!((found("q=REPORTS+get"), found("reason=403"), found("reason=invalid_certificate")), (2, 4, 1));
    assert_eq!((found("q=nothing"), found("limit=2")), (0, 2));

    let explained = |id: &str| proxy.admin.get(&format!("/api/refusal?id={id}")).json();
    let near = explained(&missed);
    let miss = &near["explanation"]["near_misses"][0];
    assert_eq!((&miss["name"], &miss["permission"]), (&json!("order-service"), &json!("events:read")));
    assert!(miss["because"].as_str().unwrap().contains("ns/reports/sa"), "{miss}");
    let unmet = explained(&by_query).to_string();
    assert!(unmet.contains("the query parameter `format`"), "{unmet}");
    let unmet = explained(&by_header).to_string();
    assert!(unmet.contains("the header `x-purpose`"), "{unmet}");
    assert_eq!(explained(&forbidden)["explanation"]["rule"]["name"], "publishing-freeze");
    assert!(explained(&invalid)["unexplained"].as_str().unwrap().contains("not authenticated"));
    assert_eq!(proxy.admin.get("/api/refusal?id=none").status, 404);
    // Secrets of a client are not shown.
    for answer in [list.to_string(), explained(&by_query).to_string(), explained(&by_header).to_string()] {
        assert!(!answer.contains("s3cr3t"), "{answer}");
    }
}

#[test]
fn open_connections_are_listed_with_their_clients() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let mut producer = proxy.connect();
    producer.get("/events").unwrap();
    producer.get("/events").unwrap();
    let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
    stranger.get("/events").unwrap();
    let _silent = std::net::TcpStream::connect(proxy.address).unwrap();
    let all = eventually(
        "three connections at rest",
        || proxy.admin.get("/connections").json(),
        |all| all["total"] == 3 && !all.to_string().contains("busy"),
    );
    let of = |state: &str| -> Vec<&Value> {
        all["connections"].as_array().unwrap().iter().filter(|one| one["state"] == state).collect()
    };
    let [first, second] = of("idle")[..] else { panic!("{all}") };
    assert_eq!(
        (&first["slot"], &first["requests"], &first["grants"]),
        (&json!(true), &json!(2), &json!(["order-service"]))
    );
    assert!(first["client"].as_str().unwrap().contains("order-producer"), "{first}");
    assert!(first["valid_until"].is_string() && first["protocol"] == "HTTP/1.1", "{first}");
    assert_eq!((&second["slot"], &second["client"]), (&json!(false), &Value::Null));
    assert!(second["unauthenticated"].as_str().unwrap().contains("certificate"), "{second}");
    assert_eq!(of("handshake").len(), 1, "{all}");
    let found = proxy.admin.get("/connections?q=ORDER-service+slot").json();
    assert_eq!((&found["matching"], &found["total"]), (&json!(1), &json!(3)));
}

#[test]
fn the_matrix_shows_the_permissions_of_each_client_and_their_origin() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let matrix = proxy.admin.get("/api/matrix").json();
    assert_eq!(matrix["permissions"], json!(["events:read", "events:publish", "reports:export"]));
    let cells = |client: usize| matrix["clients"][client]["cells"].clone();
    assert_eq!(cells(0), json!({ "0": "granted", "1": "denied" }));
    assert_eq!(cells(1), json!({ "2": "conditional" }));
    let grant = |client: &str, permission: &str| {
        proxy.admin.get(&format!("/api/grant?client={client}&permission={permission}")).json()
    };
    let denied = grant("order-service", "events%3Apublish");
    assert_eq!((&denied["state"], &denied["roles"]), (&json!("denied"), &json!(["producer"])));
    assert_eq!(denied["denies"][0]["name"], "publishing-freeze");
    assert_eq!(denied["denies"][0]["if"], json!([]), "{denied}");
    assert_eq!(denied["denies"][1]["if"], json!(["the header `x-mode` is `batch`"]), "{denied}");
    let conditional = grant("reports", "reports:export");
    assert!(
        conditional["routes"][0]["conditions"].to_string().contains("`format` is `csv`"),
        "{conditional}"
    );
    assert_eq!(grant("reports", "events:read"), json!({ "state": null }));
    let found = proxy.admin.get("/api/matrix?q=shop.example+reports").json();
    assert_eq!((&found["matching"], &found["total"]), (&json!(1), &json!(2)));
    let policy = proxy.admin.get("/api/policy").json();
    assert_eq!(policy["files"][0]["text"], POLICY);
}

#[test]
fn the_matrix_of_ten_thousand_clients_has_pages_and_a_search() {
    let backend = Backend::ok();
    let mut policy = String::from("version: 1\npermissions: { read: [GET /events] }\nclients:\n");
    for number in 0..10_000 {
        policy += &format!(
            "  - {{ name: client-{number}, match: {{ common_name: c{number} }}, permissions: [read] }}\n"
        );
    }
    let proxy = Setup::new(&backend.url()).policy(&policy).start();
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    // A debug build on a busy machine answers slowly.
    wire.stream.set_read_timeout(Some(6 * DEADLINE)).unwrap();
    let page = wire.get("/api/matrix?offset=9900").unwrap();
    assert!(page.body.len() < 100_000, "{} bytes", page.body.len());
    let page = page.json();
    assert_eq!((&page["total"], &page["matching"]), (&json!(10_000), &json!(10_000)));
    assert_eq!(page["clients"][99]["name"], "client-9999");
    let found = proxy.admin.get("/api/matrix?q=client-9998").json();
    assert_eq!((&found["matching"], &found["clients"][0]["name"]), (&json!(1), &json!("client-9998")));
}

#[test]
fn the_last_minutes_are_kept() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let mut producer = proxy.connect();
    producer.get("/events").unwrap();
    producer.post("/events", "").unwrap();
    let sum = |history: &Value, reason: &str| -> u64 {
        history["decisions"][reason].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
    };
    let history = eventually(
        "a sample of both",
        || proxy.admin.get("/api/history").json(),
        |history| sum(history, "permitted") == 1 && sum(history, "insufficient_permissions") == 1,
    );
    assert_eq!(history["slots_used"].as_array().unwrap().last(), Some(&json!(1)));
    let now = proxy.admin.get("/api/now").json();
    let headline = now["headlines"][0]["text"].as_str().unwrap();
    assert!(headline.starts_with("1 refusal in the last minute: `publishing-freeze` denies "), "{headline}");
    let trust = proxy.admin.get("/api/trust").json();
    let kinds: BTreeSet<&str> =
        trust["expires"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["ca", "server"]));
}

#[test]
fn events_show_refusals_as_they_happen() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    wire.send(format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin.address)).unwrap();
    let head = wire.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    let mut next = || {
        let text = String::from_utf8(wire.read_until(b"\n\n").unwrap()).unwrap();
        let (_, data) = text.split_once("event: now\ndata: ").unwrap_or_else(|| panic!("{text}"));
        serde_json::from_str::<Value>(data).unwrap()
    };
    assert_eq!(next()["refusals"], json!([]));
    let answer = proxy.consumer().connect(proxy.address).unwrap().get("/events");
    let id = answer.unwrap().json()["request_id"].clone();
    let event = std::iter::repeat_with(next).find(|event| event["refusals"] != json!([])).unwrap();
    assert_eq!(event["refusals"][0]["request_id"], id);
}

/// Connections for probes are reserved.
#[test]
fn viewers_of_events_leave_connections_for_probes() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let listen = || {
        let mut wire = Wire::plain(proxy.admin.address).unwrap();
        wire.send(format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin.address)).unwrap();
        let status = wire.head().unwrap().status;
        (status, wire)
    };
    let listeners: Vec<_> = (0..20).map(|_| listen()).collect();
    let statuses: Vec<u16> = listeners.iter().map(|(status, _)| *status).collect();
    assert_eq!((statuses.iter().filter(|status| **status == 200).count(), statuses[19]), (16, 503));
    assert_eq!(proxy.admin.get("/livez").status, 200);
    drop(listeners);
    eventually("a connection is free again", || listen().0, |status| *status == 200);
}
