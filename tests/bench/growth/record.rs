//! `tests/bench/growth.json`: the figures of the last run of each measurement, with the date, the machine and the version.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::proxy::program;

pub struct Record(Value);

impl Record {
    /// Reads the figures of earlier runs.
    pub fn read() -> Self {
        let text = fs::read_to_string(file()).unwrap_or_else(|_| "{}".to_owned());
        Self(serde_json::from_str(&text).expect("growth.json is JSON"))
    }

    /// Writes the figures of one measurement at once, so that ending the program loses no finished measurement.
    pub fn write(&mut self, name: &str, figures: Value) {
        let minute = Timestamp::now().strftime("%Y-%m-%dT%H:%MZ").to_string();
        self.0[name] = json!({ "at": minute, "of": version(), "on": machine(), "figures": figures });
        fs::write(file(), serde_json::to_string_pretty(&self.0).unwrap() + "\n").unwrap();
    }
}

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/growth.json"))
}

fn version() -> String {
    let output = Command::new(program()).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Returns the class of the machine: the number of cores and the model of the processor.
fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} virtual cores, {}", model.map_or("unknown", |(_, model)| model))
}
