//! The search for a request that one policy allows and the other does not.
//!
//! The search is a tableau. A region holds what is known of the request; at first these are the atoms of the clause.
//! Both policies decide one request of the region. If they differ, the request is the answer. If not, some clause
//! explains why, and every request on which the policies differ violates an atom of that clause. So the region is
//! divided by these atoms, and each part is searched in turn. When all parts are empty, it is proven that no request
//! differs.

use http::Method;
use jiff::Timestamp;

use super::super::check::Model;
use super::super::{Policy, Upgrade};
use super::clause::Clause;
use super::region::Region;
use super::request::{ExampleRequest, PolicyInput};

/// The number of regions that may be searched for one clause.
const MAX_REGIONS: usize = 2_000;

/// One of the two policies.
#[derive(Debug)]
pub(super) struct ComparedPolicy<'m> {
    pub(super) model: &'m Model,
    pub(super) policy: Policy,
}

impl<'m> ComparedPolicy<'m> {
    pub(super) fn of(model: &'m Model) -> Self {
        Self { model, policy: Policy::of(model.clone()) }
    }
}

/// The result of a search.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A request that the one policy allows and the other does not.
    Differs(Box<ExampleRequest>),
    /// No such request exists.
    Same,
    /// Neither a request nor a proof was found.
    Undecided,
}

/// The requests that one search covers.
#[derive(Clone, Debug)]
pub(super) struct Goal<'m> {
    /// The clause that grants them in the one policy.
    pub(super) grant: Clause<'m>,
    /// The clause of the other policy that forbids them; `None` to find requests that nothing in the other policy
    /// grants.
    pub(super) deny: Option<Clause<'m>>,
    pub(super) method: Method,
    pub(super) upgrade: Option<Upgrade>,
}

#[derive(Debug)]
pub(super) struct Search<'s, 'm> {
    /// The policy that must allow the request.
    pub(super) mine: &'s ComparedPolicy<'m>,
    /// The policy that must not allow the request.
    pub(super) other: &'s ComparedPolicy<'m>,
    /// The time of examples without a condition on it.
    pub(super) now: Timestamp,
    /// The number of regions that may still be searched, for all clauses together.
    pub(super) regions_left: usize,
}

impl<'m> Search<'_, 'm> {
    pub(super) fn run(&mut self, goal: &Goal<'m>) -> Outcome {
        let clauses = std::iter::once(&goal.grant).chain(&goal.deny);
        let start = Region::of_method(goal.method.clone(), goal.upgrade);
        let start = clauses.flat_map(Clause::atoms).fold(start, |region, atom| region.with(atom, true));
        let mut regions = vec![start];
        let (mut searched, mut undecided) = (0, false);
        while let Some(region) = regions.pop() {
            if searched == MAX_REGIONS || self.regions_left == 0 {
                return Outcome::Undecided;
            }
            searched += 1;
            self.regions_left -= 1;
            match self.examine(goal, &region) {
                Examination::Empty => {}
                Examination::Differs(request) => return Outcome::Differs(Box::new(request)),
                Examination::Parts(parts) => regions.extend(parts),
                Examination::Unknown => undecided = true,
            }
        }
        if undecided { Outcome::Undecided } else { Outcome::Same }
    }

    fn examine(&self, goal: &Goal<'m>, region: &Region<'m>) -> Examination<'m> {
        let request = match region.request(self.now) {
            Ok(Some(request)) => request,
            Ok(None) => return Examination::Empty,
            Err(_) => return Examination::Unknown,
        };
        let Some(input) = request.input() else { return Examination::Unknown };
        let clause = match (input.is_allowed(&self.mine.policy), input.is_allowed(&self.other.policy)) {
            (true, false) => return Examination::Differs(request),
            (true, true) if goal.deny.is_some() => None,
            (true, true) => self.clause_that_grants(&input),
            (false, _) => Clause::denies(self.mine.model).find(|clause| clause.applies_to(&input)),
        };
        match clause {
            Some(clause) => Examination::Parts(parts_without(region, &clause)),
            None => Examination::Unknown,
        }
    }

    fn clause_that_grants(&self, input: &PolicyInput) -> Option<Clause<'m>> {
        let mut grants = Clause::grants(self.other.model);
        grants.find(|clause| (input.upgrade.is_none() || clause.route.upgrade) && clause.applies_to(input))
    }
}

enum Examination<'m> {
    Empty,
    Differs(ExampleRequest),
    Parts(Vec<Region<'m>>),
    Unknown,
}

/// Returns the parts of a region to which the clause does not apply. The last part is searched first.
fn parts_without<'m>(region: &Region<'m>, clause: &Clause<'m>) -> Vec<Region<'m>> {
    clause.atoms().into_iter().map(|atom| region.clone().with(atom, false)).collect()
}
