//! A configuration with mistakes is not applied in part: every mistake is reported with its place and a remedy, and the
//! process ends with exit code 2. Nothing fails open (DESIGN §6).

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::backend::RefusingPort;
use crate::support::proxy::{ProgramOutput, run};
use crate::support::{Backend, Proxy, Setup};

const NOWHERE: &str = "http://127.0.0.1:9";

/// Asserts that the program ended with exit code 2, and that its messages have all these parts.
#[track_caller]
fn assert_refused(finished: &ProgramOutput, parts: &[&str]) {
    assert_eq!(finished.code, Some(2), "{finished:?}");
    for part in parts {
        assert!(finished.stderr.contains(part), "`{part}` is not in:\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("\"ready\""), "{}", finished.stderr);
}

#[test]
fn a_usual_configuration_is_accepted() {
    let backend = Backend::ok();
    Proxy::in_front_of(&backend.url());
}

#[test]
fn a_missing_configuration_is_refused() {
    assert_refused(&run(&["run", "--config", "/nowhere/sidegate.yaml"]), &["/nowhere/sidegate.yaml"]);
}

#[test]
fn a_missing_client_ca_is_refused() {
    let mut setup = Setup::new(NOWHERE);
    setup.config["tls"].as_object_mut().unwrap().remove("client_ca");
    assert_refused(&setup.run(), &["client_ca"]);
}

/// Case 29.
#[test]
fn a_client_ca_that_is_missing_empty_or_no_certificate_is_refused() {
    let setup = Setup::new(NOWHERE).set("tls.client_ca", "missing.crt");
    assert_refused(&setup.run(), &["missing.crt", "sidegate.yaml"]);
    let setup = Setup::new(NOWHERE);
    for content in ["", "not PEM at all", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(setup.path("client-ca.crt"), content).unwrap();
        assert_refused(&setup.run(), &["client-ca.crt"]);
    }
    fs::remove_file(setup.path("client-ca.crt")).unwrap();
    fs::create_dir(setup.path("client-ca.crt")).unwrap();
    assert_refused(&setup.run(), &["client-ca.crt"]);
}

/// Case 29.
#[test]
fn a_key_that_does_not_fit_the_certificate_is_refused() {
    let setup = Setup::new(NOWHERE);
    setup.pki.producer.write(setup.folder.path(), "other").unwrap();
    assert_refused(&setup.set("tls.key", "other.key").run(), &["other.key"]);
}

#[test]
fn an_empty_key_and_an_empty_certificate_are_refused() {
    let setup = Setup::new(NOWHERE);
    fs::write(setup.path("server.key"), "").unwrap();
    fs::write(setup.path("server.crt"), "").unwrap();
    assert_refused(&setup.run(), &["server.key", "server.crt"]);
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let setup = Setup::new(NOWHERE);
    fs::set_permissions(setup.path("server.key"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(setup.path("server.key")).is_ok() {
        // Root can read every file, but not a folder in the place of a file.
        fs::remove_file(setup.path("server.key")).unwrap();
        fs::create_dir(setup.path("server.key")).unwrap();
    }
    assert_refused(&setup.run(), &["server.key"]);
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let backend = Backend::ok();
    assert_refused(&Setup::new(&backend.url()).set("listen", address.as_str()).run(), &[&address]);
    assert_refused(&Setup::new(&backend.url()).set("admin.listen", address.as_str()).run(), &[&address]);
}

#[test]
fn a_missing_policy_is_refused() {
    let mut setup = Setup::new(NOWHERE);
    setup.config.as_object_mut().unwrap().remove("policies");
    assert_refused(&setup.run(), &["policies"]);
    assert_refused(&Setup::new(NOWHERE).set("policies", "missing.yaml").run(), &["missing.yaml"]);
}

#[test]
fn an_empty_policy_denies_everything_and_says_so() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).policy("version: 1\n").start();
    let log = proxy.process.log();
    assert!(log.contains("every request will be denied"), "{log}");
    let answer = proxy.connect().get("/events").unwrap();
    assert_eq!(answer.verdict(), "403 insufficient_permissions");
}

#[test]
fn a_mistake_in_a_policy_is_shown_with_its_place_and_a_suggestion() {
    let setup = Setup::new(NOWHERE).policy(
        "version: 1\npermissions:\n  read: [GET /events]\nroles:\n  writer: [read]\nclients:\n  - name: a\n    match: { common_name: a }\n    roles: [writter]\n",
    );
    assert_refused(&setup.run(), &["policy.yaml:9:", "`writter`", "did you mean `writer`?"]);
}

#[test]
fn an_unknown_key_is_shown_with_its_place_and_a_suggestion() {
    let mut setup = Setup::new(NOWHERE);
    setup.config["limits"] = serde_json::json!({ "max_conections": 7 });
    assert_refused(&setup.run(), &["sidegate.yaml:", "`max_conections`", "max_connections"]);
}

#[test]
fn several_mistakes_are_all_shown_at_once() {
    let setup = Setup::new("ftp://nowhere")
        .set("listen", "not an address")
        .set("backend.connect_timeout", "soon")
        .set("limits.max_connections", -1)
        .set("log.level", "loud")
        .set("surprise", true);
    let all = ["not an address", "soon", "max_connections", "loud", "surprise", "ftp://nowhere"];
    assert_refused(&setup.run(), &all);
}

#[test]
fn several_bad_files_are_all_shown_at_once() {
    let setup = Setup::new(NOWHERE).set("tls.client_ca", "no-ca.crt").policy("version: 1\nrols: {}\n");
    fs::write(setup.path("server.crt"), "").unwrap();
    fs::write(setup.path("server.key"), "").unwrap();
    assert_refused(&setup.run(), &["no-ca.crt", "server.crt", "server.key", "policy.yaml:2:1", "`rols`"]);
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (key, value) in [
        ("limits.max_connections", Value::from(0)),
        ("limits.max_connections", Value::from("many")),
        ("backend.response_timeout", Value::from("0s")),
        ("backend.response_timeout", Value::from(30)),
        ("drain_timeout", Value::from("-1s")),
        ("log.level", Value::from("loud")),
        ("tls", Value::from("on")),
    ] {
        let name = key.rsplit('.').next().unwrap();
        assert_refused(&Setup::new(NOWHERE).set(key, value).run(), &["sidegate.yaml:", name]);
    }
}

#[test]
fn text_that_is_not_yaml_is_shown_with_its_file() {
    let setup = Setup::new(NOWHERE);
    let file = setup.write();
    for text in ["listen: [", "", "- a\n- list\n", "listen: 127.0.0.1:0\nlisten: 127.0.0.1:0\n", "\u{0}"] {
        fs::write(&file, text).unwrap();
        assert_refused(&run(&["run", "--config", file.to_str().unwrap()]), &["sidegate.yaml"]);
    }
}

#[test]
fn a_backend_that_is_down_at_the_start_is_a_504_and_not_a_mistake() {
    let backend = RefusingPort::new();
    let proxy = Proxy::in_front_of(&backend.url());
    let answer = proxy.connect().get("/events").unwrap();
    assert_eq!(answer.verdict(), "504 backend_unavailable");
}

#[test]
fn mistakes_on_the_command_line_are_refused() {
    for arguments in
        [&["run"][..], &["run", "--config"], &["walk"], &[], &["run", "--config", "a", "--surprise"]]
    {
        let finished = run(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.stdout.is_empty() && !finished.stderr.is_empty(), "{arguments:?}: {finished:?}");
    }
}
