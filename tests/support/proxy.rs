//! The real binary, started with a configuration of the test's own.

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
use super::{Client, DEADLINE, Pki};

/// Lets the producer do everything and the consumer next to nothing.
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

/// Lets the producer and the consumer do everything; the entry of each says this besides.
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

/// A folder with everything that `sidegate run` needs, before it runs.
pub struct Setup {
    pub folder: TempDir,
    pub pki: Pki,
    pub config: Value,
}

impl Setup {
    /// The usual configuration in front of a backend.
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
            // A fifth of it is the grace in which a stopping server still answers; most tests need not wait for more.
            "drain_timeout": "5s",
            // Every client of a test comes from the one address that the bounds per source are about.
            "limits": { "lobby": { "max_per_source": 1000, "connections_per_second": 100_000 } },
        });
        Self { folder, pki, config }
    }

    /// Sets a key, given with dots: `limits.max_connections`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.config;
        for part in key.split('.') {
            place = &mut place[part];
        }
        *place = value.into();
        self
    }

    pub fn policy(self, text: &str) -> Self {
        fs::write(self.path("policy.yaml"), text).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration (JSON is YAML) and returns the file's path.
    pub fn write(&self) -> PathBuf {
        let file = self.path("sidegate.yaml");
        fs::write(&file, serde_json::to_string_pretty(&self.config).unwrap()).unwrap();
        file
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Proxy {
        self.start_with(|_| {})
    }

    /// Starts it with more on its command line or in its environment.
    #[track_caller]
    pub fn start_with(self, change: impl FnOnce(&mut Command)) -> Proxy {
        let mut command = command(&["run", "--config", self.write().to_str().unwrap()]);
        change(&mut command);
        self.start_as(&mut command)
    }

    /// Starts it below a shell that has done something first: `ulimit -n 64`.
    #[track_caller]
    pub fn start_within(self, first: &str) -> Proxy {
        let (program, config) = (program(), self.write());
        let script = format!("{first}; exec {} run --config {}", program.display(), config.display());
        self.start_as(Command::new("sh").args(["-c", &script]))
    }

    /// Starts it by a command that becomes it.
    #[track_caller]
    pub fn start_as(self, command: &mut Command) -> Proxy {
        let mut process = Process::of(command);
        let ready = process.log_where("ready", |line| line["message"] == "ready");
        let address = |field: &str| -> SocketAddr {
            let text = ready[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {ready}"));
            text.parse().unwrap()
        };
        Proxy { address: address("listen"), admin: Admin { address: address("admin") }, process, setup: self }
    }

    /// Runs it to its end, for what must not start.
    pub fn run(&self) -> Finished {
        run(&["run", "--config", self.write().to_str().unwrap()])
    }
}

/// A proxy that is ready; killed when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub admin: Admin,
    pub process: Process,
    pub setup: Setup,
}

impl Proxy {
    /// In front of a backend, with nothing out of the ordinary.
    #[track_caller]
    pub fn in_front_of(backend: &str) -> Self {
        Setup::new(backend).start()
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

/// The program, with both of its outputs read as they come.
pub struct Process {
    child: Child,
    log: Receiver<String>,
    audit: Receiver<String>,
    /// What was read of the log, for the message of a failure.
    seen: Vec<String>,
}

impl Process {
    pub fn spawn(arguments: &[&str]) -> Self {
        Self::of(&mut command(arguments))
    }

    pub fn of(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, audit) = (lines(child.stderr.take().unwrap()), lines(child.stdout.take().unwrap()));
        Self { child, log, audit, seen: Vec::new() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time that it has used, whatever else the machine does.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let nanoseconds = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Memory that it uses, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
    }

    /// Waits for a line of the log that is such.
    #[track_caller]
    pub fn log_where(&mut self, what: &str, such: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            match self.log.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) => {
                    let value = serde_json::from_str(&line).unwrap_or(Value::Null);
                    self.seen.push(line);
                    if such(&value) {
                        return value;
                    }
                }
                Err(error) => panic!("no `{what}` in the log ({error}): {}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for a line of the log that has this in it, of a program whose log is plain text.
    #[track_caller]
    pub fn log_with(&mut self, part: &str) -> String {
        let start = Instant::now();
        loop {
            match self.log.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(error) => panic!("no `{part}` in the log ({error}): {}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for an audit record that is such.
    #[track_caller]
    pub fn audit_where(&mut self, what: &str, such: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let line = self.audit.recv_timeout(DEADLINE.saturating_sub(start.elapsed()));
            let line = line.unwrap_or_else(|error| panic!("no audit record `{what}`: {error}"));
            let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if such(&value) {
                return value;
            }
        }
    }

    /// The next line of standard output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.audit.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(error) => panic!("no further line ({error}): {}", self.log()),
        }
    }

    /// Waits for a line of standard output that has this in it.
    #[track_caller]
    pub fn line_with(&mut self, part: &str) -> String {
        std::iter::repeat_with(|| self.line()).find(|line| line.contains(part)).unwrap()
    }

    /// Sends a signal by its name: `TERM`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end. The end of its log comes first, so nothing has to be polled.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.log.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("still running: {}", self.seen.join("\n")),
            }
        }
    }

    /// What is left of standard output, to its end.
    pub fn rest_of_output(&mut self) -> String {
        self.audit.iter().collect::<Vec<_>>().join("\n")
    }

    /// Everything of the log that was read so far.
    pub fn log(&mut self) -> String {
        self.seen.extend(self.log.try_iter());
        self.seen.join("\n")
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

/// How a program ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(arguments: &[&str]) -> Finished {
    let mut process = Process::spawn(arguments);
    let code = process.exit().code();
    let stdout = process.rest_of_output();
    Finished { code, stdout, stderr: process.seen.join("\n") }
}

/// What cargo has built, or another build of it that `SIDEGATE_PROGRAM` names.
pub fn program() -> PathBuf {
    std::env::var_os("SIDEGATE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_sidegate").into()).into()
}

/// The program, without what the developer's own environment says to it.
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
