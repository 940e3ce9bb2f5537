//! A volume that does not answer delays only the parts on it: all other parts are still followed, and the operator is told
//! (DESIGN §2.2).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::proxy::{POLICY, command, program};
use crate::support::tools::{is_missing, script};
use crate::support::{Backend, Proxy, Setup, eventually};

/// Builds a library that makes `open` wait; `None` if it cannot be built, or the program cannot load it.
fn volume(folder: &Path) -> Option<PathBuf> {
    if is_missing("c++", Command::new("c++").arg("--version")) {
        return None;
    }
    let is_dynamic = fs::read(program()).unwrap().windows(10).any(|bytes| bytes == b"/ld-linux-");
    if !is_dynamic {
        eprintln!("skipped: a program without a dynamic loader loads no library");
        return None;
    }
    let library = folder.join("volume.so");
    let mut compiler = Command::new("c++");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(script("operations/dead_volume/volume.cc"));
    assert!(compiler.arg("-ldl").status().unwrap().success());
    Some(library)
}

/// A setup with the policy on the volume, and everything else beside it.
fn setup_with_volume(backend: &Backend) -> Setup {
    let setup = Setup::new(&backend.url()).set("policies", "volume/").set("tls.crl", "ca.crl");
    fs::create_dir(setup.path("volume")).unwrap();
    fs::write(setup.path("volume/policy.yaml"), POLICY).unwrap();
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    setup
}

fn part(proxy: &Proxy, name: &str) -> Value {
    proxy.admin.status()["reload"]["parts"][name].clone()
}

fn verdict(proxy: &Proxy) -> String {
    proxy.connect().get("/events").unwrap().verdict()
}

#[test]
fn a_volume_that_does_not_answer_delays_only_its_own_part_and_is_reported() {
    let backend = Backend::ok();
    let setup = setup_with_volume(&backend);
    let dead = setup.path("dead");
    let Some(library) = volume(setup.folder.path()) else { return };
    let mut proxy = setup.start_with(|command| {
        command.env("LD_PRELOAD", &library).env("DEAD_VOLUME", &dead);
    });
    let revoked = &proxy.pki().producer.chain[0];
    let crl = proxy.pki().ca.crl(&[revoked], |_| {}).unwrap();
    fs::write(&dead, "").unwrap();
    fs::write(proxy.setup.path("volume/policy.yaml"), "version: 1\n").unwrap();
    eventually("the part", || part(&proxy, "policies"), |part| part["state"] == "hanging");
    assert_eq!(part(&proxy, "client_trust")["state"], "applied");
    proxy.process.log_where("the volume", |line| {
        line["part"] == "policies" && line["message"].as_str().unwrap().starts_with("reading does not come")
    });

    // Another part is still followed, by itself and on request. The answer does not wait for the volume.
    fs::write(proxy.setup.path("ca.crl"), crl).unwrap();
    eventually("the CRL", || verdict(&proxy), |verdict| verdict == "401 invalid_certificate");
    fs::write(proxy.setup.path("ca.crl"), proxy.pki().ca.crl(&[], |_| {}).unwrap()).unwrap();
    let start = Instant::now();
    let answer = proxy.admin.post("/reload", "");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let attempt = answer.json();
    assert_eq!((answer.status, &attempt["outcome"]), (503, &json!("hanging")), "{attempt:#}");
    assert_eq!(
        (&attempt["parts"]["policies"], &attempt["parts"]["client_trust"]),
        (&json!("hanging"), &json!("applied"))
    );
    assert_eq!(verdict(&proxy), "200", "the last policy stays in force");

    let metrics = proxy.admin.metrics();
    let success = |part| metrics.labelled("sidegate_reload_success", &[("part", part)]);
    assert_eq!((success("policies"), success("client_trust")), (0.0, 1.0));
    let age = || proxy.admin.metrics().value("sidegate_reload_look_age_seconds");
    eventually("the age of the last look", age, |age| *age >= 5.0);
    let headlines = proxy.admin.get("/api/now").json()["headlines"].to_string();
    assert!(headlines.contains("the files of `policies` could not be read for"), "{headlines}");

    // Once the volume answers, the new policy comes into force.
    fs::remove_file(&dead).unwrap();
    eventually("the policy", || verdict(&proxy), |verdict| verdict == "403 insufficient_permissions");
    eventually("the part", || part(&proxy, "policies"), |part| part["state"] == "applied");
    eventually("the age of the last look", age, |age| *age <= 3.0);
    proxy.admin.reload();

    // The shutdown does not wait for the volume.
    fs::write(&dead, "").unwrap();
    eventually("the part", || part(&proxy, "policies"), |part| part["state"] == "hanging");
    proxy.process.signal("INT");
    assert!(proxy.process.exit().success());
}

#[test]
fn a_start_from_a_volume_that_does_not_answer_ends_and_names_the_part() {
    let backend = Backend::ok();
    let setup = setup_with_volume(&backend);
    let Some(library) = volume(setup.folder.path()) else { return };
    fs::write(setup.path("dead"), "").unwrap();
    fs::write(setup.path("server.crt"), "").unwrap();
    let config = setup.write();
    let assert_ends = |verb: &str| {
        let mut sidegate = command(&[verb, "--config", config.to_str().unwrap()]);
        sidegate.env("LD_PRELOAD", &library).env("DEAD_VOLUME", setup.path("dead"));
        let start = Instant::now();
        let output = sidegate.output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb}: {messages}");
        assert!(
            messages.contains("reading the files of `policies` does not come to an end"),
            "{verb}: {messages}"
        );
        assert!(
            messages.contains("there is no certificate in"),
            "the other parts are reported as well: {messages}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{verb}: {:?}", start.elapsed());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| assert_ends("run"));
        scope.spawn(|| assert_ends("doctor"));
    });
}
