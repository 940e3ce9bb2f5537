//! The playground of the admin listener answers questions about the running policy and about edited ones (DESIGN §8).

use serde_json::{Value, json};
use sidegate::demo::pki::Credential;

use super::admin_api::{POLICY, chain_of, explain, proxy};

use crate::support::Backend;

#[test]
fn the_playground_asks_the_running_policy_and_the_running_trust() {
    let backend = Backend::ok();
    let proxy = proxy(&backend);
    let example = proxy.admin.get("/api/client?name=order-service").json();
    let client = example["example"].as_str().unwrap();
    assert!(client.contains("uri=spiffe://shop.example/ns/orders/sa/"), "{client}");
    let question = json!({ "client": client, "method": "GET", "path": "/events/17" });
    let answer = explain(proxy.admin, &question);
    assert_eq!(
        (&answer["explanation"]["decision"], &answer["explanation"]["rule"]["name"]),
        (&json!("allow"), &json!("order-service"))
    );
    assert!(answer["explanation"]["grants"].to_string().contains("GET /events/{id}"), "{answer}");

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
        let answer = judged(&credential);
        assert_eq!(answer["certificate"]["valid"], false);
        assert!(answer["certificate"]["detail"].as_str().unwrap().contains(word), "{answer}");
    }
    let later = json!({ "certificate": chain_of(&pki.producer), "at": "2999-01-01T00:00:00Z", "method": "GET", "path": "/events" });
    assert_eq!(explain(proxy.admin, &later)["certificate"]["valid"], false);
    let junk = explain(proxy.admin, &json!({ "certificate": "junk", "method": "GET", "path": "/" }));
    assert_eq!((&junk["certificate"]["valid"], &junk["explanation"]), (&json!(false), &Value::Null));

    for (wrong, part) in [
        (json!({ "client": client, "method": "GET", "path": "/a/../b" }), "is never judged"),
        (json!({ "client": "colour=red", "method": "GET", "path": "/" }), "unknown key `colour`"),
    ] {
        let answer = explain(proxy.admin, &wrong);
        assert!(answer["unexplained"].as_str().unwrap().contains(part), "{answer}");
    }
    assert_eq!(proxy.admin.ask("POST", "/api/explain", "", "{\"who\":1}").status, 400);
    assert_eq!(proxy.admin.get("/api/explain").status, 405);
}

#[test]
fn an_edited_policy_is_checked_and_never_applied() {
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
    // The running policy has not changed.
    let mut producer = proxy.connect();
    assert_eq!(producer.post("/events", "").unwrap().status, 403);
    assert_eq!(proxy.admin.status()["generation"], 1);
}
