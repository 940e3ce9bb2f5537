//! Results of trials on live traffic: the rules that would have denied what `mode: audit` let pass, and the differences of a
//! shadow policy. Only denied or different requests are noted; each worker has its own memory.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

use super::shortened;
use crate::policy::{Change, Difference, Rule};

/// Most rules that are counted by name; others are counted as one: policies change, and memory stays bounded.
const MOST_RULES: usize = 1000;
/// The name under which other rules are counted.
const OTHERS: &str = "(others)";
/// Number of differences that are kept.
const MOST_RECENT: usize = 20;

/// Counts by the name of a rule.
pub type ByRule = BTreeMap<Box<str>, u64>;

/// The results of the trials of one worker.
#[derive(Debug, Default)]
pub struct Trials(Mutex<TrialResults>);

#[derive(Clone, Debug, Default)]
struct TrialResults {
    denials: ByRule,
    differences: [ByRule; 2],
    current: Option<Current>,
}

/// The results since the two policies that are compared came into force.
#[derive(Clone, Debug)]
struct Current {
    since: Timestamp,
    differences: [ByRule; 2],
    recent: VecDeque<DifferenceRecord>,
}

/// A request about which two policies differ, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct DifferenceRecord {
    /// The time at which the request came.
    pub time: Timestamp,
    /// The request id.
    pub request_id: Box<str>,
    /// The client's name.
    pub client: Box<str>,
    /// The method.
    pub method: Box<str>,
    /// The path.
    pub path: Box<str>,
    /// The change that the shadow policy would make.
    pub change: Change,
    /// The decision of the policy in force.
    pub decision: PolicyDecision,
    /// The decision of the shadow policy.
    pub shadow: PolicyDecision,
}

/// The decision of one policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyDecision {
    /// `allowed` or `denied`.
    pub decision: &'static str,
    /// The rule that decided.
    pub rule: Option<Rule>,
}

/// Differences of one kind by one rule, as `/status` shows them.
#[derive(Clone, Debug, Serialize)]
pub struct RuleCount {
    /// The change that the shadow policy would make.
    pub change: Change,
    /// The rule that makes the difference.
    pub rule: Box<str>,
    /// Number of requests.
    pub count: u64,
}

impl Trials {
    /// Notes a denied request that `mode: audit` let pass.
    pub fn let_pass(&self, rule: Option<&Rule>) {
        count(&mut self.shown().denials, rule.map_or("", Rule::name));
    }

    /// Notes a difference between two policies, which have been compared since `since`.
    pub fn differ(&self, since: Timestamp, difference: &Difference, differed: DifferenceRecord) {
        let (rule, index) = (difference.rule(), difference.change as usize);
        let shown = &mut *self.shown();
        if let Some(counts) = shown.differences.get_mut(index) {
            count(counts, rule);
        }
        let anew = || Current { since, differences: Default::default(), recent: VecDeque::new() };
        let current = shown.current.get_or_insert_with(anew);
        if current.since != since {
            *current = anew();
        }
        if let Some(counts) = current.differences.get_mut(index) {
            count(counts, rule);
        }
        current.recent.push_front(differed);
        current.recent.truncate(MOST_RECENT);
    }

