//! The real binary, started with a configuration of the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sidegate::demo::pki::{Credential, pem};
use tempfile::TempDir;

use super::admin::Admin;
use super::backend::ReceivedRequest;
use super::http2::Http2;
use super::tls::Tls;
use super::{Backend, Client, DEADLINE, Pki};

/// The default policy: the producer may do everything, the consumer only `GET /readable`.
pub const POLICY: &str = r#"version: 1
permissions:
  everything:
    - "* /**"
  little:
    - GET /readable
roles:
  producer: [everything]
  consumer: [little]
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    roles: [producer]
  - name: consumer
    match: { uri: "spiffe://shop.example/ns/reports/sa/*" }
    roles: [consumer]
"#;

/// Returns a policy that lets the producer and the consumer do everything; each argument is more YAML of a client's entry.
pub fn policy_of_two(producer: &str, consumer: &str) -> String {
    format!(
        r#"version: 1
permissions:
  everything: ["* /**"]
clients:
  - name: producer
    match: {{ uri: "spiffe://shop.example/ns/orders/sa/*" }}
    permissions: [everything]
    {producer}
  - name: consumer
    match: {{ uri: "spiffe://shop.example/ns/reports/sa/*" }}
    permissions: [everything]
    {consumer}
"#
    )
}

/// A folder with all files that `sidegate run` needs; the proxy is not started yet.
pub struct Setup {
    pub folder: TempDir,
    pub pki: Pki,
    pub config: Value,
}

impl Setup {
    /// Makes the usual configuration in front of a backend.
    pub fn new(backend: &str) -> Self {
        let (folder, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        pki.server.write(folder.path(), "server").unwrap();
        fs::write(folder.path().join("client-ca.crt"), pem("CERTIFICATE", pki.ca.certificate())).unwrap();
        fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
        let config = json!({
            "listen": "127.0.0.1:0",
            "tls": { "certificate": "server.crt", "key": "server.key", "client_ca": "client-ca.crt" },
            "backend": { "url": backend },
            "policies": "policy.yaml",
            "admin": { "listen": "127.0.0.1:0" },
            // A stopping proxy serves new connections for a fifth of this time; a short timeout keeps the tests fast.
            "drain_timeout": "5s",
            // All clients of a test have the same address, so the limits per source must be high.
            "limits": { "lobby": { "max_per_source": 1000, "connections_per_second": 100_000 } },
        });
        Self { folder, pki, config }
    }

    /// Sets a key of the configuration; the parts of its path are separated by dots, as in `limits.max_connections`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let mut entry = &mut self.config;
        for part in key.split('.') {
            entry = &mut entry[part];
        }
        *entry = value.into();
        self
    }

    pub fn policy(self, text: &str) -> Self {
        fs::write(self.path("policy.yaml"), text).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration and returns the path of the file. The file is JSON, which is also YAML.
    pub fn write(&self) -> PathBuf {
        let file = self.path("sidegate.yaml");
        fs::write(&file, serde_json::to_string_pretty(&self.config).unwrap()).unwrap();
        file
    }

    /// Starts the proxy and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Proxy {
        self.start_with(|_| {})
    }

    /// Starts the proxy; `change` can add arguments and environment variables.
    #[track_caller]
    pub fn start_with(self, change: impl FnOnce(&mut Command)) -> Proxy {
        let mut command = command(&["run", "--config", self.write().to_str().unwrap()]);
        change(&mut command);
        self.start_as(&mut command)
    }

    /// Starts the proxy in a shell after another command, such as `ulimit -n 64`.
    #[track_caller]
    pub fn start_in_shell(self, before: &str) -> Proxy {
        let (program, config) = (program(), self.write());
        let script = format!("{before}; exec {} run --config {}", program.display(), config.display());
        self.start_as(Command::new("sh").args(["-c", &script]))
    }

    /// Starts the proxy by a command that replaces itself by the proxy (`exec`).
    #[track_caller]
    pub fn start_as(self, command: &mut Command) -> Proxy {
        let mut process = Process::start(command);
        let ready = process.log_where("ready", |line| line["message"] == "ready");
        let address = |field: &str| -> SocketAddr {
            let text = ready[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {ready}"));
            text.parse().unwrap()
        };
        Proxy { address: address("listen"), admin: Admin { address: address("admin") }, process, setup: self }
    }

    /// Runs the program until it exits, for configurations that must be refused.
    pub fn run(&self) -> ProgramOutput {
        run(&["run", "--config", self.write().to_str().unwrap()])
    }
}

/// A proxy that is ready. The process is killed when the value is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub admin: Admin,
    pub process: Process,
    pub setup: Setup,
}

impl Proxy {
    /// Starts a proxy with the usual configuration in front of a backend.
    #[track_caller]
    pub fn in_front_of(backend: &str) -> Self {
        Setup::new(backend).start()
    }

    /// Connects as the producer, by HTTP/1.1.
    #[track_caller]
    pub fn connect(&self) -> Tls {
        self.producer().connect(self.address).unwrap()
    }

