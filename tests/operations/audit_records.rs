//! Each decision leaves one audit record. Records follow `deploy/audit.schema.json`, are complete across rotations, contain
//! every refusal, and contain no secret (DESIGN §8).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};
use sidegate::demo::pki::Leaf;
use sidegate::refusal::{Fault, ResponseFlaw};
use sidegate::telemetry::{Decision, Done};

use crate::support::http1::Wire;
use crate::support::schema::violations;
use crate::support::{Backend, Proxy, Setup, eventually};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../deploy/audit.schema.json")).unwrap()
}

fn get(proxy: &Proxy, path: &str) {
    assert_eq!(proxy.connect().get(path).unwrap().status, 200);
}

/// Stops the proxy, and returns its records.
fn records(mut proxy: Proxy) -> Vec<Value> {
    proxy.process.signal("INT");
    assert_eq!(proxy.process.exit().code(), Some(0));
    parsed(&proxy.process.rest_of_output())
}

#[track_caller]
fn parsed(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Returns the records of requests of all kinds, under a policy and a shadow policy.
fn records_of_every_kind(mode: &str, backend: &str) -> Vec<Value> {
    let setup = Setup::new(backend)
        .set("mode", mode)
        .set("shadow_policies", "next.yaml")
        .set("limits.max_connections", 1)
        .set("limits.http.body_timeout", "300ms")
        .set("log.audit_query", true);
    fs::write(setup.path("next.yaml"), "version: 1\ndeny: [{ name: freeze, routes: [\"* /**\"] }]\n")
        .unwrap();
    let proxy = setup.start();
    let asks = [proxy.anonymous(), proxy.consumer(), proxy.producer(), proxy.producer()];
    let mut held = Vec::new();
    for client in asks {
        for line in ["GET /events?a=b HTTP/1.1", "GET /a//b HTTP/1.1", "nonsense"] {
            let mut connection = client.connect(proxy.address).unwrap();
            connection.ask(&format!("{line}\r\nHost: localhost\r\n\r\n")).unwrap();
            // The first client with a slot keeps it.
            held.push(connection);
        }
    }
    Wire::plain(proxy.address).unwrap().get("/events").unwrap();
    let upload = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\na";
    // The first permitted connection has the slot; under `mode: audit` it is one of the consumer.
    let with_slot = if mode == "audit" { 3 } else { 6 };
    assert_eq!(held[with_slot].ask(upload).unwrap().status, 408);
    let records = records(proxy);
    assert_eq!(records.len(), 14);
    records
}

#[test]
fn every_record_follows_the_schema() {
    let (schema, backend) = (schema(), Backend::ok());
    let mut seen = BTreeSet::new();
    let mut all = records_of_every_kind("enforce", &backend.url());
    all.extend(records_of_every_kind("audit", &backend.url()));
    for record in &all {
        assert_eq!(violations(&schema, record), Vec::<String>::new(), "{record}");
        seen.insert(record["decision"].as_str().unwrap());
    }
    assert_eq!(seen, Decision::all().map(Decision::outcome).collect(), "a decision of every kind was tried");

    // The schema is strict: a field less, a field more, or a value of another type is a violation.
    let full = all.iter().find(|record| record["shadow"].is_object() && record["rule"].is_object()).unwrap();
    for field in full.as_object().unwrap().keys() {
        let (mut without, mut other) = (full.clone(), full.clone());
        without.as_object_mut().unwrap().remove(field);
        other[field] = json!(true);
        assert!(
            !violations(&schema, &without).is_empty() && !violations(&schema, &other).is_empty(),
            "{field}"
        );
    }
    let mut more = full.clone();
    more["more"] = json!(1);
    assert!(!violations(&schema, &more).is_empty());
}

#[test]
fn the_schema_and_the_documentation_have_the_values_of_the_program() {
    let schema = schema();
    let words = |field: &str| -> BTreeSet<String> {
        let words = schema["properties"][field]["enum"].as_array().unwrap();
        words.iter().filter_map(|word| word.as_str()).map(str::to_owned).collect()
    };
    let known = |word: fn(Decision) -> &'static str| Decision::all().map(word).map(str::to_owned).collect();
    assert_eq!(words("decision"), known(Decision::outcome));
    assert_eq!(words("reason"), known(Decision::reason));
    let names =
        |names: &mut dyn Iterator<Item = &'static str>| names.map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(words("done"), names(&mut Done::all().map(Done::name)));
    let faults = Done::all().filter_map(Done::fault).chain(Decision::all().filter_map(Decision::fault));
    assert_eq!(words("fault"), names(&mut faults.map(Fault::name)));
    assert_eq!(words("cause"), names(&mut ResponseFlaw::ALL.into_iter().map(ResponseFlaw::name)));
    let (_, after) = include_str!("../../deploy/README.md").split_once("## Audit records").unwrap();
    let documented = |head: &str| -> BTreeSet<String> {
        let (_, table) = after.split_once(head).unwrap();
        let rows = table.split("\n\n").next().unwrap().lines();
        let rows = rows.filter_map(|row| row.strip_prefix("| `")?.split_once(" | "));
        rows.flat_map(|(names, _)| names.trim_end_matches('`').split("`, `")).map(str::to_owned).collect()
    };
    assert_eq!(documented("| field |"), schema["properties"].as_object().unwrap().keys().cloned().collect());
    assert_eq!(documented("| `fault` | what it means"), words("fault"));
    assert_eq!(documented("| `cause` | what the backend sends"), words("cause"));
}

#[test]
fn sampling_keeps_a_share_of_the_permits_and_every_refusal() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("log.audit_sample", 0.5).start();
    let mut allowed = proxy.connect();
    let mut denied = proxy.consumer().connect(proxy.address).unwrap();
    for _ in 0..40 {
        assert_eq!(allowed.get("/events").unwrap().status, 200);
        assert_eq!(denied.get("/events").unwrap().status, 403);
    }
    // The share changes without a restart.
    proxy.setup.config["log"] = json!({ "audit_sample": 0 });
    proxy.setup.write();
    assert_eq!(proxy.admin.reload()["needs_restart"], json!([]));
    assert_eq!(allowed.get("/after").unwrap().status, 200);

    let ids = backend.received().into_iter().map(|request| request.header("x-request-id")[0].to_owned());
    let ids: Vec<_> = ids.take(40).collect();
    // A record is kept if the first 16 digits of its id are below the half of all such numbers: the first digit is below 8.
    let expected: BTreeSet<_> = ids.iter().filter(|id| *id.as_str() < *"8").cloned().collect();
    let records = records(proxy);
    let of = |decision: &str| records.iter().filter(|it| it["decision"] == decision).collect::<Vec<_>>();
    let kept: BTreeSet<_> =
        of("allowed").iter().map(|it| it["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kept, expected);
    assert_eq!(of("denied").len(), 40);
}

#[test]
fn no_record_is_lost_or_torn_when_its_file_is_renamed() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("log.audit", "logs/audit.log").set("workers", 2);
    fs::create_dir(setup.path("logs")).unwrap();
    let mut proxy = setup.start();
    let file = proxy.setup.path("logs/audit.log");
    thread::scope(|scope| {
        for _ in 0..2 {
            let client = proxy.producer();
            let address = proxy.address;
            scope.spawn(move || {
                let mut connection = client.connect(address).unwrap();
                (0..200).for_each(|_| assert_eq!(connection.get("/events").unwrap().status, 200));
            });
        }
        for number in 0..6 {
            fs::rename(&file, file.with_extension(number.to_string())).unwrap();
            proxy.process.signal(if number % 2 == 0 { "USR1" } else { "HUP" });
            eventually("the new file", || file.exists(), |exists| *exists);
        }
    });
    proxy.process.signal("INT");
    assert_eq!(proxy.process.exit().code(), Some(0));
    let files = fs::read_dir(file.parent().unwrap()).unwrap();
    let texts: Vec<_> = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(texts.len(), 7);
    let ids = texts.iter().flat_map(|text| parsed(text));
    let recorded: BTreeSet<_> = ids.map(|record| record["request_id"].as_str().unwrap().to_owned()).collect();
    let asked = backend.received().into_iter().map(|request| request.header("x-request-id")[0].to_owned());
    assert_eq!(recorded, asked.collect());
    assert_eq!(recorded.len(), 400);
}

#[test]
fn records_go_to_the_old_file_if_no_new_one_can_be_made() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("log.audit", "logs/audit.log");
    let (folder, moved) = (setup.path("logs"), setup.path("moved"));
    fs::create_dir(&folder).unwrap();
    let mut proxy = setup.start();
    get(&proxy, "/before");
    fs::rename(&folder, &moved).unwrap();
    proxy.process.signal("USR1");
    proxy.process.log_where("the error", |line| {
        line["level"] == "ERROR"
            && line["message"].as_str().is_some_and(|it| it.ends_with("the old one goes on"))
    });
    get(&proxy, "/after");
    let paths = |file: &Path| {
        parsed(&fs::read_to_string(file).unwrap()).iter().map(|it| it["path"].clone()).collect()
    };
    let both = |paths: &Vec<Value>| *paths == ["/before", "/after"];
    eventually("both records", || paths(&moved.join("audit.log")), both);
}

