//! Changes of a part: the content that was judged last, and whether new content is believed yet.

use std::time::{Duration, Instant};

use crate::diagnostic::Diagnostic;
use crate::digest::Digest;

/// Number of looks in a row with different content after which the change itself is reported as a mistake.
const MOST_CHANGES: usize = 20;
/// Time for which a key that does not fit its certificate, or an empty file, counts as being replaced.
const ROTATION: Duration = Duration::from_secs(10);

/// One part in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookResult {
    /// The read hangs.
    Hangs,
    /// The content is the same as the one that was judged last.
    Same,
    /// Other content than in the look before: a program may still be writing.
    Changing,
    /// To be judged now.
    Due,
    /// Other content in every look.
    Unsettled,
}

/// The state of a part from look to look.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    judged: Digest,
    in_force: Option<Digest>,
    /// Warnings about the content in force, without those about dates.
    warnings: Vec<Diagnostic>,
    candidate: Option<Digest>,
    changes: usize,
    replaced_since: Option<Instant>,
}

impl Watch {
    /// Compares the content of a look (`None`: the read hangs) with earlier looks. The content of a forced look is believed
    /// at once: the user says that everything is in place.
    pub(super) fn observe(&mut self, of: Option<Digest>, is_forced: bool) -> LookResult {
        let Some(of) = of else { return LookResult::Hangs };
        if is_forced {
            return LookResult::Due;
        }
        if of == self.judged {
            // The content may have been changed back.
            self.forget_change();
            return LookResult::Same;
        }
        if self.candidate.replace(of) == Some(of) {
            self.changes = 0;
            return LookResult::Due;
        }
        self.changes = self.changes.saturating_add(1);
        if self.changes > MOST_CHANGES { LookResult::Unsettled } else { LookResult::Changing }
    }

    /// `true` if content that is being replaced is still waited for.
    pub(super) fn waits_for_rotation(&mut self) -> bool {
        self.replaced_since.get_or_insert_with(Instant::now).elapsed() < ROTATION
    }

    /// `true` if this content is in force already.
    pub(super) fn is_in_force(&self, of: Digest) -> bool {
        self.in_force == Some(of)
    }

    /// Warnings about the content in force.
    pub(super) fn warnings(&self) -> Vec<Diagnostic> {
        self.warnings.clone()
    }

    /// Notes content that was put in force.
    pub(super) fn applied(&mut self, of: Digest, warnings: Vec<Diagnostic>) {
        self.refused(of);
        (self.in_force, self.warnings) = (Some(of), warnings);
    }

    /// Notes content that was judged and refused.
    pub(super) fn refused(&mut self, of: Digest) {
        self.judged = of;
        self.forget_change();
    }

    fn forget_change(&mut self) {
        (self.candidate, self.changes, self.replaced_since) = (None, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Digest = [1; 32];
    const NEW: Digest = [2; 32];

    fn watch() -> Watch {
        let mut watch = Watch::default();
        watch.applied(OLD, Vec::new());
        watch
    }

    #[test]
    fn a_change_is_believed_when_two_looks_agree() {
        let mut watch = watch();
        let seen = [OLD, NEW, OLD, NEW, [3; 32], NEW, NEW].map(|of| watch.observe(Some(of), false));
        let expected = [
            LookResult::Same,
            LookResult::Changing,
            LookResult::Same,
            LookResult::Changing,
            LookResult::Changing,
            LookResult::Changing,
            LookResult::Due,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_hanging_read_between_two_equal_looks_changes_nothing() {
        let mut watch = watch();
        assert_eq!(watch.observe(Some(NEW), false), LookResult::Changing);
        assert_eq!(watch.observe(None, true), LookResult::Hangs);
        assert_eq!(watch.observe(Some(NEW), false), LookResult::Due);
    }

    #[test]
    fn what_never_settles_is_told() {
        let mut watch = watch();
        let seen: Vec<_> = (10..40).map(|of| watch.observe(Some([of; 32]), false)).collect();
        assert_eq!(seen.iter().position(|seen| *seen == LookResult::Unsettled), Some(MOST_CHANGES));
    }

    #[test]
    fn refused_content_is_judged_again_only_after_a_change() {
        let mut watch = watch();
        watch.refused(NEW);
        assert_eq!(watch.observe(Some(NEW), false), LookResult::Same);
        assert!(watch.is_in_force(OLD) && !watch.is_in_force(NEW));
        assert_eq!(watch.observe(Some(NEW), true), LookResult::Due);
    }
}
