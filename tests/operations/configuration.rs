//! The configuration is applied: files and folders, flags and variables over the file, and the destination of audit records
//! (DESIGN §6).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use sidegate::demo::pki::{Authority, pem};

use crate::support::certificates::producer;
use crate::support::proxy::POLICY;
use crate::support::{Backend, Proxy, Setup, eventually};

fn verdict(proxy: &Proxy) -> String {
    proxy.connect().get("/events").unwrap().verdict()
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let backend = Backend::ok();
    let slots = |variable: Option<&str>, flag: Option<&str>| {
        let setup = Setup::new(&backend.url()).set("limits.max_connections", 5);
        let proxy = setup.start_with(|command| {
            command.envs(variable.map(|value| ("SIDEGATE_LIMITS_MAX_CONNECTIONS", value)));
            command.args(flag);
        });
        proxy.admin.metrics().value("sidegate_slots_limit")
    };
    assert_eq!(slots(None, None), 5.0);
    assert_eq!(slots(Some("6"), None), 6.0);
    assert_eq!(slots(Some("6"), Some("--limits-max-connections=7")), 7.0);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).start_with(|command| {
        command.current_dir("/");
    });
    assert_eq!(verdict(&proxy), "200");
}

/// Writes a folder as Kubernetes mounts it: the files are links through `..data`, a link to the folder of one version.
fn write_mounted(folder: &Path, files: &[(&str, &str)]) {
    let version = folder.join("..2026_11_24_03_00_00.1");
    fs::create_dir_all(&version).unwrap();
    symlink(version.file_name().unwrap(), folder.join("..data")).unwrap();
    for (name, text) in files {
        fs::write(version.join(name), text).unwrap();
        symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
}

#[test]
fn volumes_of_kubernetes_are_read_like_other_folders() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("policies", "policies/").set("tls.client_ca", "client-ca/");
    write_mounted(&setup.path("policies"), &[("policy.yaml", POLICY)]);
    let second = Authority::root("second").unwrap();
    let (first_pem, second_pem) =
        (pem("CERTIFICATE", setup.pki.ca.certificate()), pem("CERTIFICATE", second.certificate()));
    write_mounted(&setup.path("client-ca"), &[("ca.crt", &first_pem), ("second.pem", &second_pem)]);
    let proxy = setup.start();
    assert_eq!(verdict(&proxy), "200");
    let credential = second.issue(&producer()).unwrap();
    let answer = proxy.client(&credential).connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn audit_records_go_to_the_configured_destination() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("log.audit", "audit.jsonl").start();
    assert_eq!(verdict(&proxy), "200");
    let read = || fs::read_to_string(proxy.setup.path("audit.jsonl")).unwrap_or_default();
    let text = eventually("the record", read, |text| text.ends_with('\n'));
    let record: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((&record["method"], &record["path"]), (&Value::from("GET"), &Value::from("/events")));

    let mut proxy = Setup::new(&backend.url()).set("log.audit", "none").set("drain_timeout", "100ms").start();
    assert_eq!(verdict(&proxy), "200");
    proxy.process.signal("TERM");
    assert_eq!(proxy.process.exit().code(), Some(0));
    assert_eq!(proxy.process.rest_of_output(), "");
}

#[test]
fn every_audit_record_is_one_line_whatever_a_client_sends() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "100ms").start();
    let mut connection = proxy.connect();
    for target in ["/a%0Ab", "/%22%7B", "/a?secret=hunter2", "/caf%C3%A9"] {
        connection.get(target).unwrap();
    }
    drop(connection);
    proxy.process.signal("TERM");
    assert_eq!(proxy.process.exit().code(), Some(0));
    let output = proxy.process.rest_of_output();
    let records: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 4, "{output}");
    assert!(!output.contains("hunter2"), "queries may hold secrets: {output}");
}