/// SIGUSR1 asks for new files. Without a file, the signal has no effect; its default action would end the process.
#[test]
fn sigusr1_does_not_end_a_process_that_writes_to_standard_output() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    proxy.process.signal("USR1");
    get(&proxy, "/events");
    assert_eq!(records(proxy).len(), 1);
}

#[test]
fn records_have_queries_only_if_configured() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    get(&proxy, "/events?token=secret");
    proxy.setup.config["log"] = json!({ "audit_query": true });
    proxy.setup.write();
    proxy.admin.reload();
    get(&proxy, "/events?token=secret");
    let queries: Vec<_> = records(proxy).iter().map(|it| it["query"].clone()).collect();
    assert_eq!(queries, [Value::Null, json!("token=secret")]);
}

/// A client chooses its path and names. Long ones are cut, and none can add a line to the records.
#[test]
fn a_record_is_one_line_of_limited_length_whatever_a_client_sends() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("log.audit_query", true).start();
    let name = "two\nlines \"quoted\" \u{1b}[2J and \\";
    let odd =
        proxy.pki().issue(&Leaf::client("Shop", name).uri("spiffe://shop.example/ns/orders/sa/odd").unwrap());
    let long = format!("/{}?{}", "p".repeat(5000), "q".repeat(5000));
    proxy.client(&odd).connect(proxy.address).unwrap().get(&long).unwrap();
    let records = records(proxy);
    assert_eq!(records.len(), 1);
    let length = |field: &str| records[0][field].as_str().unwrap().len();
    assert_eq!((length("path"), length("query")), (1024, 1024));
    for (field, start) in [("path", "/ppp"), ("query", "qqq")] {
        let text = records[0][field].as_str().unwrap();
        assert!(text.starts_with(start) && text.ends_with('…'), "a mark says that `{field}` is cut: {text}");
    }
    assert_eq!(records[0]["identity"]["common_name"], json!([name]));
    assert_eq!(violations(&schema(), &records[0]), Vec::<String>::new());
}
