//! The clients that people have: each gets what the contract says, with and without a certificate.
//!
//! `.ci/tools` installs what they need. Where a tool is missing, the test fails in CI and says elsewhere that it was
//! skipped.

use std::process::Command;

use crate::support::tools::script;
use crate::support::{Backend, Proxy, installed, is_missing};

/// What is presented (a file of the folder), and the answer.
const CASES: [(Option<&str>, &str); 4] = [
    (None, "401 not_authenticated"),
    (Some("expired"), "401 invalid_certificate"),
    (Some("consumer"), "403 insufficient_permissions"),
    (Some("producer"), "200 -"),
];

/// A proxy, and a folder with its clients' files.
struct World {
    proxy: Proxy,
    _backend: Backend,
}

impl World {
    fn new() -> Self {
        let backend = Backend::ok();
        let proxy = Proxy::in_front_of(&backend.url());
        let (pki, folder) = (proxy.pki(), proxy.setup.folder.path());
        for (name, credential) in
            [("producer", &pki.producer), ("consumer", &pki.consumer), ("expired", &pki.expired())]
        {
            credential.write(folder, name).unwrap();
        }
        Self { proxy, _backend: backend }
    }

    fn file(&self, name: &str) -> String {
        self.proxy.setup.path(name).to_str().unwrap().to_owned()
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/events?a=1", self.proxy.address.port())
    }

    /// Runs a client with `METHOD URL CA [CERTIFICATE KEY]` for every case, and compares its `VERSION STATUS REASON`.
    fn expect_of(&self, version: &str, client: impl Fn() -> Command) {
        for method in ["GET", "POST"] {
            for (credential, expected) in CASES {
                let mut command = client();
                command.args([method, &self.url(), &self.file("client-ca.crt")]);
                if let Some(name) = credential {
                    command.args([self.file(&format!("{name}.crt")), self.file(&format!("{name}.key"))]);
                }
                let output = run(&mut command);
                assert_eq!(output.trim(), format!("{version} {expected}"), "{method} as {credential:?}");
            }
        }
    }
}

#[test]
fn curl() {
    if is_missing("curl", Command::new("curl").arg("--version")) {
        return;
    }
    let world = World::new();
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for (credential, expected) in CASES {
            let mut command = Command::new("curl");
            command.args([flag, "-sS", "--max-time", "20", "--cacert", &world.file("client-ca.crt")]);
            if let Some(name) = credential {
                command.args(["--cert", &world.file(&format!("{name}.crt"))]);
                command.args(["--key", &world.file(&format!("{name}.key"))]);
            }
            let output = run(command.args(["-w", "\n%{http_version} %{http_code}", &world.url()]));
            assert_said(&output, expected);
            assert!(output.contains(&format!("\n{version} {}", &expected[..3])), "{flag}: {output}");
        }
    }
}

#[test]
fn openssl_s_client() {
    if is_missing("openssl", Command::new("openssl").arg("version")) {
        return;
    }
    let world = World::new();
    for tls in ["-tls1_2", "-tls1_3"] {
        for (credential, expected) in CASES {
            let address = world.proxy.address.to_string();
            let mut arguments = vec![tls.to_owned(), "-quiet".to_owned(), "-connect".to_owned(), address];
            arguments.extend([
                "-verify_return_error".to_owned(),
                "-CAfile".to_owned(),
                world.file("client-ca.crt"),
            ]);
            if let Some(name) = credential {
                arguments.extend(["-cert".to_owned(), world.file(&format!("{name}.crt"))]);
                arguments.extend(["-key".to_owned(), world.file(&format!("{name}.key"))]);
            }
            let request = "GET /events HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n";
            let script = format!("printf '{request}' | openssl s_client \"$@\" 2>&1");
            let output = run(Command::new("sh").args(["-c", &script, "sh"]).args(arguments));
            assert!(output.contains(&format!("HTTP/1.1 {}", &expected[..3])), "{tls}: {output}");
            assert_said(&output, expected);
        }
    }
}

#[test]
fn python_requests() {
    python("with_requests.py", "import requests", "HTTP/1.1");
}

#[test]
fn python_httpx_over_http2() {
    python("with_httpx.py", "import httpx, h2", "HTTP/2");
}

fn python(file: &str, modules: &str, version: &str) {
    let python = installed("venv/bin/python");
    if is_missing(file, Command::new(&python).args(["-c", modules])) {
        return;
    }
    World::new().expect_of(version, || {
        let mut command = Command::new(&python);
        command.arg(script("clients").join(file));
        command
    });
}

#[test]
fn node_fetch() {
    let modules = installed("node_modules/");
    let is_there = "require('node:module').createRequire(process.env.MODULES)('undici')";
    if is_missing("node with undici", Command::new("node").args(["-e", is_there]).env("MODULES", &modules)) {
        return;
    }
    let world = World::new();
    for (http, version) in [("1", "HTTP/1.1"), ("2", "HTTP/2")] {
        world.expect_of(version, || {
            let mut command = Command::new("node");
            command.arg(script("clients/with_fetch.mjs")).env("MODULES", &modules).env("HTTP", http);
            command
        });
    }
}

#[test]
fn java_http_client() {
    if is_missing("javac", Command::new("javac").arg("-version")) {
        return;
    }
    let world = World::new();
    // Compiled once: each launch from source would compile it again.
    run(Command::new("javac").args(["-d", &world.file("")]).arg(script("clients/WithHttpClient.java")));
    for (http, version) in [("HTTP_1_1", "HTTP/1.1"), ("HTTP_2", "HTTP/2")] {
        world.expect_of(version, || {
            let mut command = Command::new("java");
            command
                .args(["-XX:TieredStopAtLevel=1", "-cp", &world.file(""), "WithHttpClient"])
                .env("HTTP", http);
            command
        });
    }
}

/// The answer is that status with that reason, or the backend's own.
#[track_caller]
fn assert_said(output: &str, expected: &str) {
    let reason = expected.split(' ').nth(1).unwrap();
    let body = if reason == "-" { "ok".to_owned() } else { format!("\"reason\":\"{reason}\"") };
    assert!(output.contains(&body), "{expected}: {output}");
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}
