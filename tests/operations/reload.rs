//! Changed files are applied as a whole or not at all. After a mistake the running state stays, and the mistake is reported
//! (DESIGN §4, §6).

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::proxy::POLICY;
use crate::support::{Backend, Proxy, Setup, eventually};

const NOTHING: &str = "version: 1\n";

fn verdict(proxy: &Proxy) -> String {
    proxy.connect().get("/events").unwrap().verdict()
}

#[track_caller]
fn assert_becomes(proxy: &Proxy, expected: &str) {
    eventually("what is in force", || verdict(proxy), |verdict| verdict == expected);
}

const DENIED: &str = "403 insufficient_permissions";

#[test]
fn a_file_that_is_written_or_replaced_is_noticed() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let policy = proxy.setup.path("policy.yaml");
    assert_becomes(&proxy, "200");
    fs::write(&policy, NOTHING).unwrap();
    assert_becomes(&proxy, DENIED);
    fs::write(proxy.setup.path("next"), POLICY).unwrap();
    fs::rename(proxy.setup.path("next"), &policy).unwrap();
    assert_becomes(&proxy, "200");
    let status = proxy.admin.status();
    let triggers: Vec<_> =
        status["reload"]["recent"].as_array().unwrap().iter().map(|a| &a["trigger"]).collect();
    assert_eq!(triggers, ["change", "change"]);
    assert_eq!((&status["reload"]["applied"], &status["generation"]), (&json!(2), &json!(3)));
}

/// Writes a new version of a volume as Kubernetes does: a folder beside the old one, then the link `..data` by a rename.
fn write_volume(folder: &Path, version: &str, policy: &str) {
    let target = folder.join(format!("..{version}"));
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("policy.yaml"), policy).unwrap();
    symlink(target.file_name().unwrap(), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    let link = folder.join("policy.yaml");
    if !link.exists() {
        symlink("..data/policy.yaml", link).unwrap();
    }
}

#[test]
fn a_volume_of_kubernetes_that_swaps_its_link_is_noticed() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("policies", "policies/");
    write_volume(&setup.path("policies"), "1", POLICY);
    let proxy = setup.start();
    assert_becomes(&proxy, "200");
    write_volume(&proxy.setup.path("policies"), "2", NOTHING);
    fs::remove_dir_all(proxy.setup.path("policies").join("..1")).unwrap();
    assert_becomes(&proxy, DENIED);
}

#[test]
fn a_signal_and_a_request_reload_at_once_and_a_web_page_does_not() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let policy = proxy.setup.path("policy.yaml");
    fs::write(&policy, NOTHING).unwrap();
    let attempt = proxy.admin.reload();
    assert_eq!(
        (&attempt["outcome"], &attempt["trigger"], &attempt["generation"]),
        (&json!("applied"), &json!("request"), &json!(2))
    );
    assert_eq!(verdict(&proxy), DENIED);
    fs::write(&policy, POLICY).unwrap();
    proxy.process.signal("HUP");
    proxy
        .process
        .log_where("the reload", |line| line["message"] == "reloaded" && line["trigger"] == "signal");
    assert_eq!(verdict(&proxy), "200");

    let answer = proxy.admin.get("/reload");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(proxy.admin.post("/reload", "Origin: http://evil.example\r\n").status, 403);
    assert_eq!(proxy.admin.status()["generation"], 3);
    // A request reads the files again even if they have not changed.
    assert_eq!(proxy.admin.reload()["generation"], 4);
}

