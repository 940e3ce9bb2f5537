//! The step from a verdict to a [`Permit`]. Only this module makes permits: for a granted request, or, under `mode: audit`,
//! for a denied request whose denial is only recorded.

use super::{Denied, Question, RouteTimeouts, Verdict};

/// The treatment of requests that the policy denies (`mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Denied requests are refused.
    Enforce,
    /// Denials are recorded, and the requests are forwarded.
    Audit,
}

/// The permission of the policy to forward one request. Admission takes a permit, so that no request is admitted that the
/// policy did not judge.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    upgrade: bool,
    timeouts: RouteTimeouts,
}

impl Mode {
    /// All modes, each with the word that operators write.
    pub const ALL: [(&'static str, Self); 2] = [("enforce", Self::Enforce), ("audit", Self::Audit)];

    /// Returns the word that operators write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }

    /// Turns a verdict into a permit. Under `mode: audit` a denied request is permitted with the switch of protocols that it
    /// asks for, so that clients work as they did before there was a policy.
    ///
    /// # Errors
    /// The denial, under `mode: enforce`.
    pub fn permit(self, verdict: Verdict, question: &Question<'_>) -> Result<Permit, Denied> {
        match (verdict, self) {
            (Ok(granted), _) => {
                Ok(Permit { upgrade: granted.allows_upgrade(), timeouts: granted.timeouts() })
            }
            (Err(_), Self::Audit) => {
                Ok(Permit { upgrade: question.asks_to_switch(), timeouts: RouteTimeouts::default() })
            }
            (Err(denied), Self::Enforce) => Err(denied),
        }
    }
}

impl serde::Serialize for Mode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Permit {
    /// Returns true if the requested switch of protocols is permitted too.
    #[must_use]
    pub const fn allows_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Returns the time limits of the exchange that differ from those of the configuration.
    #[must_use]
    pub const fn timeouts(&self) -> RouteTimeouts {
        self.timeouts
    }
}
