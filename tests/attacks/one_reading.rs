//! One reading of a path: what is accepted decodes to the same path in the programs that backends are made of, each asked
//! itself: Node's WHATWG URL, Express, Python's urllib, Java's URI, and the rules of servlets.
//!
//! The same programs are held against the rules that tests/fuzz/checks/readings.rs writes down of them, so that what is tried
//! there a million times is true of them too.

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

/// How many targets that are accepted as they are, and how many that a setting lets through.
const STRICT: usize = 5_000;
const ALLOWED: usize = 5_000;

/// What a program makes of a target; `null` where it refuses.
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

/// The programs that are here, with their scripts.
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

/// Targets that such rules accept and strict ones do or do not.
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
fn what_is_accepted_decodes_to_the_path_that_was_judged_in_every_program() {
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

/// And none of what a setting lets through is a host, or refused by what reads it as the rules say.
#[test]
fn the_rules_that_are_written_down_are_those_of_the_programs() {
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
                // How many characters stand for bytes that are none differs from program to program.
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
