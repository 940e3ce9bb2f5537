//! The shadow policy: a second policy that judges live traffic beside the active policy, so that operators see where the two
//! differ. The decisions of the shadow policy have no effect on clients.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{Policy, Question, Rights, Rule, Verdict};

/// A second policy (`shadow_policies`).
#[derive(Debug)]
pub struct Shadow {
    /// The compiled shadow policy.
    pub policy: Arc<Policy>,
    /// Time since which this shadow policy is compared with this active policy. The counts of differences start again when
    /// either policy changes.
    pub since: Timestamp,
}

/// The direction in which the shadow policy differs from the active policy about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The shadow policy allows more: the request, or the switch of protocols that the request asks for.
    NewlyAllowed,
    /// The shadow policy allows less.
    NewlyDenied,
}

impl Change {
    /// All directions.
    pub const ALL: [Self; 2] = [Self::NewlyAllowed, Self::NewlyDenied];

    /// Returns the value of the metric label `change`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NewlyAllowed => "newly_allowed",
            Self::NewlyDenied => "newly_denied",
        }
    }
}

/// A request about which the active and the shadow policy decide differently.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Direction of the difference.
    pub change: Change,
    /// Entry that decides under the active policy; `None` if no client entry grants the request.
    pub active: Option<Arc<Rule>>,
    /// Entry that decides under the shadow policy; `None` if no client entry grants the request.
    pub shadow: Option<Arc<Rule>>,
    /// True if the active policy allows the request.
    pub active_allows: bool,
    /// True if the shadow policy allows the request.
    pub shadow_allows: bool,
}

impl Difference {
    /// Returns the name of the entry that makes the difference: the entry that decides under the shadow policy, or, if no entry
    /// of the shadow policy decides, the entry that grants the request under the active policy.
    #[must_use]
    pub fn rule(&self) -> &str {
        self.shadow.as_ref().or(self.active.as_ref()).map_or("", |rule| rule.name())
    }
}

impl Shadow {
    /// Compares the shadow policy with a verdict of the active policy. The rights must come from the shadow policy.
    #[must_use]
    pub fn difference(
        &self,
        rights: &Rights,
        question: &Question<'_>,
        verdict: &Verdict,
    ) -> Option<Difference> {
        let own = self.policy.authorize(rights, question);
        let change = match extent(&own).cmp(&extent(verdict)) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => Change::NewlyAllowed,
            std::cmp::Ordering::Less => Change::NewlyDenied,
        };
        let (active, shadow) = (deciding_rule(verdict).cloned(), deciding_rule(&own).cloned());
        Some(Difference {
            change,
            active,
            shadow,
            active_allows: verdict.is_ok(),
            shadow_allows: own.is_ok(),
        })
    }
}

/// Returns a rank of what a verdict allows: 0 for nothing, 1 for the request, 2 for the request and its switch of protocols.
fn extent(verdict: &Verdict) -> u8 {
    verdict.as_ref().map_or(0, |granted| 1 + u8::from(granted.allows_upgrade()))
}

/// Returns the entry that decided, if an entry did.
#[must_use]
pub const fn deciding_rule(verdict: &Verdict) -> Option<&Arc<Rule>> {
    match verdict {
        Ok(granted) => Some(granted.rule()),
        Err(denied) => denied.rule(),
    }
}
