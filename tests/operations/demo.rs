//! `sidegate demo` prints lines for a shell, and each line has the result that the text beside it announces.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::is_missing;
use crate::support::proxy::{Process, run};

/// A running demo that has printed all its lines.
struct Demo {
    process: Process,
    /// The text beside each line, and the line.
    lines: Vec<(String, String)>,
    folder: PathBuf,
}

impl Demo {
    fn start(options: &[&str]) -> Self {
        let mut process = Process::spawn(&[&["demo"], options].concat());
        let mut folder = None;
        let mut lines = Vec::new();
        loop {
            let line = process.line();
            if let Some(text) = line.strip_prefix("# ") {
                lines.push((text.to_owned(), process.line()));
            } else if let Some(rest) = line.trim().strip_prefix("files") {
                folder = rest.split_whitespace().next().map(PathBuf::from);
            } else if line.contains("Ctrl-C") {
                return Self { process, lines, folder: folder.expect("the folder of the files") };
            }
        }
    }

    #[track_caller]
    fn stop(mut self) {
        self.process.signal("INT");
        assert_eq!(self.process.exit().code(), Some(0));
    }
}

#[test]
fn every_line_has_the_announced_result() {
    if is_missing("curl", Command::new("curl").arg("--version")) {
        return;
    }
    for slots in ["1", "4"] {
        let mut demo = Demo::start(&["--max-connections", slots]);
        let lines = demo.lines.clone();
        assert!(lines.len() >= 15, "{lines:?}");
        for (text, line) in &lines {
            if text.contains("Ctrl-C") {
                assert_follows(line);
            } else if line.starts_with("kill ") {
                sh(line);
                demo.process.line_with("the backend is ");
            } else {
                assert_result(text, &sh(line));
            }
        }
        let folder = demo.folder.clone();
        assert!(folder.exists());
        demo.stop();
        assert!(!folder.exists(), "the temporary folder is removed");
    }
}

#[test]
fn the_lines_of_the_demo_show_every_refusal() {
    let demo = Demo::start(&["--max-connections", "1"]);
    let all: String = demo.lines.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("\n");
    for said in [
        "201",
        "401 not_authenticated",
        "401 invalid_certificate",
        "403 insufficient_permissions",
        "504 server_full",
        "504 backend_unavailable",
        "a stream",
        "expired",
        "revoked",
        "stranger",
        "ready",
        "metrics",
        "state",
    ] {
        assert!(all.contains(said), "{said}: {all}");
    }
    demo.stop();
}

#[test]
fn a_given_folder_stays_and_can_be_used_by_run() {
    if is_missing("curl", Command::new("curl").arg("--version")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a demo");
    let demo = Demo::start(&["--dir", path.to_str().unwrap()]);
    let (text, line) = demo.lines[0].clone();
    assert_result(&text, &sh(&line));
    demo.stop();
    for file in ["ca.crt", "producer.key", "sidegate.yaml", "policies/events.yaml"] {
        assert!(path.join(file).exists(), "{file}");
    }
    Demo::start(&["--dir", path.to_str().unwrap()]).stop();
}

#[test]
fn a_folder_with_other_files_is_left_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.crt"), "mine").unwrap();
    let finished = run(&["demo", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("not the demo's"), "{finished:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("ca.crt")).unwrap(), "mine");
}

#[test]
fn given_ports_are_used_and_a_port_in_use_is_reported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for option in ["--port", "--admin-port", "--backend-port"] {
        let finished = run(&["demo", option, &port]);
        assert_eq!(finished.code, Some(2), "{option}: {finished:?}");
        assert!(finished.stderr.contains(&port), "{option}: {finished:?}");
    }
    drop(taken);
    let demo = Demo::start(&["--port", &port]);
    assert!(demo.lines[0].1.contains(&format!("https://localhost:{port}/")), "{:?}", demo.lines[0]);
    demo.stop();
}

/// Runs a line in a shell, and returns its whole output.
#[track_caller]
fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{line}\n{text}");
    text
}

/// Asserts the result that the text announces at its end: `…: 401 invalid_certificate`.
#[track_caller]
fn assert_result(text: &str, output: &str) {
    let mut expected = text.rsplit("? ").next().unwrap().rsplit(": ").next().unwrap().split_whitespace();
    let status =
        expected.find(|word| word.parse::<u16>().is_ok()).unwrap_or_else(|| panic!("no status: {text}"));
    let is_there =
        output.lines().any(|line| line.starts_with("HTTP/") && line.contains(&format!(" {status}")));
    assert!(is_there, "{text}\n{output}");
    if let Some(reason) = expected.next().filter(|word| word.contains('_')) {
        assert!(output.contains(&format!("\"reason\":\"{reason}\"")), "{text}\n{output}");
    }
}

/// Asserts that the stream shows an event that was published before, and goes on until it is stopped.
fn assert_follows(line: &str) {
    let mut curl =
        Command::new("sh").args(["-c", &format!("exec {line}")]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let seen: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.starts_with("data: ")).collect();
    assert!(seen[0].contains(" 200"), "{seen:?}");
    assert!(curl.try_wait().unwrap().is_none(), "the stream goes on until it is stopped");
    curl.kill().unwrap();
    curl.wait().unwrap();
}
