//! No byte of a private key is shown, whatever is wrong with its file: neither in messages, nor in the log, nor by tools
//! (DESIGN §8).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use sidegate::demo::pki::Leaf;

use crate::support::admin::Admin;
use crate::support::damaged_keys::{KeyTraces, base64_of, damaged_keys};
use crate::support::proxy::{Process, run};
use crate::support::{Backend, DEADLINE, Setup};

/// The search finds the traces in the output of programs that print a key.
#[test]
fn the_search_finds_traces_of_a_key() {
    let key = Leaf::client("Shop", "key").self_signed().unwrap().key;
    let (key, traces) = (key.secret_der(), KeyTraces::of(key.secret_der()));
    let text = base64_of(key);
    for leak in [format!("{key:?}"), format!("{:?}", text.as_bytes()), text.clone(), text[70..80].to_owned()]
    {
        assert!(std::panic::catch_unwind(|| traces.assert_none_in("a leak", &leak)).is_err(), "{leak}");
    }
}

/// Every file of the configuration is the damaged key, and so is every file of the tools.
#[test]
fn no_byte_of_a_damaged_key_is_shown_at_the_start_or_by_a_tool() {
    for (damage, bytes, traces) in &damaged_keys() {
        let setup = Setup::new("https://127.0.0.1:9").set("log.level", "trace");
        let setup = ["tls.key", "tls.certificate", "tls.client_ca", "tls.crl", "policies", "shadow_policies"]
            .into_iter()
            .chain(["admin.token_file", "backend.tls.ca", "backend.tls.certificate", "backend.tls.key"])
            .fold(setup, |setup, key| setup.set(key, "damaged.yaml"));
        fs::write(setup.path("damaged.yaml"), bytes).unwrap();
        let (config, file) = (setup.write(), setup.path("damaged.yaml"));
        let (config, file) = (config.to_str().unwrap(), file.to_str().unwrap());
        let only_key = Setup::new("http://127.0.0.1:9");
        fs::write(only_key.path("server.key"), bytes).unwrap();
        let only_key = only_key.write();
        for arguments in [
            &["run", "--config", config][..],
            &["run", "--config", config, "--log-format", "text"],
            &["run", "--config", only_key.to_str().unwrap()],
            &["run", "--config", file],
            &["doctor", "--config", config, "--format", "json"],
            &["cert", file, "--ca", file, "--crl", file],
            &["cert", file, "--ca", file, "--format", "json"],
            &["policy", "check", file],
            &["policy", "check", file, "--format", "json"],
            &["policy", "check", file, "--format", "github"],
            &["policy", "explain", file, "--cert", file, "GET", "/"],
            &["policy", "replay", file, "--policy", file],
            &["inject", file],
        ] {
            let finished = run(arguments);
            let output = format!("{}{}", finished.stdout, finished.stderr);
            traces.assert_none_in(&format!("{damage}, {arguments:?}"), &output);
            assert!(!output.contains("panicked") && finished.code != Some(0), "{damage}: {finished:?}");
        }
    }
}

/// Returns all answers of the admin listener, with the first event.
fn all_answers_of(admin: Admin) -> String {
    let paths = [
        "/status",
        "/connections",
        "/metrics",
        "/readyz",
        "/api/session",
        "/api/now",
        "/api/history",
        "/api/trust",
        "/api/shadow",
        "/api/refusals",
        "/api/refusal",
        "/api/policy",
        "/api/matrix",
        "/api/grant",
        "/api/client",
    ];
    let mut output: String = paths.iter().map(|path| admin.get(path).text()).collect();
    let mut events = TcpStream::connect(admin.address).unwrap();
    events.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(events, "GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address).unwrap();
    let mut event = Vec::new();
    while !event.ends_with(b"\n\n\r\n") {
        let mut byte = [0];
        assert_eq!(events.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&event));
        event.push(byte[0]);
    }
    output += &String::from_utf8_lossy(&event);
    output
}

/// Each file was good at the start and becomes the damaged key.
#[test]
fn no_byte_of_a_damaged_key_is_shown_on_reload() {
    let backend = Backend::ok();
    let files = ["server.key", "client-ca.crt", "ca.crl", "policy.yaml", "next.yaml"];
    let setup = Setup::new(&backend.url())
        .set("log.level", "trace")
        .set("tls.crl", "ca.crl")
        .set("shadow_policies", "next.yaml");
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    fs::copy(setup.path("policy.yaml"), setup.path("next.yaml")).unwrap();
    let mut proxy = setup.start();
    let mut output = String::new();
    let damaged = damaged_keys();
    for (index, (damage, bytes, traces)) in damaged.iter().enumerate() {
        for changed in [std::slice::from_ref(&files[index % files.len()]), &files[..]] {
            let before: Vec<_> =
                changed.iter().map(|file| fs::read(proxy.setup.path(file)).unwrap()).collect();
            changed.iter().for_each(|file| fs::write(proxy.setup.path(file), bytes).unwrap());
            let attempt = proxy.admin.post("/reload", "");
            assert!(
                attempt.status == 422 || changed == ["next.yaml"],
                "{damage} in {changed:?}: {attempt:?}"
            );
            traces.assert_none_in(&format!("{damage} in {changed:?}"), &attempt.text());
            for (file, before) in changed.iter().zip(before) {
                fs::write(proxy.setup.path(file), before).unwrap();
            }
        }
        output += &proxy.admin.status().to_string();
    }
    output += &all_answers_of(proxy.admin);
    assert_eq!(proxy.connect().get("/events").unwrap().verdict(), "200");
    proxy.process.signal("INT");
    proxy.process.exit();
    output += &proxy.process.log();
    assert!(output.contains("the line breaks of this file are lost"), "{output}");
    KeyTraces::of_all(&damaged).assert_none_in("the whole log", &output);
}

/// The log as text is written by other code than the log as JSON.
#[test]
fn no_byte_of_a_damaged_key_is_in_the_log_as_text() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("log.level", "trace").set("log.format", "text");
    let mut process = Process::spawn(&["run", "--config", setup.write().to_str().unwrap()]);
    process.log_with("ready");
    let damaged = damaged_keys();
    let good = fs::read(setup.path("server.key")).unwrap();
    for (damage, bytes, _) in &damaged {
        fs::write(setup.path("server.key"), bytes).unwrap();
        process.signal("HUP");
        let output = process.log_with("server.key");
        assert!(output.contains("no usable key") || output.contains("cannot be used"), "{damage}: {output}");
        fs::write(setup.path("server.key"), &good).unwrap();
        process.signal("HUP");
        process.log_with(" reloaded ");
    }
    process.signal("INT");
    process.exit();
    let output = process.log();
    KeyTraces::of_all(&damaged).assert_none_in("the whole log", &output);
}
