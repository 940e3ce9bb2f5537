//! Committed examples of what the tools answer: each text starts with a command line after `$ sidegate`, then what it prints,
//! then its exit code. With `UPDATE_SNAPSHOTS=1` the answers are written anew; read what changed before committing it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::proxy::program;

/// Runs every `*.txt` of `examples` in the folder `place`, both below the project's root.
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
        let answer = format!("{line}\n{}", answer(&root.join(place), &line));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&file, &answer).unwrap();
        } else if committed != answer {
            wrong.push(format!("{}:\n{answer}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "these answer otherwise than committed:\n{}", wrong.join("\n"));
}

fn answer(folder: &Path, line: &str) -> String {
    let line = line.strip_prefix("$ sidegate ").unwrap_or_else(|| panic!("no command: {line}"));
    let output = Command::new(program()).args(words(line)).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    format!("{}{}exit {}\n", text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
}

/// The words of a line; single quotes hold one together.
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
