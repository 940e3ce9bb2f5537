//! A path has one reading: an accepted path decodes to the same path in the programs that backends are made of. Each program
//! is asked itself: Node's WHATWG URL, Express, Python's urllib, Java's URI, and the rules of servlets.
//!
//! The rules of these programs are written down in tests/fuzz/checks/readings.rs, and are compared here with the programs.
//! What the fuzz targets find with the rules is then true of the programs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use proptest::strategy::{Strategy, ValueTree};
use serde_json::Value;
use sidegate::target::{AllowedForms, Target, TargetRules};

use super::fuzzing::checks::readings::{READERS, unquote};
use super::fuzzing::checks::target::judged;
use super::fuzzing::{runner, target};
use crate::support::is_missing;
use crate::support::tools::{node, script};

/// Numbers of generated targets: those that strict rules accept, and those that only a setting accepts.
const STRICT: usize = 5_000;
const ALLOWED: usize = 5_000;

/// A program's readings of a target; `null` if the program refuses the target.
type Readings = BTreeMap<String, Value>;

/// Sends every target to a program, one a line, and reads one answer a line.
fn asked(mut command: Command, targets: &[String]) -> Vec<Readings> {
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (program.stdin.take().unwrap(), String::new());
    let lines = targets.join("\n") + "\n";
    let writing = thread::spawn(move || input.write_all(lines.as_bytes()));
    program.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    writing.join().unwrap().unwrap();
    assert!(program.wait().unwrap().success(), "{command:?}");
    let readings: Vec<Readings> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(readings.len(), targets.len(), "{command:?}");
    readings
}

/// Returns the programs that are installed, each with its script.
fn programs() -> Option<Vec<Command>> {
    if is_missing("python3", Command::new("python3").arg("--version"))
        || is_missing("java", Command::new("javac").arg("-version"))
    {
        return None;
    }
    let mut python = Command::new("python3");
    python.arg(script("attacks/one_reading/readings.py")).env("PYTHONUTF8", "1");
    let mut express = node("express")?;
    express.arg(script("attacks/one_reading/readings.mjs"));
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"])
        .arg(script("attacks/one_reading/Readings.java"));
    Some(vec![python, express, java])
}

/// Returns generated targets that these rules accept and that strict rules accept (`is_strict`) or refuse.
fn accepted(count: usize, allowed: AllowedForms, is_strict: bool) -> Vec<String> {
    let (mut runner, made_up) = (runner(1), target());
    let is_wanted = |text: &String| {
        let accepts = |allowed| {
            Target::from_text(&format!("GET {text}"), TargetRules { allowed, ..TargetRules::STRICT }).is_ok()
        };
        accepts(allowed) && accepts(AllowedForms::NONE) == is_strict && text.starts_with('/')
    };
    let found = std::iter::repeat_with(|| made_up.new_tree(&mut runner).unwrap().current()).filter(is_wanted);
    let forwarded = found.map(|text| {
        let target =
            Target::from_text(&format!("GET {text}"), TargetRules { allowed, ..TargetRules::STRICT })
                .unwrap();
        target.path_and_query().as_str().to_owned()
    });
    forwarded.take(count).collect()
}

fn text<'a>(reading: &'a Value, key: &str) -> &'a str {
    reading[key].as_str().unwrap_or_else(|| panic!("no {key} in {reading}"))
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&unquote(text)).into_owned()
}

#[test]
fn an_accepted_target_decodes_to_the_judged_path_in_every_program() {
    let Some(programs) = programs() else { return };
    let targets = accepted(STRICT, AllowedForms::NONE, true);
    let mut readers = 0;
    for program in programs {
        for (target, readings) in targets.iter().zip(asked(program, &targets)) {
            let judged_target = Target::from_text(&format!("GET {target}"), TargetRules::STRICT).unwrap();
            readers = readers.max(readings.len());
            for (name, reading) in readings {
                assert_eq!(
                    text(&reading, "path"),
                    judged(&judged_target),
                    "{name} reads {target}: {reading}"
                );
                let query = judged_target.query().unwrap_or_default();
                assert_eq!(
                    decoded(text(&reading, "query")),
                    decoded(query),
                    "{name} reads {target}: {reading}"
                );
                assert_eq!(reading["elsewhere"], false, "{name} reads {target}: {reading}");
            }
        }
    }
    assert_eq!(readers, 2, "Node and Java read in two ways each");
}

/// A target that a setting permits is never read as a host, nor refused by a program whose written rules accept it.
#[test]
fn the_written_rules_match_the_programs() {
    let Some(programs) = programs() else { return };
    let targets =
        [accepted(STRICT / 5, AllowedForms::NONE, true), accepted(ALLOWED, AllowedForms::ALL, false)]
            .concat();
    let mut compared = BTreeMap::new();
    for program in programs {
        for (target, readings) in targets.iter().zip(asked(program, &targets)) {
            for (name, reading) in readings {
                let (_, read) = READERS.iter().find(|(reader, _)| *reader == name).unwrap();
                let ours = read(target);
                assert_eq!(
                    ours.is_none(),
                    reading.is_null(),
                    "{name} reads {target}: {reading}, not {ours:?}"
                );
                let Some(ours) = ours else { continue };
                assert_eq!(reading["elsewhere"], ours.elsewhere, "{name} reads {target}: {reading}");
                assert!(!ours.elsewhere, "{name} takes the start of {target} for a host");
                // Programs differ in the number of characters that they show for invalid bytes.
                if ours.path.contains('\u{fffd}') {
                    continue;
                }
                assert_eq!(text(&reading, "path"), ours.path, "{name} reads {target}: {reading}");
                *compared.entry(name).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(compared.len(), READERS.len(), "{compared:?}");
    assert!(compared.values().all(|count| *count > targets.len() / 4), "{compared:?}");
}
