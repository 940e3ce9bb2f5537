//! Path building: the candidate paths from a presented leaf to an authority, one at a time and within a budget.
//!
//! Anyone can present certificates whose names allow a very large number of paths. To try all of them takes seconds on a thread
//! that serves other connections (denial of service). Four measures bound the work:
//!
//! - Certificates on no path by name from the leaf to an authority are left out.
//! - The most likely path is verified first, without a search.
//! - In a search, the signature between two certificates is checked once, before the path is extended.
//! - Every step of the search is paid for from a [`Budget`].
//!
//! Key identifiers decide the order in which paths are tried, never whether a path is tried: they prove nothing (RFC 5280
//! §4.2.1.1).

mod budget;
mod graph;
mod search;

use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::X509Certificate;

use super::Flaw;
use super::signature::{Algorithms, accepted_algorithms};

pub(super) use budget::Budget;
pub(super) use graph::{PathGraph, subject_key_id};

use budget::{BudgetExhausted, orders, work_of_path};

/// A presented certificate, parsed.
pub(super) struct Certificate<'c> {
    /// Position in the presented chain; the position of the leaf is 0.
    pub(super) position: usize,
    pub(super) der: &'c CertificateDer<'c>,
    pub(super) parsed: X509Certificate<'c>,
}

/// A path from the leaf to an authority that is to be verified.
pub(super) struct Candidate<'p, 'c> {
    /// Certificates of the path, leaf first.
    pub(super) certificates: Vec<&'p Certificate<'c>>,
    pub(super) anchor: &'p TrustAnchor<'static>,
    /// Algorithms to verify the path with. In a search they remember the signatures that were checked before.
    pub(super) algorithms: Algorithms<'p>,
}

/// Verification of a candidate.
type VerifyCandidate<'l, 'c, T> = dyn FnMut(&Candidate<'_, 'c>) -> Result<T, Flaw> + 'l;

/// A path from the leaf to an authority, as indices into a [`PathGraph`].
struct IndexedPath {
    certificates: Vec<usize>,
    anchor: usize,
}

impl<'c> PathGraph<'c, '_> {
    /// Passes candidates to `verify`, the most likely one first, until `verify` accepts one or the budget is spent.
    ///
    /// # Errors
    /// The flaw of the candidate that came the farthest, or [`Flaw::TooComplex`] if the budget did not suffice.
    pub(super) fn search<T>(
        &self,
        budget: &Budget,
        verify: &mut VerifyCandidate<'_, 'c, T>,
    ) -> Result<T, Flaw> {
        // webpki tries certificates with the same name in every order, so such a path is not verified without a search.
        let likely = self.most_likely_path().filter(|path| !self.has_shared_names(path));
        let first = likely.as_ref().map(|path| self.verify_directly(path, budget, verify));
        match first {
            Some(Ok(verdict)) => return Ok(verdict),
            Some(Err(flaw)) if flaw == Flaw::TooComplex || self.has_single_path() => return Err(flaw),
            _ => {}
        }
        let tried = likely.zip(first.and_then(Result::err));
        search::search_all(self, tried, budget, verify)
    }

    /// Verifies a path without the memory for signatures: the length of the path bounds the cost.
    fn verify_directly<T>(
        &self,
        path: &IndexedPath,
        budget: &Budget,
        verify: &mut VerifyCandidate<'_, 'c, T>,
    ) -> Result<T, Flaw> {
        let (anchor, _) = self.anchors.get(path.anchor).ok_or(Flaw::UnknownIssuer)?;
        let certificates = self.certificates(&path.certificates);
        budget.spend(work_of_path(&certificates, anchor)).map_err(|BudgetExhausted| Flaw::TooComplex)?;
        verify(&Candidate { certificates, anchor, algorithms: accepted_algorithms() })
    }

    fn has_shared_names(&self, path: &IndexedPath) -> bool {
        orders(&self.certificates(&path.certificates)) > 1
    }
}

#[cfg(test)]
mod tests;
