//! From a verdict to the leave to go on. Here a [`Permit`] is made, and nowhere else: of a grant, or, under `mode: audit`,
//! of a denial that is only recorded.

use super::{Denied, Question, Verdict};

/// What becomes of what a policy denies (`mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is recorded, and let pass.
    Audit,
}

/// The leave to go to the backend, as far as the policy has a say in it.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    upgrade: bool,
}

impl Mode {
    /// All of them, with the words that operators write.
    pub const ALL: [(&'static str, Self); 2] = [("enforce", Self::Enforce), ("audit", Self::Audit)];

    /// The word that operators write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }

    /// What a verdict comes to. What is let pass on trial has all that it asked for, so that clients go on as they did
    /// before there was a policy.
    ///
    /// # Errors
    /// The denial, where it is enforced.
    pub fn permit(self, verdict: Verdict, question: &Question<'_>) -> Result<Permit, Denied> {
        match (verdict, self) {
            (Ok(granted), _) => Ok(Permit { upgrade: granted.upgrade() }),
            (Err(_), Self::Audit) => Ok(Permit { upgrade: question.asks_to_switch() }),
            (Err(denied), Self::Enforce) => Err(denied),
        }
    }
}

impl Permit {
    /// Whether the switch to the protocol that was asked for is permitted too.
    #[must_use]
    pub const fn upgrade(&self) -> bool {
        self.upgrade
    }
}