#[test]
fn after_a_mistake_the_running_state_stays_and_the_mistake_is_reported_once() {
    let backend = Backend::ok();
    let mut proxy = Setup::new(&backend.url()).set("drain_timeout", "100ms").start();
    let policy = proxy.setup.path("policy.yaml");
    let broken = POLICY.replace("[everything]", "[everythin]");
    fs::write(&policy, broken).unwrap();
    let attempt = proxy.admin.refused_reload();
    let problem = &attempt["diagnostics"][0];
    assert_eq!((&problem["code"], &problem["severity"]), (&json!("unknown-name"), &json!("error")));
    assert_eq!((&problem["line"], &problem["help"]), (&json!(8), &json!("did you mean `everything`?")));
    assert!(problem["file"].as_str().unwrap().ends_with("policy.yaml"), "{problem}");
    for _ in 0..3 {
        proxy.admin.refused_reload();
    }
    assert_eq!(verdict(&proxy), "200");
    assert_eq!(proxy.admin.get("/readyz").status, 200);
    let status = proxy.admin.status();
    assert_eq!(status["generation"], 1);
    assert_eq!((&status["reload"]["success"], &status["reload"]["refused"]), (&json!(false), &json!(4)));
    assert_eq!(status["reload"]["recent"].as_array().unwrap().len(), 1);
    let metrics = proxy.admin.metrics();
    let success = |part| proxy.admin.metrics().labelled("sidegate_reload_success", &[("part", part)]);
    assert_eq!((success("policies"), success("client_trust")), (0.0, 1.0));
    let refused = [("part", "policies"), ("result", "refused")];
    assert_eq!(metrics.labelled("sidegate_reloads_total", &refused), 4.0);

    fs::write(&policy, POLICY).unwrap();
    proxy.admin.reload();
    let metrics = proxy.admin.metrics();
    assert_eq!(success("policies"), 1.0);
    assert_eq!(metrics.value("sidegate_config_generation"), 2.0);
    assert!(metrics.value("sidegate_last_reload_timestamp_seconds") > 1.7e9);
    proxy.process.signal("TERM");
    proxy.process.exit();
    let log = proxy.process.log();
    assert_eq!(log.matches("not reloaded").count(), 1, "{log}");
    assert_eq!(log.matches("did you mean `everything`?").count(), 1, "{log}");
}

#[test]
fn every_kind_of_mistake_is_refused_with_its_place() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("tls.client_ca", "ca/");
    fs::create_dir(setup.path("ca")).unwrap();
    fs::rename(setup.path("client-ca.crt"), setup.path("ca/ca.crt")).unwrap();
    let proxy = setup.start();
    for (file, text, expected) in [
        ("ca/ca.crt", "", "there is no certificate"),
        ("ca/ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA", "PEM"),
        ("server.crt", "", "there is no certificate"),
        ("server.key", "no key", "there is no usable key"),
        ("policy.yaml", "version: 1\nclients: [", "closed"),
        ("sidegate.yaml", "listen: nowhere", "`nowhere` is not an address"),
        ("sidegate.yaml", "", "is missing"),
    ] {
        let path = proxy.setup.path(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let attempt = proxy.admin.refused_reload();
        fs::write(&path, before).unwrap();
        assert!(attempt["diagnostics"].to_string().contains(expected), "{file}: {attempt:#}");
        assert_eq!(verdict(&proxy), "200", "{file}");
    }
    fs::remove_file(proxy.setup.path("ca/ca.crt")).unwrap();
    assert!(proxy.admin.refused_reload().to_string().contains("there is no certificate in the folder"));
    assert_eq!(verdict(&proxy), "200");
}

#[test]
fn settings_that_need_a_restart_are_named_and_the_others_change() {
    let backend = Backend::ok();
    let mut proxy = Proxy::in_front_of(&backend.url());
    let rewrite = |proxy: &Proxy, change: &dyn Fn(&mut Value)| {
        let file = proxy.setup.path("sidegate.yaml");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        change(&mut config);
        fs::write(&file, config.to_string()).unwrap();
    };
    rewrite(&proxy, &|config| {
        config["listen"] = json!("127.0.0.1:1");
        config["workers"] = json!(63);
        config["limits"]["max_connections"] = json!(7);
        config["backend"]["max_in_flight"] = json!(5);
    });
    let attempt = proxy.admin.reload();
    assert_eq!(attempt["needs_restart"], json!(["listen", "workers"]));
    proxy.process.log_where("what needs a restart", |line| line["keys"] == "listen, workers");
    let metrics = proxy.admin.metrics();
    assert_eq!(metrics.value("sidegate_slots_limit"), 7.0);
    assert_eq!(metrics.value("sidegate_requests_in_flight_limit"), 5.0);
    assert_eq!(verdict(&proxy), "200");
    assert_eq!(proxy.admin.status()["reload"]["needs_restart"], json!(["listen", "workers"]));
    rewrite(&proxy, &|config| {
        config["listen"] = json!("127.0.0.1:0");
        config.as_object_mut().unwrap().remove("workers");
    });
    assert_eq!(proxy.admin.reload()["needs_restart"], json!([]));
}