    /// Connects as the producer, by HTTP/2.
    #[track_caller]
    pub fn http2(&self) -> Http2 {
        Http2::connect(&self.producer(), self.address).unwrap()
    }

    pub fn pki(&self) -> &Pki {
        &self.setup.pki
    }

    pub fn anonymous(&self) -> Client {
        Client::anonymous(self.pki())
    }

    pub fn producer(&self) -> Client {
        Client::presenting(self.pki(), &self.pki().producer)
    }

    pub fn consumer(&self) -> Client {
        Client::presenting(self.pki(), &self.pki().consumer)
    }

    pub fn client(&self, credential: &Credential) -> Client {
        Client::presenting(self.pki(), credential)
    }
}

/// Sends one request as the producer, through a proxy of its own, and returns what the backend received.
#[track_caller]
pub fn forwarded(request: &str) -> ReceivedRequest {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let answer = proxy.connect().ask(request).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    backend.wait_for(1).remove(0)
}

/// Asserts that a client is served, by HTTP/1.1 and by HTTP/2.
#[track_caller]
pub fn assert_served(proxy: &Proxy, client: &Client) {
    let mut http1 = client.connect(proxy.address).unwrap();
    assert_eq!(http1.get("/events").unwrap().verdict(), "200");
    let http2 = Http2::connect(client, proxy.address).unwrap();
    assert_eq!(http2.get("/events").unwrap().verdict(), "200");
}

/// A running program. Threads read its standard output (audit records) and standard error (log), so that it never blocks.
pub struct Process {
    child: Child,
    log: Receiver<String>,
    audit: Receiver<String>,
    /// Lines of the log that were read so far, for messages of failures.
    log_lines: Vec<String>,
}

impl Process {
    pub fn spawn(arguments: &[&str]) -> Self {
        Self::start(&mut command(arguments))
    }

    pub fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, audit) = (lines(child.stderr.take().unwrap()), lines(child.stdout.take().unwrap()));
        Self { child, log, audit, log_lines: Vec::new() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the CPU time of all threads, which does not depend on other programs.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let nanoseconds = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Returns the resident memory in bytes.
    pub fn resident_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
    }

    /// Waits for a line of the log that the predicate accepts.
    #[track_caller]
    pub fn log_where(&mut self, what: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let json = |line: &str| serde_json::from_str(line).unwrap_or(Value::Null);
        json(&self.find_in_log(what, |line| is_expected(&json(line))))
    }

    /// Waits for a line of the log that contains this text, for programs whose log is plain text.
    #[track_caller]
    pub fn log_with(&mut self, part: &str) -> String {
        self.find_in_log(part, |line| line.contains(part))
    }

    #[track_caller]
    fn find_in_log(&mut self, what: &str, is_expected: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            match self.log.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) => {
                    self.log_lines.push(line.clone());
                    if is_expected(&line) {
                        return line;
                    }
                }
                Err(error) => panic!("no `{what}` in the log ({error}): {}", self.log_lines.join("\n")),
            }
        }
    }

    /// Waits for an audit record that the predicate accepts.
    #[track_caller]
    pub fn audit_where(&mut self, what: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let line = self.audit.recv_timeout(DEADLINE.saturating_sub(start.elapsed()));
            let line = line.unwrap_or_else(|error| panic!("no audit record `{what}`: {error}"));
            let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if is_expected(&value) {
                return value;
            }
        }
    }

    /// Waits for the next line of standard output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.audit.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(error) => panic!("no further line ({error}): {}", self.log()),
        }
    }

    /// Waits for a line of standard output that contains this text.
    #[track_caller]
    pub fn line_with(&mut self, part: &str) -> String {
        std::iter::repeat_with(|| self.line()).find(|line| line.contains(part)).unwrap()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits until the program exits. The end of its log tells that, so no polling is needed.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.log.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) => self.log_lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("still running: {}", self.log_lines.join("\n")),
            }
        }
    }

    /// Reads standard output to its end.
    pub fn rest_of_output(&mut self) -> String {
        self.audit.iter().collect::<Vec<_>>().join("\n")
    }

    /// Returns the log so far.
    pub fn log(&mut self) -> String {
        self.log_lines.extend(self.log.try_iter());
        self.log_lines.join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the program's log\n{}", self.log());
        }
    }
}

/// The exit code and the outputs of a program that has ended.
#[derive(Debug)]
pub struct ProgramOutput {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(arguments: &[&str]) -> ProgramOutput {
    let mut process = Process::spawn(arguments);
    let code = process.exit().code();
    let stdout = process.rest_of_output();
    ProgramOutput { code, stdout, stderr: process.log_lines.join("\n") }
}

/// Returns the path of the program: the build of cargo, or the build that `SIDEGATE_PROGRAM` names.
pub fn program() -> PathBuf {
    std::env::var_os("SIDEGATE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_sidegate").into()).into()
}

/// Returns a command for the program without the `SIDEGATE_` variables of the developer.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SIDEGATE_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}
