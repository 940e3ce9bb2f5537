//! What operators ask the admin listener beyond health and counts: who may, and what they are told.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use sidegate::demo::pki::{Credential, pem};

use crate::support::admin::Admin;
use crate::support::http1::Wire;
use crate::support::schema::violations;
use crate::support::{Backend, Client, DEADLINE, Proxy, Setup, eventually};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const POLICY: &str = r#"version: 1
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

fn proxy(backend: &Backend) -> Proxy {
    Setup::new(&backend.url()).policy(POLICY).start()
}

/// A question to the playground.
fn explain(admin: Admin, question: &Value) -> Value {
    let answer = admin.ask("POST", "/api/explain", "", &question.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn chain_of(credential: &Credential) -> String {
    credential.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
}

#[test]
fn a_listener_that_others_can_reach_wants_its_token_for_all_that_says_more_than_health() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("admin.listen", "0.0.0.0:0").set("admin.token_file", "token");
    fs::write(setup.path("token"), format!("{TOKEN}\n")).unwrap();
    let proxy = setup.start();
    let admin = Admin { address: SocketAddr::from(([127, 0, 0, 1], proxy.admin.address.port())) };
    let asked = |path: &str, token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        admin.ask("GET", path, &header, "").status
    };
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(admin.get(path).status, 200, "{path}");
    }
    let guarded = ["/status", "/connections", "/api/now", "/api/refusals", "/api/policy", "/api/events"];
    for path in guarded {
        let refused = admin.get(path);
        assert_eq!((refused.status, refused.header("www-authenticate").is_some()), (401, true), "{path}");
        assert_eq!(asked(path, &TOKEN[1..]), 401, "{path}");
    }
    assert_eq!(
        (asked("/status", TOKEN), asked("/connections", TOKEN), asked("/api/now", TOKEN)),
        (200, 200, 200)
    );
    let reload = |token: &str| admin.post("/reload", &format!("Authorization: Bearer {token}\r\n")).status;
    assert_eq!((admin.post("/reload", "").status, reload(TOKEN)), (401, 200));

    // Another one is read by a reload, and from then on the old one is none.
    let next = TOKEN.to_uppercase();
    fs::write(proxy.setup.path("token"), &next).unwrap();
    assert_eq!(reload(TOKEN), 200);
    assert_eq!((asked("/status", TOKEN), asked("/status", &next)), (401, 200));
    // One that could be guessed is refused, and the one before stays.
    fs::write(proxy.setup.path("token"), "short").unwrap();
    assert_eq!(reload(&next), 422);
    assert_eq!(asked("/status", &next), 200);
}

#[test]
fn a_token_that_is_none_keeps_it_from_starting() {
    let setup = Setup::new("http://127.0.0.1:1").set("admin.token_file", "token");
    for (token, said) in [("short", "fewer than 16"), ("with spaces that nobody can send", "spaces")] {
        fs::write(setup.path("token"), token).unwrap();
        let finished = setup.run();
        assert_eq!(finished.code, Some(2));
        assert!(
            finished.stderr.contains(said) && finished.stderr.contains("token_file"),
            "{}",
            finished.stderr
        );
    }
}

/// What a browser of this machine can be made to ask by a page of a stranger's.
#[test]
fn pages_of_strangers_learn_nothing_and_have_nothing_done() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let address = proxy.admin.address;
    let ask = |request: &str, host: &str, headers: &str| {
        let request = format!("{request} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 0\r\n\r\n");
        Wire::plain(address).and_then(|mut wire| wire.ask(&request)).unwrap().status
    };
    let own = address.to_string();
    for path in ["/status", "/connections", "/api/policy"] {
        let get = format!("GET {path}");
        assert_eq!(ask(&get, &own, ""), 200);
        assert_eq!(ask(&get, "rebound.evil.example", ""), 403, "{path}");
        assert_eq!(ask(&get, &own, "Origin: https://evil.example\r\n"), 403, "{path}");
        assert_eq!(ask(&get, &own, "Sec-Fetch-Site: cross-site\r\n"), 403, "{path}");
    }
    let same = format!("Origin: http://{own}\r\n");
    assert_eq!(ask("POST /reload", &own, "Origin: https://evil.example\r\n"), 403);
    assert_eq!(ask("POST /reload", "rebound.evil.example", ""), 403);
    assert_eq!(ask("POST /reload", &own, &same), 403);
    let session = proxy.admin.get("/api/session").json();
    let page = session["page"].as_str().unwrap();
    assert_eq!(ask("POST /reload", &own, &format!("{same}X-Sidegate-Page: {page}\r\n")), 200);
}