#[test]
fn new_limits_hold_for_open_connections() {
    let backend = Backend::never_answering();
    let mut setup = Setup::new(&backend.url());
    setup.config["backend"]["response_timeout"] = json!("60s");
    setup.config["limits"]["lobby"]["idle_timeout"] = json!("60s");
    let proxy = setup.start();
    let mut open = proxy.connect();
    let mut idle = proxy.consumer().connect(proxy.address).unwrap();
    assert_eq!(idle.get("/events").unwrap().verdict(), DENIED);
    let mut config = proxy.setup.config.clone();
    config["backend"]["response_timeout"] = json!("100ms");
    config["limits"]["lobby"]["idle_timeout"] = json!("100ms");
    fs::write(proxy.setup.path("sidegate.yaml"), config.to_string()).unwrap();
    proxy.admin.reload();
    assert_eq!(open.get("/events").unwrap().verdict(), "504 backend_timeout");
    assert!(idle.is_closed());
}

#[test]
fn slots_in_use_stay_when_the_limit_becomes_lower() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", 2).start();
    let ask = || {
        let mut connection = proxy.connect();
        let verdict = connection.get("/events").unwrap().verdict();
        (connection, verdict)
    };
    let set = |slots: usize| {
        let mut config = proxy.setup.config.clone();
        config["limits"]["max_connections"] = json!(slots);
        fs::write(proxy.setup.path("sidegate.yaml"), config.to_string()).unwrap();
        proxy.admin.reload();
    };
    let (mut first, mut second) = (ask(), ask());
    assert_eq!((&*first.1, &*second.1, &*ask().1), ("200", "200", "504 server_full"));
    set(1);
    assert_eq!(first.0.get("/events").unwrap().verdict(), "200");
    assert_eq!(second.0.get("/events").unwrap().verdict(), "200");
    drop(second);
    proxy.admin.wait_for("sidegate_slots_used", 1.0);
    assert_eq!(ask().1, "504 server_full");
    set(2);
    assert_eq!(ask().1, "200");
}

/// The first half of the file grants everything, and the second half denies some of it. The first half alone would let
/// every request in.
#[test]
fn a_half_written_file_never_comes_into_force() {
    let backend = Backend::ok();
    let denies = "deny:\n  - name: secret\n    routes: [\"* /secret\"]\n";
    let proxy = Setup::new(&backend.url()).policy(&format!("{POLICY}{denies}")).start();
    let done = AtomicBool::new(false);
    let (client, address) = (proxy.producer(), proxy.address);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut connection = client.connect(address).unwrap();
                for _ in 0..100 {
                    assert_eq!(connection.get("/secret").unwrap().verdict(), DENIED);
                }
            }
        });
        // Each version has another comment, so that the content changes.
        for round in 0.. {
            let mut file = fs::File::create(proxy.setup.path("policy.yaml")).unwrap();
            file.write_all(POLICY.as_bytes()).unwrap();
            file.write_all(format!("{denies}# {round}\n").as_bytes()).unwrap();
            drop(file);
            let applied = proxy.admin.status()["reload"]["applied"].as_u64().unwrap();
            if applied >= 2 {
                break;
            }
            // Now and then the file stays unchanged for long enough to be applied.
            if round % 200 == 199 {
                let is_more = |now: &Value| now["reload"]["applied"].as_u64().unwrap() > applied;
                eventually("a reload", || proxy.admin.status(), is_more);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(proxy.admin.status()["reload"]["refused"], 0);
}

/// A program that writes in place begins with an empty file, and an empty policy denies everything.
#[test]
fn an_empty_file_is_not_applied_at_once() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let policy = proxy.setup.path("policy.yaml");
    fs::write(&policy, "").unwrap();
    // Other changed files do not wait for the empty one.
    let mut config = proxy.setup.config.clone();
    config["limits"]["max_connections"] = json!(7);
    fs::write(proxy.setup.path("sidegate.yaml"), config.to_string()).unwrap();
    let slots = || proxy.admin.metrics().value("sidegate_slots_limit");
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_secs(4) {
        assert_eq!(verdict(&proxy), "200");
    }
    eventually("the configuration", slots, |slots| *slots == 7.0);
    fs::write(&policy, format!("{POLICY}# written\n")).unwrap();
    let applied = || proxy.admin.status()["reload"]["parts"]["policies"]["applied"].clone();
    eventually("the policy", applied, |applied| *applied == 1);
    assert_eq!(verdict(&proxy), "200");
    // A request for a reload applies the empty file at once.
    fs::write(&policy, "").unwrap();
    proxy.admin.reload();
    assert_eq!(verdict(&proxy), DENIED);
}
