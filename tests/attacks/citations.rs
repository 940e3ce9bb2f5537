//! No row of the list of known attacks is without a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How many rows the list has.
const ROWS: u32 = 80;

/// Rows whose part of the program is not there yet. A row that gets its test leaves this list: the test says so.
const NOT_YET: [(u32, &str); 0] = [];

#[test]
fn every_row_of_the_list_is_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cited = BTreeMap::new();
    for folder in ["tests", "src"] {
        look_through(&root.join(folder), &mut cited);
    }
    let not_yet: BTreeSet<u32> = NOT_YET.iter().map(|(row, _)| *row).collect();
    let missing: Vec<u32> =
        (1..=ROWS).filter(|row| !cited.contains_key(row) && !not_yet.contains(row)).collect();
    assert!(missing.is_empty(), "no test cites {missing:?}");
    let done: Vec<_> = cited.iter().filter(|(row, _)| not_yet.contains(row)).collect();
    assert!(done.is_empty(), "these have a test now; take them from the list: {done:?}");
    let unknown: Vec<_> = cited.iter().filter(|(row, _)| !(1..=ROWS).contains(*row)).collect();
    assert!(unknown.is_empty(), "the list has no such rows: {unknown:?}");
}

/// Notes every row that a file below this folder cites, and one of those files.
fn look_through(folder: &Path, cited: &mut BTreeMap<u32, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_through(&path, cited);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(file!()) {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let rows = text.lines().filter(|line| cites(line)).flat_map(rows_of).collect::<Vec<_>>();
            cited.extend(rows.into_iter().map(|row| (row, name.clone())));
        }
    }
}

/// Above a test, in its name, or in the name of what it tries.
fn cites(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("fn case_") || line.contains("\"case")
}

/// The numbers that follow `case` or `cases` in a line: `Cases 32, 33 and 36: …`.
fn rows_of(line: &str) -> Vec<u32> {
    let mut rows = Vec::new();
    let mut words =
        line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        if !["case", "Case", "cases", "Cases"].contains(&word) {
            continue;
        }
        while let Some(word) = words.next_if(|word| *word == "and" || word.parse::<u32>().is_ok()) {
            rows.extend(word.parse::<u32>().ok());
        }
    }
    rows
}

#[test]
fn citations_are_read_as_they_are_written() {
    for (line, rows) in [
        ("/// Case 32: dots.", vec![32]),
        ("/// Cases 32, 33 and 36.", vec![32, 33, 36]),
        ("(\"case 7, twice\", \"case 8\")", vec![7, 8]),
        ("a case of its own, and 12 more", vec![]),
    ] {
        assert_eq!(rows_of(line), rows, "{line}");
    }
}
