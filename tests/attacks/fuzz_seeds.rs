//! The bodies of the fuzz targets run over their committed seeds and over randomly changed seeds. This is the code that
//! cargo-fuzz runs for hours; here it runs for seconds and with any compiler.

use std::fs;
use std::path::Path;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

#[path = "../fuzz/bodies/decision.rs"]
mod decision;
#[path = "../fuzz/bodies/explain.rs"]
mod explain;
#[path = "../fuzz/bodies/policy.rs"]
mod policy;
#[path = "../fuzz/bodies/route.rs"]
mod route;

/// Pieces of text that have a meaning in YAML, in the policy language or in a terminal.
const PIECES: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "  ",
    "\t",
    "*",
    "**",
    "/",
    "//",
    "..",
    "%2F",
    "%",
    "{id}",
    "{client.t}",
    "&a ",
    "*a",
    "<<: ",
    "'",
    "\"",
    "#",
    "|",
    "!x ",
    "~",
    "\0",
    "\u{1b}[2J",
    "\u{202e}",
    "ü",
    "GET ",
];

/// Runs a body over each seed and over `times` changed copies of the seed; `SEED` repeats the same changes.
fn tried(target: &str, times: usize, body: fn(&str)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let seed: u64 = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => jiff::Timestamp::now().as_second().unsigned_abs(),
    };
    // The output is shown when the test fails.
    eprintln!("SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        eprintln!("{}", file.display());
        body(&text);
        for _ in 0..times {
            let changed = changed(&text, &mut rng);
            let survived = std::panic::catch_unwind(|| body(&changed));
            assert!(survived.is_ok(), "{target} does not survive this:\n{changed:?}");
        }
    }
}

/// Returns the text with a few pieces inserted, removed or moved.
fn changed(text: &str, rng: &mut TestRng) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let mut below = |bound: usize| usize::try_from(rng.next_u32()).unwrap() % bound.max(1);
    for _ in 0..=below(4) {
        let at = below(characters.len() + 1);
        let end = (at + below(8)).min(characters.len());
        let piece: Vec<char> = match below(3) {
            0 => {
                let from = below(characters.len());
                characters[from..characters.len().min(from + 12)].to_vec()
            }
            _ => PIECES[below(PIECES.len())].chars().collect(),
        };
        characters.splice(at..end, piece);
    }
    characters.into_iter().collect()
}

#[test]
fn any_text_is_checked_as_a_policy() {
    tried("policy", 100, policy::run);
}

#[test]
fn any_text_is_read_as_a_route() {
    tried("route", 300, route::run);
}

#[test]
fn any_question_to_any_policy_is_explained() {
    tried("explain", 100, explain::run);
}

#[test]
fn no_decision_depends_on_the_order_of_files() {
    tried("decision", 300, decision::run);
}
