//! Any text as a policy: compiling it ends within its budget, with a policy or with diagnostics that can be printed.

use sidegate::diagnostic::{Diagnostic, Source};
use sidegate::policy::Policy;

pub fn run(text: &str) {
    let problems = match Policy::compile(&[Source::new("fuzz.yaml", text)]) {
        Ok((_, warnings)) => warnings,
        Err(problems) => {
            assert!(problems.iter().any(Diagnostic::is_error), "refused without a reason");
            problems
        }
    };
    for problem in problems {
        let shown = problem.human(sidegate::diagnostic::Colour::Never);
        assert!(
            shown.chars().all(|c| c == '\n' || !c.is_control()),
            "control characters in a diagnostic: {shown:?}"
        );
        assert!(!problem.github().contains('\n'));
    }
}
