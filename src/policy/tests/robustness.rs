//! The check of any text ends with a policy or with diagnostics that can be shown, and never with a panic.

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

/// Texts with a meaning in YAML or in the policy language.
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

/// Checks a text, shows all diagnostics, and makes decisions if the text is a policy.
fn check_and_show(text: &str) {
    let source = Source::new("p.yaml", text);
    match super::super::model(std::slice::from_ref(&source)) {
        Ok((model, _)) => {
            let lints = lint::lint(&model, Timestamp::UNIX_EPOCH);
            lints.iter().for_each(shown);
            let policy = Policy::of(model);
            let _ = test_request("GET /events/1?x=1").decide(&policy, &identity_of(ACME));
            let _ = test_request("POST /").decide(&policy, &identity_of(ORDERS));
        }
        Err(problems) => {
            assert!(problems.iter().any(Diagnostic::is_error));
            problems.iter().for_each(shown);
        }
    }
}

fn shown(problem: &Diagnostic) {
    let text = problem.human(crate::diagnostic::Colour::Never);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(!problem.github().contains('\n') && problem.json().is_object());
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn edited_policies_never_panic(
        shipped in prop::sample::select(SHIPPED.to_vec()),
        edits in prop::collection::vec((any::<Index>(), 0usize..12, prop::sample::select(PIECES.to_vec())), 1..6),
    ) {
        let mut text: Vec<char> = shipped.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        check_and_show(&text.into_iter().collect::<String>());
    }

    #[test]
    fn random_pieces_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..60)) {
        check_and_show(&pieces.concat());
        check_and_show(&format!("version: 1\npermissions:\n  p: [\"{}\"]\n", pieces.concat().replace(['"', '\\', '\n'], "")));
        check_and_show(&format!("version: 1\nclients:\n  - {{ name: a, match: {{ uri: \"{}\" }} }}\n", pieces.concat().replace(['"', '\\', '\n'], "")));
    }

    #[test]
    fn random_texts_never_panic(text in ".{0,300}") {
        check_and_show(&text);
    }
}

#[test]
fn half_of_a_file_is_never_half_of_a_policy() {
    // An editor may be in the middle of writing a file. Every beginning of a file is checked, and none causes a panic.
    for shipped in SHIPPED {
        for (end, _) in shipped.char_indices().step_by(7) {
            check_and_show(shipped.get(..end).unwrap());
        }
    }
}
