//! One decision: the search for a deny rule and a grant among the entries that match the path.

use std::ops::ControlFlow;

use super::condition::IfDoubtful;
use super::rights::BoundRule;
use super::trie::Entry;
use super::{Denied, Granted, Policy, Question, Rights, RouteTimeouts, Verdict};

/// The state of one search during the walk down the path.
pub(super) struct DecisionSearch<'d> {
    policy: &'d Policy,
    rights: &'d Rights,
    question: &'d Question<'d>,
    bit: u64,
    denies: bool,
    switches: bool,
    grant: Option<&'d BoundRule>,
    upgrade: bool,
    /// The longest time limits of the routes that grant the request. All of these routes are looked at, if any route of the
    /// policy has time limits.
    timeouts: RouteTimeouts,
    seeks_timeouts: bool,
}

impl<'d> DecisionSearch<'d> {
    pub(super) fn new(policy: &'d Policy, rights: &'d Rights, question: &'d Question<'d>) -> Self {
        Self {
            policy,
            rights,
            question,
            bit: policy.trie.bit(question.target.method()),
            denies: !policy.denies.is_empty() || !rights.denies.is_empty(),
            switches: question.asks_to_switch(),
            grant: None,
            upgrade: false,
            timeouts: RouteTimeouts::default(),
            seeks_timeouts: policy.inputs.timeouts,
        }
    }

    /// Judges the entries that stand where one branch of the tree matches the path. Breaks as soon as no other entry can
    /// change the verdict.
    pub(super) fn consider(&mut self, entries: &[Entry]) -> ControlFlow<Verdict> {
        if self.denies
            && let Some(holder) = self.denied(entries)
        {
            return ControlFlow::Break(Err(Denied { rule: Some(holder.rule.clone()) }));
        }
        if self.grant.is_none() || (self.switches && !self.upgrade) || self.seeks_timeouts {
            self.granted(entries);
        }
        match self.grant {
            Some(holder) if !self.denies && self.upgrade == self.switches && !self.seeks_timeouts => {
                ControlFlow::Break(Ok(self.granted_by(holder)))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn denied(&self, entries: &[Entry]) -> Option<&'d BoundRule> {
        let (policy, rights) = (self.policy, self.rights);
        let mut found = None;
        let mut hit = |entry: &Entry, holder: &'d BoundRule| {
            let covers = holder.covers(&policy.trie, entry, self.question, self.bit, IfDoubtful::Met);
            found = covers.then_some(holder);
            covers
        };
        let _ = policy.denies.any(entries, &mut hit) || rights.denies.any(entries, &mut hit);
        found
    }

    fn granted(&mut self, entries: &[Entry]) {
        let (policy, rights, question) = (self.policy, self.rights, self.question);
        let (bit, switches) = (self.bit, self.switches);
        let (mut grant, mut upgrade, mut timeouts) = (self.grant, self.upgrade, self.timeouts);
        let seeks_timeouts = self.seeks_timeouts;
        rights.grants.any(entries, |entry, holder| {
            if !holder.covers(&policy.trie, entry, question, bit, IfDoubtful::Unmet) {
                return false;
            }
            let conditions = policy.trie.conditions(entry);
            let switch = switches && conditions.is_some_and(|conditions| conditions.upgrade);
            if grant.is_none() || (switch && !upgrade) {
                (grant, upgrade) = (Some(holder), switch);
            }
            if let Some(conditions) = conditions {
                timeouts = timeouts.longest(conditions.timeouts);
            }
            upgrade == switches && !seeks_timeouts
        });
        (self.grant, self.upgrade, self.timeouts) = (grant, upgrade, timeouts);
    }

    fn granted_by(&self, holder: &BoundRule) -> Granted {
        Granted { rule: holder.rule.clone(), upgrade: self.upgrade, timeouts: self.timeouts }
    }

    pub(super) fn verdict(self) -> Verdict {
        match self.grant {
            Some(holder) => Ok(self.granted_by(holder)),
            None => Err(Denied { rule: None }),
        }
    }
}
