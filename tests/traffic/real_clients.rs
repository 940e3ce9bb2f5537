//! Common HTTP clients get the documented answers, with and without a certificate.
//!
//! `.ci/tools` installs the clients. If a client is missing, its test fails in CI and is skipped elsewhere.

use std::process::Command;

use crate::support::tools::script;
use crate::support::{Backend, Proxy, installed, is_missing};

/// The certificate that is presented (a file of the folder), and the verdict.
const CASES: [(Option<&str>, &str); 4] = [
    (None, "401 not_authenticated"),
    (Some("expired"), "401 invalid_certificate"),
    (Some("consumer"), "403 insufficient_permissions"),
    (Some("producer"), "200 -"),
];

/// A proxy, with the certificates and keys of its clients in files.
struct ProxyWithFiles {
    proxy: Proxy,
    _backend: Backend,
}

impl ProxyWithFiles {
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
    fn assert_answers(&self, version: &str, client: impl Fn() -> Command) {
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
fn curl_gets_the_documented_answers() {
    if is_missing("curl", Command::new("curl").arg("--version")) {
        return;
    }
    let with_files = ProxyWithFiles::new();
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for (credential, expected) in CASES {
            let mut command = Command::new("curl");
            command.args([flag, "-sS", "--max-time", "20", "--cacert", &with_files.file("client-ca.crt")]);
            if let Some(name) = credential {
                command.args(["--cert", &with_files.file(&format!("{name}.crt"))]);
                command.args(["--key", &with_files.file(&format!("{name}.key"))]);
            }
            let output = run(command.args(["-w", "\n%{http_version} %{http_code}", &with_files.url()]));
            assert_reason(&output, expected);
            assert!(output.contains(&format!("\n{version} {}", &expected[..3])), "{flag}: {output}");
        }
    }
}

#[test]
fn openssl_s_client_gets_the_documented_answers() {
    if is_missing("openssl", Command::new("openssl").arg("version")) {
        return;
    }
    let with_files = ProxyWithFiles::new();
    for tls in ["-tls1_2", "-tls1_3"] {
        for (credential, expected) in CASES {
            let address = with_files.proxy.address.to_string();
            let mut arguments = vec![tls.to_owned(), "-quiet".to_owned(), "-connect".to_owned(), address];
            arguments.extend([
                "-verify_return_error".to_owned(),
                "-CAfile".to_owned(),
                with_files.file("client-ca.crt"),
            ]);
            if let Some(name) = credential {
                arguments.extend(["-cert".to_owned(), with_files.file(&format!("{name}.crt"))]);
                arguments.extend(["-key".to_owned(), with_files.file(&format!("{name}.key"))]);
            }
            let request = "GET /events HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n";
            let script = format!("printf '{request}' | openssl s_client \"$@\" 2>&1");
            let output = run(Command::new("sh").args(["-c", &script, "sh"]).args(arguments));
            assert!(output.contains(&format!("HTTP/1.1 {}", &expected[..3])), "{tls}: {output}");
            assert_reason(&output, expected);
        }
    }
}

#[test]
fn requests_for_python_gets_the_documented_answers() {
    assert_answers_to_python("with_requests.py", "import requests", "HTTP/1.1");
}

#[test]
fn httpx_for_python_gets_the_documented_answers_over_http2() {
    assert_answers_to_python("with_httpx.py", "import httpx, h2", "HTTP/2");
}

fn assert_answers_to_python(file: &str, modules: &str, version: &str) {
    let python = installed("venv/bin/python");
    if is_missing(file, Command::new(&python).args(["-c", modules])) {
        return;
    }
    ProxyWithFiles::new().assert_answers(version, || {
        let mut command = Command::new(&python);
        command.arg(script("clients").join(file));
        command
    });
}

#[test]
fn fetch_of_node_gets_the_documented_answers() {
    let modules = installed("node_modules/");
    let is_there = "require('node:module').createRequire(process.env.MODULES)('undici')";
    if is_missing("node with undici", Command::new("node").args(["-e", is_there]).env("MODULES", &modules)) {
        return;
    }
    let with_files = ProxyWithFiles::new();
    for (http, version) in [("1", "HTTP/1.1"), ("2", "HTTP/2")] {
        with_files.assert_answers(version, || {
            let mut command = Command::new("node");
            command.arg(script("clients/with_fetch.mjs")).env("MODULES", &modules).env("HTTP", http);
            command
        });
    }
}

#[test]
fn the_http_client_of_java_gets_the_documented_answers() {
    if is_missing("javac", Command::new("javac").arg("-version")) {
        return;
    }
    let with_files = ProxyWithFiles::new();
    // The client is compiled once, because each start from its source would compile it again.
    run(Command::new("javac").args(["-d", &with_files.file("")]).arg(script("clients/WithHttpClient.java")));
    for (http, version) in [("HTTP_1_1", "HTTP/1.1"), ("HTTP_2", "HTTP/2")] {
        with_files.assert_answers(version, || {
            let mut command = Command::new("java");
            command
                .args(["-XX:TieredStopAtLevel=1", "-cp", &with_files.file(""), "WithHttpClient"])
                .env("HTTP", http);
            command
        });
    }
}

/// Asserts that the output has the reason of the refusal, or the answer of the backend.
#[track_caller]
fn assert_reason(output: &str, expected: &str) {
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
