//! The tools for authors of policies: their outputs are the committed ones, for commands that run in `policies/`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use sidegate::demo::pki::pem;

use crate::support::certificates::Pki;
use crate::support::proxy::{program, run};
use crate::support::{Backend, Setup, golden};

#[test]
fn every_output_of_the_tools_is_the_committed_one() {
    golden::assert_as_committed("tests/policies/policy_tools", "policies");
}

/// A test may name a certificate file in PEM or DER, relative to the policy file.
#[test]
fn a_test_and_an_explanation_can_use_a_certificate_file() {
    let folder = tempfile::tempdir().unwrap();
    let producer = &Pki::new().producer.chain[0];
    fs::write(folder.path().join("producer.pem"), pem("CERTIFICATE", producer)).unwrap();
    fs::write(folder.path().join("producer.der"), producer).unwrap();
    let policy = folder.path().join("p.yaml");
    let text = |file: &str| {
        format!(
            "version: 1
permissions: {{ publish: [POST /events] }}
clients: [{{ name: orders, match: {{ uri: \"spiffe://shop.example/ns/orders/sa/*\" }}, permissions: [publish] }}]
tests:
  - {{ name: it publishes, certificate: {file}, request: POST /events, expect: allow, because: orders }}
"
        )
    };
    let policy = policy.to_str().unwrap();
    for file in ["producer.pem", "producer.der"] {
        fs::write(policy, text(file)).unwrap();
        let finished = run(&["policy", "test", policy, "--min-coverage", "100"]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let certificate = folder.path().join(file);
        let words = ["policy", "explain", policy, "--cert", certificate.to_str().unwrap(), "POST", "/events"];
        let finished = run(&words);
        assert!(finished.stdout.starts_with("allowed by `orders`"), "{finished:?}");
    }
    fs::write(policy, text("missing.pem")).unwrap();
    let finished = run(&["policy", "test", policy]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("p.yaml:5:") && finished.stderr.contains("missing.pem"), "{finished:?}");
}

/// A test must name a regular file: a FIFO has no end without a writer, `/dev/zero` has no end, and `-` must not wait for
/// standard input.
#[test]
fn a_test_reads_certificates_from_regular_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    symlink("fifo", path("link.pem")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    fs::File::create(path("large.pem")).unwrap().set_len(17 << 20).unwrap();
    let _writer = OpenOptions::new().read(true).write(true).open(path("fifo")).unwrap();
    let policy = path("p.yaml");
    for (file, reason) in [
        ("fifo", "it is a FIFO (named pipe) and no regular file"),
        ("link.pem", "it is a FIFO (named pipe) and no regular file"),
        ("/dev/zero", "it is a device and no regular file"),
        ("folder", "it is a directory and no regular file"),
        ("large.pem", "it is larger than 16 MiB"),
        ("-", "No such file or directory"),
    ] {
        let case = format!("{{ name: a, certificate: \"{file}\", request: GET /, expect: deny }}");
        fs::write(&policy, format!("version: 1\ntests:\n  - {case}\n")).unwrap();
        let mut command = Command::new("timeout");
        command.arg("20").arg(program()).args(["policy", "test", "p.yaml"]);
        let output = command.current_dir(folder.path()).stdin(Stdio::piped()).output().unwrap();
        let output_text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}: {output_text}");
        assert!(output_text.contains(reason) && output_text.contains("p.yaml:3:"), "{file}: {output_text}");
    }
}

/// `policy suggest` turns audit records into a policy that passes `check` and repeats every recorded decision.
#[test]
fn a_policy_from_the_records_of_a_proxy_repeats_its_decisions() {
    let backend = Backend::ok();
    let written = "version: 1
permissions: { events: [\"GET|POST /events/**\"] }
clients: [{ name: orders, match: { uri: \"spiffe://shop.example/**\" }, permissions: [events] }]
";
    let mut proxy = Setup::new(&backend.url()).policy(written).start();
    let mut producer = proxy.producer().connect(proxy.address).unwrap();
    for (method, path) in
        [("POST", "/events"), ("GET", "/events/17"), ("GET", "/events/18?x=1"), ("PUT", "/events")]
    {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        producer.ask(&request).unwrap();
    }
    let records: Vec<_> =
        (0..4).map(|_| proxy.process.audit_where("a decision", |_| true).to_string()).collect();
    let folder = tempfile::tempdir().unwrap();
    let (records_file, policy_file) = (folder.path().join("audit.log"), folder.path().join("learned.yaml"));
    fs::write(&records_file, records.join("\n")).unwrap();
    let (records_file, policy) = (records_file.to_str().unwrap(), policy_file.to_str().unwrap());
    let learned = run(&["policy", "suggest", records_file]);
    assert!(learned.stdout.contains("GET /events/{id}") && !learned.stdout.contains("PUT"), "{learned:?}");
    fs::write(&policy_file, &learned.stdout).unwrap();
    let checked = run(&["policy", "check", "--strict", policy]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let again = run(&["policy", "replay", records_file, "--policy", policy]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(again.stdout.trim(), "decisions: 4 unchanged, 0 changed");
}

/// Returns the output of `policy check` for a wrong policy if standard error is a terminal.
fn check_on_a_terminal(variables: &[(&str, &str)]) -> Option<String> {
    let bad =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/policy_diagnostics/unknown_key.yaml");
    let words = format!("['{}', 'policy', 'check', '{}']", program().display(), bad.display());
    let mut python = Command::new("python3");
    python
        .args(["-c", &format!("import pty; pty.spawn({words})")])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm");
    let output = match python.envs(variables.iter().copied()).output() {
        Ok(output) => output,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped, no python3: {error}");
            return None;
        }
        Err(error) => panic!("python3: {error}"),
    };
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn colours_are_printed_only_on_terminals_that_allow_them() {
    let coloured = |text: &str| text.contains("\u{1b}[1;31merror[unknown-key]\u{1b}[0m");
    let Some(output_text) = check_on_a_terminal(&[]) else { return };
    assert!(coloured(&output_text), "{output_text:?}");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let output_text = check_on_a_terminal(&[variable]).unwrap();
        assert!(
            output_text.contains("error[unknown-key]") && !output_text.contains('\u{1b}'),
            "{variable:?}: {output_text:?}"
        );
    }
    let bad =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/policy_diagnostics/unknown_key.yaml");
    let piped = run(&["policy", "check", bad.to_str().unwrap()]);
    assert!(piped.stderr.contains("error[unknown-key]") && !piped.stderr.contains('\u{1b}'), "{piped:?}");
}

/// Time limits are no permissions: a change of them alone is shown, and both policies allow the same.
#[test]
fn time_limits_of_routes_are_explained_compared_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, timeouts: &str, deny: &str| {
        let text = format!(
            "version: 1\npermissions:\n  feed: [{{ route: GET /feed, timeouts: {timeouts} }}]\nclients: [{{ name: a, match: {{ common_name: a }}, permissions: [feed] }}]\n{deny}"
        );
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("old.yaml", "{ response: 45s }", "");
    write("new.yaml", "{ response: none, idle: 1h }", "");
    write(
        "deny.yaml",
        "{ idle: 90m }",
        "deny: [{ name: d, routes: [{ route: GET /feed, timeouts: { idle: none } }] }]\n",
    );
    let sidegate = |arguments: &[&str]| {
        let output = std::process::Command::new(crate::support::proxy::program())
            .arg("policy")
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = sidegate(&["diff", "old.yaml", "new.yaml"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("no change in what is allowed\n"), "{text}");
    assert!(
        text.contains("time limits of GET /feed in feed (new.yaml:3): response 45s → response none, idle 1h"),
        "{text}"
    );
    let (_, json) = sidegate(&["diff", "old.yaml", "new.yaml", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["changed"], &json["timeouts"][0]["new"]),
        (&false.into(), &"response none, idle 1h".into())
    );
    let (_, text) = sidegate(&["explain", "new.yaml", "--client", "common_name=a", "GET", "/feed"]);
    assert!(text.contains("time limits of its routes: response none, idle 1h"), "{text}");
    let (_, json) =
        sidegate(&["explain", "new.yaml", "--client", "common_name=a", "--format", "json", "GET", "/feed"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["timeouts"], serde_json::json!({ "response": "none", "idle": "1h" }));
    let (code, text) = sidegate(&["check", "--strict", "deny.yaml"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the `timeouts` of `GET /feed` have no effect"), "{text}");
}
