//! Looks for a request that one policy allows and another does not, in all that a rule means.
//!
//! A tableau that grows only where it must. A region holds what is known of the request: at first the atoms of the rule.
//! One request of the region is put to both policies. If they differ, that is the answer; if not, some rule stands in the
//! way, and every request that differs escapes it by one of its atoms. So the region is cut into those parts, and each is
//! searched in turn. Once all parts are empty no request differs, which is then proven and not just tried.

use http::Method;
use jiff::Timestamp;

use super::super::Policy;
use super::super::check::Model;
use super::region::Region;
use super::request::{Asked, Request};
use super::rule::Rule;

/// More regions than this are not searched for one rule.
const MOST_REGIONS: usize = 2_000;

/// One of the two policies.
#[derive(Debug)]
pub(super) struct Side<'m> {
    pub(super) model: &'m Model,
    pub(super) policy: Policy,
}

impl<'m> Side<'m> {
    pub(super) fn of(model: &'m Model) -> Self {
        Self { model, policy: Policy::of(model.clone()) }
    }
}

/// What was found.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A request on which the two policies differ; both were asked.
    Differs(Box<Request>),
    /// There is none.
    Same,
    /// There may be one.
    Undecided,
}

/// Which requests are looked at.
#[derive(Clone, Debug)]
pub(super) struct Goal<'m> {
    /// The rule that grants them in the one policy.
    pub(super) grant: Rule<'m>,
    /// A rule of the other policy that forbids them; none where they are to be granted by nothing in it.
    pub(super) deny: Option<Rule<'m>>,
    pub(super) method: Method,
    pub(super) upgrade: bool,
}

#[derive(Debug)]
pub(super) struct Search<'s, 'm> {
    /// The policy that is to allow the request.
    pub(super) mine: &'s Side<'m>,
    /// The one that is not to.
    pub(super) other: &'s Side<'m>,
    /// The time that examples have where no other is asked for.
    pub(super) now: Timestamp,
    /// How many regions may still be searched, for all rules together.
    pub(super) regions_left: usize,
}

impl<'m> Search<'_, 'm> {
    pub(super) fn run(&mut self, goal: &Goal<'m>) -> Outcome {
        let rules = std::iter::once(&goal.grant).chain(&goal.deny);
        let start = Region::of_method(goal.method.clone(), goal.upgrade);
        let start = rules.flat_map(Rule::atoms).fold(start, |region, atom| region.with(atom, true));
        let mut open = vec![start];
        let (mut searched, mut undecided) = (0, false);
        while let Some(region) = open.pop() {
            if searched == MOST_REGIONS || self.regions_left == 0 {
                return Outcome::Undecided;
            }
            searched += 1;
            self.regions_left -= 1;
            match self.look(goal, &region) {
                Look::Empty => {}
                Look::Differs(request) => return Outcome::Differs(Box::new(request)),
                Look::Parts(parts) => open.extend(parts),
                Look::Unknown => undecided = true,
            }
        }
        if undecided { Outcome::Undecided } else { Outcome::Same }
    }

    fn look(&self, goal: &Goal<'m>, region: &Region<'m>) -> Look<'m> {
        let request = match region.request(self.now) {
            Ok(Some(request)) => request,
            Ok(None) => return Look::Empty,
            Err(_) => return Look::Unknown,
        };
        let Some(asked) = request.asked() else { return Look::Unknown };
        let rule = match (asked.is_allowed(&self.mine.policy), asked.is_allowed(&self.other.policy)) {
            (true, false) => return Look::Differs(request),
            (true, true) if goal.deny.is_some() => None,
            (true, true) => self.granting(&asked),
            (false, _) => Rule::denies(self.mine.model).find(|rule| rule.means(&asked)),
        };
        match rule {
            Some(rule) => Look::Parts(escapes(region, &rule)),
            None => Look::Unknown,
        }
    }

    fn granting(&self, asked: &Asked) -> Option<Rule<'m>> {
        let mut grants = Rule::grants(self.other.model);
        grants.find(|rule| (!asked.upgrade || rule.route.upgrade) && rule.means(asked))
    }
}

enum Look<'m> {
    Empty,
    Differs(Request),
    Parts(Vec<Region<'m>>),
    Unknown,
}

/// The parts of a region that a rule does not mean; the last is searched first.
fn escapes<'m>(region: &Region<'m>, rule: &Rule<'m>) -> Vec<Region<'m>> {
    rule.atoms().into_iter().map(|atom| region.clone().with(atom, false)).collect()
}
