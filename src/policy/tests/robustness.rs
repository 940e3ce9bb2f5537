//! Whatever a file says, checking it ends with a policy or with diagnostics that can be shown, and never in a crash.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const SHIPPED: [&str; 6] = [
    include_str!("../../../policies/events.yaml"),
    include_str!("../../../policies/examples/tenants.yaml"),
    include_str!("../../../policies/examples/spiffe.yaml"),
    include_str!("../../../policies/examples/temporary-access.yaml"),
    include_str!("../../../policies/examples/freeze.yaml"),
    include_str!("../../../policies/examples/read-only.yaml"),
];

/// Pieces of text that mean something to YAML or to the language.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    "\n",
    "  ",
    "\t",
    "*",
    "**",
    "&a ",
    "*a",
    "<<: ",
    "'",
    "\"",
    "|",
    ">",
    "#",
    "%",
    "!x ",
    "---\n",
    "~",
    "{client.t}",
    "{t}",
    "GET /",
    "..",
    "//",
    "%2F",
    "0",
    "-1",
    "2026-01-01T00:00:00Z",
    "\u{feff}",
    "ü",
    "\u{202e}",
    "\0",
    "any: true",
    "\r",
    "deny:",
];

/// Checks a text, shows everything that is said of it, and decides something if it is a policy.
fn survives(text: &str) {
    let source = Source::new("p.yaml", text);
    match super::super::model(std::slice::from_ref(&source)) {
        Ok((model, _)) => {
            let lints = lint::lint(&model, Timestamp::UNIX_EPOCH);
            lints.iter().for_each(shown);
            let policy = Policy::of(model);
            let _ = ask("GET /events/1?x=1").of(&policy, &who(ACME));
            let _ = ask("POST /").of(&policy, &who(ORDERS));
        }
        Err(problems) => {
            assert!(problems.iter().any(Diagnostic::is_error));
            problems.iter().for_each(shown);
        }
    }
}

fn shown(problem: &Diagnostic) {
    let text = problem.human(false);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(!problem.github().contains('\n') && problem.json().is_object());
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_policy_that_was_mutilated(
        shipped in prop::sample::select(SHIPPED.to_vec()),
        edits in prop::collection::vec((any::<Index>(), 0usize..12, prop::sample::select(PIECES.to_vec())), 1..6),
    ) {
        let mut text: Vec<char> = shipped.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_heap_of_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..60)) {
        survives(&pieces.concat());
        survives(&format!("version: 1\npermissions:\n  p: [\"{}\"]\n", pieces.concat().replace(['"', '\\', '\n'], "")));
        survives(&format!("version: 1\nclients:\n  - {{ name: a, match: {{ uri: \"{}\" }} }}\n", pieces.concat().replace(['"', '\\', '\n'], "")));
    }

    #[test]
    fn any_text_at_all(text in ".{0,300}") {
        survives(&text);
    }
}

/// Case 53.
#[test]
fn half_of_a_file_is_never_half_of_a_policy() {
    // A file that is still being written: every beginning of it is checked, and none of them panics.
    for shipped in SHIPPED {
        for (end, _) in shipped.char_indices().step_by(7) {
            survives(shipped.get(..end).unwrap());
        }
    }
}
