//! A policy that is judged beside the one in force, to see on live traffic where the two differ. Nothing that it says
//! reaches a client.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{Policy, Question, Rights, Rule, Verdict};

/// A second policy (`shadow_policies`).
#[derive(Debug)]
pub struct Shadow {
    /// What it says.
    pub policy: Arc<Policy>,
    /// Since when it is judged beside the very policy that is in force. What is counted begins anew with either.
    pub since: Timestamp,
}

/// What the shadow policy would change about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It allows more: the request, or the switch of protocols that it asks for.
    NewlyAllowed,
    /// It allows less.
    NewlyDenied,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::NewlyAllowed, Self::NewlyDenied];

    /// The label `change`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NewlyAllowed => "newly_allowed",
            Self::NewlyDenied => "newly_denied",
        }
    }
}

/// Two policies that decide differently about one request.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What the shadow policy would change.
    pub change: Change,
    /// The entry that decides under the policy in force, if one does.
    pub active: Option<Arc<Rule>>,
    /// The entry that decides under the shadow policy, if one does.
    pub shadow: Option<Arc<Rule>>,
    /// Whether the policy in force allows the request.
    pub active_allows: bool,
    /// Whether the shadow policy allows it.
    pub shadow_allows: bool,
}

impl Difference {
    /// The entry that makes the difference: the one that decides under the shadow policy, or, where nothing there grants the
    /// request, the one that grants it now.
    #[must_use]
    pub fn rule(&self) -> &str {
        self.shadow.as_ref().or(self.active.as_ref()).map_or("", |rule| rule.name())
    }
}

impl Shadow {
    /// Where it differs from a verdict of the policy in force. The rights must be its own.
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

/// Nothing, the request, or the request with its switch of protocols.
fn extent(verdict: &Verdict) -> u8 {
    verdict.as_ref().map_or(0, |granted| 1 + u8::from(granted.upgrade()))
}

/// The entry that decided.
#[must_use]
pub const fn deciding_rule(verdict: &Verdict) -> Option<&Arc<Rule>> {
    match verdict {
        Ok(granted) => Some(granted.rule()),
        Err(denied) => denied.rule(),
    }
}
