//! Depth-first search from the leaf to the authorities. Each signature is checked before the path is extended.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rustls::pki_types::TrustAnchor;

use super::budget::{Budget, BudgetExhausted, MeteredAlgorithm, work_of_path};
use super::graph::{Node, PathGraph};
use super::{Candidate, IndexedPath, VerifyCandidate};
use crate::identity::Flaw;
use crate::identity::signature::{Algorithms, SignatureFlaw, Signed, accepted_algorithms};

/// Searches all paths of a graph. The path in `tried` was verified before and has this flaw.
///
/// # Errors
/// As [`PathGraph::search`].
pub(super) fn search_all<'c, T>(
    graph: &PathGraph<'c, '_>,
    tried: Option<(IndexedPath, Flaw)>,
    budget: &Budget,
    verify: &mut VerifyCandidate<'_, 'c, T>,
) -> Result<T, Flaw> {
    let metered = MeteredAlgorithm::wrap_all(accepted_algorithms(), budget);
    let algorithms: Vec<_> = metered.iter().map(MeteredAlgorithm::as_dyn).collect();
    let mut search = Search {
        graph,
        budget,
        algorithms: &algorithms,
        tried,
        path: vec![0],
        signatures: BTreeMap::new(),
        flaw: Flaw::UnknownIssuer,
        verify,
    };
    match search.extend_path() {
        ControlFlow::Break(verdict) => verdict,
        ControlFlow::Continue(()) => Err(search.flaw),
    }
}

struct Search<'s, 'c, 't, 'l, T> {
    graph: &'s PathGraph<'c, 't>,
    budget: &'s Budget,
    algorithms: Algorithms<'s>,
    /// Path that was verified before the search, with its flaw.
    tried: Option<(IndexedPath, Flaw)>,
    /// Certificates from the leaf to the current node.
    path: Vec<usize>,
    /// Results of the signature checks, by certificate and issuer.
    signatures: BTreeMap<(usize, Issuer), Result<(), SignatureFlaw>>,
    /// Flaw of the path that came the farthest so far.
    flaw: Flaw,
    verify: &'l mut VerifyCandidate<'l, 'c, T>,
}

/// Index of an issuer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Issuer {
    Presented(usize),
    Authority(usize),
}

/// `Continue` if the search goes on; `Break` with the verdict, or with the flaw if the budget is spent.
type Step<T> = ControlFlow<Result<T, Flaw>>;

impl<'s, 'c, T> Search<'s, 'c, '_, '_, T> {
    fn extend_path(&mut self) -> Step<T> {
        let graph = self.graph;
        let Some((index, node)) = self.current() else { return ControlFlow::Continue(()) };
        for anchor in &node.anchors {
            if let Some((trusted, authority)) = graph.anchors.get(*anchor)
                && self.check_issuer(index, Issuer::Authority(*anchor), &authority.key)?
            {
                self.verify_path_to(*anchor, trusted)?;
            }
        }
        for above in &node.issuers {
            if let Some(issuer) = graph.nodes.get(*above)
                && graph.may_extend(&self.path, *above)
                && self.check_issuer(index, Issuer::Presented(*above), issuer.key())?
            {
                self.path.push(*above);
                self.extend_path()?;
                self.path.pop();
            }
        }
        ControlFlow::Continue(())
    }

    fn current(&self) -> Option<(usize, &'s Node<'c>)> {
        let index = *self.path.last()?;
        Some((index, self.graph.nodes.get(index)?))
    }

    /// Pays for a step, and returns true if the key of the issuer signed the certificate.
    fn check_issuer(
        &mut self,
        child: usize,
        issuer: Issuer,
        key: &[u8],
    ) -> ControlFlow<Result<T, Flaw>, bool> {
        self.pay(self.budget.spend_step())?;
        let result = match self.signatures.get(&(child, issuer)) {
            Some(result) => *result,
            None => {
                let result = self.check_signature(child, key);
                self.pay(self.budget.check_left())?;
                self.signatures.insert((child, issuer), result);
                result
            }
        };
        match result {
            Ok(()) => return ControlFlow::Continue(true),
            Err(SignatureFlaw::Wrong) => self.record_flaw(Flaw::BadSignature),
            Err(SignatureFlaw::Unacceptable) => self.record_flaw(Flaw::UnacceptableSignature),
        }
        ControlFlow::Continue(false)
    }

    fn check_signature(&self, child: usize, key: &[u8]) -> Result<(), SignatureFlaw> {
        let child = self.graph.nodes.get(child).and_then(|child| Signed::parse(child.certificate.der));
        child.ok_or(SignatureFlaw::Unacceptable)?.verify_with(self.algorithms, key)
    }

    fn verify_path_to(&mut self, index: usize, anchor: &TrustAnchor<'static>) -> Step<T> {
        if let Some(flaw) = self.known_flaw(index) {
            self.record_flaw(flaw);
            return ControlFlow::Continue(());
        }
        let certificates = self.graph.certificates(&self.path);
        self.pay(self.budget.spend(work_of_path(&certificates, anchor)))?;
        let candidate = Candidate { certificates, anchor, algorithms: self.algorithms };
        match (self.verify)(&candidate) {
            Ok(verdict) => return ControlFlow::Break(Ok(verdict)),
            Err(Flaw::TooComplex) => return ControlFlow::Break(Err(Flaw::TooComplex)),
            Err(flaw) => self.record_flaw(flaw),
        }
        self.pay(self.budget.check_left())
    }

    /// Returns the flaw of the current path to this authority if the path was verified before the search. The flaw counts only
    /// now that all signatures of the path are known to be good: a flaw of an unsigned path says nothing about the client.
    fn known_flaw(&self, anchor: usize) -> Option<Flaw> {
        let (path, flaw) = self.tried.as_ref()?;
        (path.anchor == anchor && path.certificates == self.path).then(|| flaw.clone())
    }

    fn record_flaw(&mut self, flaw: Flaw) {
        if flaw.rank() > self.flaw.rank() {
            self.flaw = flaw;
        }
    }

    fn pay(&self, paid: Result<(), BudgetExhausted>) -> Step<T> {
        match paid {
            Ok(()) => ControlFlow::Continue(()),
            Err(BudgetExhausted) => ControlFlow::Break(Err(Flaw::TooComplex)),
        }
    }
}