    /// Counts of requests that `mode: audit` let pass, of several workers, by the deny rule; requests that no grant allows
    /// have no rule.
    pub fn denials<'t>(all: impl Iterator<Item = &'t Self>) -> ByRule {
        sum(all.map(|trials| trials.shown().denials.clone()))
    }

    /// Counts of differences of this kind, of several workers, by rule.
    pub fn differences<'t>(all: impl Iterator<Item = &'t Self>, change: Change) -> ByRule {
        sum(all.filter_map(|trials| trials.shown().differences.get(change as usize).cloned()))
    }

    /// The results since an instant, of several workers: counts by rule, and the last differences, the newest first.
    pub fn since<'t>(
        all: impl Iterator<Item = &'t Self>,
        since: Timestamp,
    ) -> (Vec<RuleCount>, Vec<DifferenceRecord>) {
        let current = all.filter_map(|trials| trials.shown().current.clone());
        let (mut counts, mut recent) = (<[Vec<ByRule>; 2]>::default(), Vec::new());
        for current in current.filter(|current| current.since == since) {
            for (all, own) in counts.iter_mut().zip(current.differences) {
                all.push(own);
            }
            recent.extend(current.recent);
        }
        recent.sort_by_key(|differed| std::cmp::Reverse(differed.time));
        recent.truncate(MOST_RECENT);
        let counted = Change::ALL.into_iter().zip(counts).flat_map(|(change, counts)| {
            sum(counts.into_iter()).into_iter().map(move |(rule, count)| RuleCount { change, rule, count })
        });
        (counted.collect(), recent)
    }

    fn shown(&self) -> MutexGuard<'_, TrialResults> {
        self.0.lock()
    }
}

impl DifferenceRecord {
    /// Returns the difference of a request, with its id and its client.
    #[must_use]
    pub fn of(
        (time, request_id): (Timestamp, &str),
        client: &str,
        (method, path): (&str, &str),
        difference: &Difference,
    ) -> Self {
        let opinion = |allows: bool, rule: Option<&std::sync::Arc<Rule>>| PolicyDecision {
            decision: if allows { "allowed" } else { "denied" },
            rule: rule.map(|rule| Rule::clone(rule)),
        };
        Self {
            time,
            request_id: request_id.into(),
            client: shortened(client).into(),
            method: shortened(method).into(),
            path: shortened(path).into(),
            change: difference.change,
            decision: opinion(difference.active_allows, difference.active.as_ref()),
            shadow: opinion(difference.shadow_allows, difference.shadow.as_ref()),
        }
    }
}

fn count(counts: &mut ByRule, rule: &str) {
    if let Some(known) = counts.get_mut(rule) {
        *known += 1;
        return;
    }
    let rule = if counts.len() < MOST_RULES { rule } else { OTHERS };
    *counts.entry(rule.into()).or_default() += 1;
}

/// Each worker's memory is bounded, and there are as many as workers.
fn sum(all: impl Iterator<Item = ByRule>) -> ByRule {
    let mut sum = ByRule::default();
    for (rule, times) in all.flatten() {
        *sum.entry(rule).or_default() += times;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> Rule {
        Rule { name: name.into(), file: "p.yaml".into(), line: 1 }
    }

    #[test]
    fn of_too_many_rules_the_rest_is_counted_as_one() {
        let trials = Trials::default();
        for number in 0..MOST_RULES + 3 {
            trials.let_pass(Some(&rule(&number.to_string())));
        }
        trials.let_pass(Some(&rule("0")));
        let denials = Trials::denials([&trials, &Trials::default()].into_iter());
        assert_eq!(denials.len(), MOST_RULES + 1);
        assert_eq!((denials["0"], denials[OTHERS]), (2, 3));
    }

    #[test]
    fn counts_of_all_time_go_on_when_other_policies_are_compared() {
        let (trials, difference) = (
            Trials::default(),
            Difference {
                change: Change::NewlyDenied,
                active: Some(rule("a").into()),
                shadow: None,
                active_allows: true,
                shadow_allows: false,
            },
        );
        let [first, second] = [1, 2].map(|second| Timestamp::from_second(second).unwrap());
        for since in [first, first, second] {
            let differed = DifferenceRecord::of((since, "id"), "c", ("GET", "/"), &difference);
            trials.differ(since, &difference, differed);
        }
        let all = || std::iter::once(&trials);
        assert_eq!(Trials::differences(all(), Change::NewlyDenied)["a"], 3);
        assert!(Trials::differences(all(), Change::NewlyAllowed).is_empty());
        let (counted, recent) = Trials::since(all(), second);
        assert_eq!((counted.len(), counted[0].count, recent.len()), (1, 1, 1));
        assert!(Trials::since(all(), first).0.is_empty());
    }
}