#[test]
fn a_refusal_is_kept_and_explained_as_policy_explain_would() {
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
    assert!(unmet.contains("the query's `format`"), "{unmet}");
    let unmet = explained(&by_header).to_string();
    assert!(unmet.contains("the header `x-purpose`"), "{unmet}");
    assert_eq!(explained(&forbidden)["explanation"]["rule"]["name"], "publishing-freeze");
    assert!(explained(&invalid)["unexplained"].as_str().unwrap().contains("not authenticated"));
    assert_eq!(proxy.admin.get("/api/refusal?id=none").status, 404);
    // What a client keeps secret is shown to nobody.
    for answer in [list.to_string(), explained(&by_query).to_string(), explained(&by_header).to_string()] {
        assert!(!answer.contains("s3cr3t"), "{answer}");
    }
}

#[test]
fn open_connections_are_told_with_who_is_on_them() {
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
fn the_matrix_says_who_may_do_what_and_through_what() {
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
fn ten_thousand_clients_stay_usable() {
    let backend = Backend::ok();
    let mut policy = String::from("version: 1\npermissions: { read: [GET /events] }\nclients:\n");
    for number in 0..10_000 {
        policy += &format!(
            "  - {{ name: client-{number}, match: {{ common_name: c{number} }}, permissions: [read] }}\n"
        );
    }
    let proxy = Setup::new(&backend.url()).policy(&policy).start();
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    // A debug build reads so much slowly, on a machine that is busy with other tests.
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
fn the_playground_asks_the_running_policy_and_judges_certificates_by_the_real_trust() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let example = proxy.admin.get("/api/client?name=order-service").json();
    let client = example["example"].as_str().unwrap();
    assert!(client.contains("uri=spiffe://shop.example/ns/orders/sa/"), "{client}");
    let question = json!({ "client": client, "method": "GET", "path": "/events/17" });
    let said = explain(proxy.admin, &question);
    assert_eq!(
        (&said["explanation"]["decision"], &said["explanation"]["rule"]["name"]),
        (&json!("allow"), &json!("order-service"))
    );
    assert!(said["explanation"]["grants"].to_string().contains("GET /events/{id}"), "{said}");

    let pki = proxy.pki();
    let judged = |credential: &Credential| {
        let certificate = chain_of(credential);
        explain(proxy.admin, &json!({ "certificate": certificate, "method": "POST", "path": "/events" }))
    };
    let valid = judged(&pki.producer);
    assert_eq!(valid["certificate"]["valid"], true);
    assert_eq!(valid["certificate"]["identity"]["common_name"], json!(["order-producer"]));
    assert_eq!(valid["explanation"]["rule"]["name"], "publishing-freeze");
    for (credential, word) in
        [(pki.expired(), "expired"), (pki.unknown_ca(), "issue"), (pki.not_yet_valid(), "not valid before")]
    {
        let said = judged(&credential);
        assert_eq!(said["certificate"]["valid"], false);
        assert!(said["certificate"]["detail"].as_str().unwrap().contains(word), "{said}");
    }
    let later = json!({ "certificate": chain_of(&pki.producer), "at": "2999-01-01T00:00:00Z", "method": "GET", "path": "/events" });
    assert_eq!(explain(proxy.admin, &later)["certificate"]["valid"], false);
    let junk = explain(proxy.admin, &json!({ "certificate": "junk", "method": "GET", "path": "/" }));
    assert_eq!((&junk["certificate"]["valid"], &junk["explanation"]), (&json!(false), &Value::Null));

    for (wrong, said) in [
        (json!({ "client": client, "method": "GET", "path": "/a/../b" }), "is never judged"),
        (json!({ "client": "colour=red", "method": "GET", "path": "/" }), "unknown key `colour`"),
    ] {
        let answer = explain(proxy.admin, &wrong);
        assert!(answer["unexplained"].as_str().unwrap().contains(said), "{answer}");
    }
    assert_eq!(proxy.admin.ask("POST", "/api/explain", "", "{\"who\":1}").status, 400);
    assert_eq!(proxy.admin.get("/api/explain").status, 405);
}

#[test]
fn a_policy_that_is_tried_out_is_checked_and_never_applied() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let file = proxy.admin.get("/api/policy").json()["files"][0]["file"].as_str().unwrap().to_owned();
    let client = "uri=spiffe://shop.example/ns/orders/sa/a";
    let tried = |text: &str| {
        let edited = json!({ &file: text });
        explain(
            proxy.admin,
            &json!({ "client": client, "method": "POST", "path": "/events", "edited": edited }),
        )
    };
    assert_eq!(tried(POLICY)["explanation"]["decision"], "deny");
    let without = POLICY.split("deny:").next().unwrap();
    assert_eq!(tried(without)["explanation"]["decision"], "allow");
    let broken = tried(&without.replace("[producer]", "[producr]"));
    assert_eq!((&broken["valid"], &broken["explanation"]), (&json!(false), &Value::Null));
    let problem = &broken["problems"][0];
    assert_eq!((&problem["code"], &problem["line"]), (&json!("unknown-role"), &json!(17)), "{problem}");
    assert!(problem["help"].as_str().unwrap().contains("`producer`"), "{problem}");
    // What runs is as it was.
    let mut producer = proxy.connect();
    assert_eq!(producer.post("/events", "").unwrap().status, 403);
    assert_eq!(proxy.admin.status()["generation"], 1);
}

#[test]
fn the_last_minutes_are_there_for_whoever_looks_now() {
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
fn events_tell_of_refusals_as_they_come() {
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
    let answer =
        Client::presenting(proxy.pki(), &proxy.pki().consumer).connect(proxy.address).unwrap().get("/events");
    let id = answer.unwrap().json()["request_id"].clone();
    let told = std::iter::repeat_with(next).find(|event| event["refusals"] != json!([])).unwrap();
    assert_eq!(told["refusals"][0]["request_id"], id);
}

/// The places of probes are theirs, however many people look.
#[test]
fn who_looks_takes_no_place_of_a_probe() {
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
    eventually("a place is free again", || listen().0, |status| *status == 200);
}

/// What of an answer is not as its definition says.
fn wrong(schema: &Value, path: &str, answer: &Value) -> Vec<String> {
    let mut schema = schema.clone();
    schema["$ref"] = format!("#/$defs/{}", path.replace('/', "~1")).into();
    violations(&schema, answer)
}

/// What is documented is what is answered, to the key.
#[test]
fn every_answer_is_as_its_schema_says() {
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
    let questions = [
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
    for question in &questions {
        let path = question.split('?').next().unwrap();
        assert_eq!(
            wrong(&schema, path, &proxy.admin.get(question).json()),
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
        assert_eq!(wrong(&schema, "/api/explain", &answer), Vec::<String>::new(), "{question}: {answer}");
    }
    let mut wire = Wire::plain(proxy.admin.address).unwrap();
    wire.send(format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin.address)).unwrap();
    wire.head().unwrap();
    let event = String::from_utf8(wire.read_until(b"\n\n").unwrap()).unwrap();
    let data = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
    assert_eq!(wrong(&schema, "/api/events", &data), Vec::<String>::new());
    answered.extend(["/api/explain", "/api/events"]);
    let paths = schema["$defs"].as_object().unwrap().keys().filter(|name| name.starts_with('/'));
    assert_eq!(paths.map(String::as_str).collect::<BTreeSet<_>>(), answered);
}
