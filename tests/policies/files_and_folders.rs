//! Policies in files and folders (DESIGN §4).

use std::fs;

use crate::support::{Backend, Proxy, Setup};

fn status(proxy: &Proxy, path: &str) -> u16 {
    proxy.producer().connect(proxy.address).unwrap().get(path).unwrap().status
}

#[test]
fn a_folder_of_policies_is_one_policy() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("policies", "policies");
    fs::create_dir(setup.path("policies")).unwrap();
    let write = |name: &str, text: &str| fs::write(setup.path("policies").join(name), text).unwrap();
    // The role is declared in a later file than its use: the order of files and entries never matters.
    write(
        "10-clients.yaml",
        "version: 1\nclients:\n  - name: a\n    match: { organization: Shop }\n    roles: [reader]\n",
    );
    write("20-roles.yml", "version: 1\npermissions:\n  read: [GET /events]\nroles:\n  reader: [read]\n");
    write("30-deny.yaml", "version: 1\ndeny:\n  - name: not-this\n    routes: [GET /events/secret]\n");
    write("notes.txt", "no policy: [");
    let proxy = setup.start();
    assert_eq!(status(&proxy, "/events"), 200);
    assert_eq!(status(&proxy, "/events/secret"), 403);
    assert_eq!(status(&proxy, "/other"), 403);
}

#[test]
fn a_name_declared_twice_shows_both_places() {
    let setup = Setup::new("http://127.0.0.1:9").set("policies", "policies");
    fs::create_dir(setup.path("policies")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        fs::write(setup.path("policies").join(name), "version: 1\npermissions:\n  read: [GET /events]\n")
            .unwrap();
    }
    let finished = setup.run();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    for part in ["a.yaml:3:", "b.yaml:3:", "`read`"] {
        assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
    }
}

#[test]
fn a_folder_without_a_policy_is_a_mistake() {
    let setup = Setup::new("http://127.0.0.1:9").set("policies", "policies");
    fs::create_dir(setup.path("policies")).unwrap();
    let finished = setup.run();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("policies"), "{}", finished.stderr);
}

#[test]
fn a_deny_rule_beats_every_grant() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url())
        .policy(
            r#"version: 1
permissions:
  everything: ["* /**"]
  danger: ["DELETE /**"]
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [everything]
deny:
  - name: no-deletion
    clients: [producer]
    permissions: [danger]
"#,
        )
        .start();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().status, 200);
    let answer = connection.ask("DELETE /events/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(answer.verdict(), "403 insufficient_permissions");
    assert_eq!(connection.get("/events").unwrap().status, 200, "a refusal does not end the connection");
}
