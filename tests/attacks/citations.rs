//! Every row of `README.md` beside this file, the list of classes of attacks, is cited by a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("README.md");

#[test]
fn every_class_of_attacks_has_a_test() {
    let rows: Vec<u32> = PAGE.lines().filter_map(number_of_row).collect();
    assert!(!rows.is_empty(), "the page has no row");
    assert!(
        rows.iter().copied().eq((1..).take(rows.len())),
        "rows are numbered from 1 on, without a gap: {rows:?}"
    );

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cited = BTreeMap::new();
    for folder in ["tests", "src"] {
        look_through(&root.join(folder), &mut cited);
    }
    let missing: Vec<u32> = rows.iter().copied().filter(|row| !cited.contains_key(row)).collect();
    assert!(missing.is_empty(), "no test cites {missing:?}");
    let unknown: Vec<_> = cited.iter().filter(|(row, _)| !rows.contains(row)).collect();
    assert!(unknown.is_empty(), "the page has no such rows: {unknown:?}");
}

/// Returns the number of a row of the page: `| 32 | input | outcome |`.
fn number_of_row(line: &str) -> Option<u32> {
    line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok()
}

/// Notes every row that a file below this folder cites, with one of the files that cite the row.
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

/// Returns whether a line can cite a row: a comment, a test's name, or the name of an input.
fn cites(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("fn case_") || line.contains("\"case")
}

/// Returns the numbers that follow `case` or `cases` in a line: `Cases 32, 33 and 36: …`.
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
