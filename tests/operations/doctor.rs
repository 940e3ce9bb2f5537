//! `sidegate doctor` finds mistakes and coming problems before clients do.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::SystemTime;

use serde_json::Value;
use sidegate::demo::pki::{Authority, Leaf, pem};

use crate::support::certificates::DAY;
use crate::support::proxy::{ProgramOutput, policy_of_two, program, run};
use crate::support::{Backend, Setup};

/// A setup with few connections, so that the descriptors of any machine are enough.
fn small_setup(backend: &str) -> Setup {
    Setup::new(backend)
        .set("limits.max_connections", 50)
        .set("limits.lobby.max_connections", 50)
        .set("backend.max_in_flight", 20)
}

fn doctor(setup: &Setup, more: &[&str]) -> ProgramOutput {
    let file = setup.write();
    run(&[&["doctor", "--config", file.to_str().unwrap()], more].concat())
}

#[track_caller]
fn assert_attention(setup: &Setup, more: &[&str], check: &str, part: &str) {
    let finished = doctor(setup, more);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let is_expected =
        |line: &str| line.starts_with("attention") && line.contains(check) && line.contains(part);
    assert!(finished.stdout.lines().any(is_expected), "`{check} … {part}`: {}", finished.stdout);
}

#[test]
fn a_usual_installation_has_no_finding() {
    let backend = Backend::ok();
    let setup = small_setup(&backend.url()).set("tls.crl", "ca.crl");
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    let finished = doctor(&setup, &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let finished = doctor(&setup, &["--format", "json"]);
    let json: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(json["fine"], true, "{json}");
    let checks: Vec<_> = json["findings"].as_array().unwrap().iter().map(|it| it["check"].clone()).collect();
    for check in
        ["configuration", "certificate", "client CA", "CRL", "backend", "around", "descriptors", "clock"]
    {
        assert!(checks.contains(&Value::from(check)), "{check}: {json}");
    }
}

#[test]
fn mistakes_with_which_the_proxy_would_not_start_are_errors() {
    let finished = doctor(&small_setup("http://127.0.0.1:9").set("tls.client_ca", "missing.crt"), &[]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("missing.crt") && finished.stdout.is_empty(), "{finished:?}");
}

#[test]
fn certificates_and_crls_that_expire_soon_or_have_expired_are_found() {
    let backend = Backend::ok();
    let setup = small_setup(&backend.url()).set("tls.crl", "ca.crl");
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    let at = |days: u32| {
        let then = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + DAY * days;
        format!("@{}", then.as_secs())
    };
    assert_attention(&setup, &["--at", &at(2)], "CRL", "expired on");
    assert_attention(&setup, &["--at", &at(26)], "certificate", "expires on");
    assert_attention(&setup, &["--at", &at(31)], "certificate", "expired on");
    assert_attention(&setup, &["--at", &at(50)], "client CA", "expires on");
    assert_attention(&setup, &["--at", "2020-01-01T00:00:00Z"], "clock", "was issued at");
}

#[test]
fn a_server_certificate_that_clients_may_refuse_is_found() {
    let backend = Backend::ok();
    let setup = small_setup(&backend.url());
    let (below, other) = (setup.pki.ca.intermediate("below").unwrap(), Authority::root("other").unwrap());
    let mut server = below.issue(&Leaf::server().unwrap()).unwrap();
    server.write(setup.folder.path(), "server").unwrap();
    assert_eq!(doctor(&setup, &[]).code, Some(0));
    server.chain.insert(1, other.certificate().clone());
    server.write(setup.folder.path(), "server").unwrap();
    assert_attention(&setup, &[], "certificate", "was not issued by the one after it");
    below.issue(&Leaf::client("Shop", "no name")).unwrap().write(setup.folder.path(), "server").unwrap();
    assert_attention(&setup, &[], "certificate", "no DNS name");
}

#[test]
fn an_authority_without_a_crl_is_found() {
    let backend = Backend::ok();
    let setup = small_setup(&backend.url()).set("tls.crl", "ca.crl");
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    let both = [setup.pki.ca.certificate(), Authority::root("second").unwrap().certificate()]
        .map(|ca| pem("CERTIFICATE", ca));
    fs::write(setup.path("client-ca.crt"), both.concat()).unwrap();
    assert_attention(&setup, &[], "configuration", "no CRL of the client CA `CN=second`");
}

#[test]
fn a_backend_that_is_down_or_reachable_by_others_is_found() {
    assert_attention(&small_setup("http://127.0.0.1:9"), &[], "backend", "cannot be reached");
    // Connecting a UDP socket sends no packet. The kernel only chooses the local address.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let outside = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    if outside.is_ok_and(|address| !address.ip().is_loopback()) {
        let open = TcpListener::bind("0.0.0.0:0").unwrap();
        let url = format!("http://127.0.0.1:{}", open.local_addr().unwrap().port());
        assert_attention(&small_setup(&url), &[], "around", "as well");
    }
}

#[test]
fn a_socket_that_every_user_may_open_is_found() {
    let setup = small_setup("unix:app.sock");
    let _listener = UnixListener::bind(setup.path("app.sock")).unwrap();
    fs::set_permissions(setup.path("app.sock"), fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(doctor(&setup, &[]).code, Some(0));
    fs::set_permissions(setup.path("app.sock"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_attention(&setup, &[], "around", "every user");
}

#[test]
fn too_few_descriptors_for_the_limits_are_found() {
    let backend = Backend::ok();
    let file = small_setup(&backend.url()).set("limits.max_connections", 500);
    let config = file.write();
    let script = format!("ulimit -n 256; exec {} doctor --config {}", program().display(), config.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("256 descriptors may be open, and 698 are needed"), "{text}");
}

/// The finding compares the requests that one client may open with the places in flight, and has a remedy.
#[test]
fn a_client_that_can_take_all_places_in_flight_is_found() {
    let backend = Backend::ok();
    let few = || small_setup(&backend.url()).set("backend.max_in_flight", 9);
    let all = "all 9 requests in flight: 250 streams on each of 50 connections";
    assert_attention(&few(), &[], "in flight", all);
    let help = doctor(&few(), &[]).stdout;
    assert!(
        help.contains("`limits: { in_flight: 8 }`") && help.contains("`backend.max_in_flight` be 10"),
        "{help}"
    );
    let per_client = few().set("limits.max_connections_per_client", 2);
    assert_attention(&per_client, &[], "in flight", "250 streams on each of 2 connections");
    let off = small_setup(&backend.url()).set("backend.reserved_for_others", 0);
    assert_attention(&off, &[], "in flight", "all 20 requests");
    assert!(doctor(&off, &[]).stdout.contains("set `backend.reserved_for_others: 10`"));

    let bounded = |producer: &str, consumer: &str| few().policy(&policy_of_two(producer, consumer));
    assert_attention(&bounded("limits: { in_flight: 8 }", ""), &[], "in flight", "client of `consumer` can");
    assert_attention(
        &bounded("limits: { connections: 7 }", "limits: { in_flight: 9 }"),
        &[],
        "in flight",
        "each of 7 ",
    );
    for fine in [
        bounded("limits: { in_flight: 8 }", "limits: { in_flight: 1 }"),
        few().set("limits.max_connections_per_client", 1).set("limits.http.max_streams", 8),
        small_setup(&backend.url()),
    ] {
        let finished = doctor(&fine, &[]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
}
