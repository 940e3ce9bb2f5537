//! Committed outputs of the command line: each file has a command after `$ sidegate`, then its output, then its exit code.
//! `UPDATE_SNAPSHOTS=1` writes the files again; read the changes before you commit them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::proxy::program;

/// Runs the command of every `*.txt` in the folder `examples`, with the working directory `place`. Both are relative to the
/// root of the repository.
#[track_caller]
pub fn assert_as_committed(examples: &str, place: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> =
        fs::read_dir(root.join(examples)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let committed = fs::read_to_string(&file).unwrap();
        let line = committed.lines().next().unwrap_or_default().to_owned();
        let output = format!("{line}\n{}", output_of(&root.join(place), &line));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&file, &output).unwrap();
        } else if committed != output {
            wrong.push(format!("{}:\n{output}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "these outputs differ from the committed ones:\n{}", wrong.join("\n"));
}

fn output_of(folder: &Path, line: &str) -> String {
    let line = line.strip_prefix("$ sidegate ").unwrap_or_else(|| panic!("no command: {line}"));
    let output = Command::new(program()).args(words(line)).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    format!("{}{}exit {}\n", text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
}

/// Splits a line into words at spaces; single quotes protect spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            character => words.last_mut().unwrap().push(character),
        }
    }
    words
}
