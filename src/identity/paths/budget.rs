//! Budget of path building, in steps and in work, and signature algorithms that pay for their work from a budget.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, TrustAnchor};
use x509_parser::oid_registry::{OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, Oid};

use super::Certificate;
use crate::digest::{Digest, sha256_of_parts};
use crate::identity::der::{content, elements};
use crate::identity::signature::Algorithms;

/// Cost that path building may have: a number of steps, and work. The unit of work is a nanosecond on an ordinary machine.
#[derive(Debug)]
pub(in crate::identity) struct Budget {
    steps: AtomicU64,
    work: AtomicU64,
}

/// Error of a budget that does not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BudgetExhausted;

impl Budget {
    pub(in crate::identity) const fn of(steps: u64, work: u64) -> Self {
        Self { steps: AtomicU64::new(steps), work: AtomicU64::new(work) }
    }

    /// Returns the budget for one presented chain: about 10 ms. Honest bundles of dozens of cross-signed certificates need
    /// less.
    pub(in crate::identity) const fn for_handshake() -> Self {
        Self::of(4_000, 10_000_000)
    }

    /// Pays for one step from a certificate to an issuer.
    ///
    /// # Errors
    /// This was the last step.
    pub(super) fn spend_step(&self) -> Result<(), BudgetExhausted> {
        take(&self.steps, 1)
    }

    /// Pays for work.
    ///
    /// # Errors
    /// The budget is spent by this work.
    pub(super) fn spend(&self, work: u64) -> Result<(), BudgetExhausted> {
        take(&self.work, work)
    }

    #[cfg(test)]
    pub(super) fn steps_left(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn work_left(&self) -> u64 {
        self.work.load(Ordering::Relaxed)
    }

    /// Returns an error if all work is spent.
    pub(super) fn check_left(&self) -> Result<(), BudgetExhausted> {
        if self.work.load(Ordering::Relaxed) == 0 { Err(BudgetExhausted) } else { Ok(()) }
    }
}

/// Takes an amount, or the rest if the rest is smaller.
fn take(from: &AtomicU64, amount: u64) -> Result<(), BudgetExhausted> {
    // One thread makes one judgement, so no other thread changes the value in between.
    let left = from.load(Ordering::Relaxed);
    from.store(left.saturating_sub(amount), Ordering::Relaxed);
    if left > amount { Ok(()) } else { Err(BudgetExhausted) }
}

/// Signature algorithm that checks each signature once and pays for it. No signature is good when the budget is spent.
pub(super) struct MeteredAlgorithm<'b> {
    algorithm: &'b dyn SignatureVerificationAlgorithm,
    budget: &'b Budget,
    results: Mutex<BTreeMap<Digest, bool>>,
}

impl<'b> MeteredAlgorithm<'b> {
    pub(super) fn wrap_all(algorithms: Algorithms<'b>, budget: &'b Budget) -> Vec<Self> {
        let one = |algorithm: &&'b dyn SignatureVerificationAlgorithm| Self {
            algorithm: *algorithm,
            budget,
            results: Mutex::default(),
        };
        algorithms.iter().map(one).collect()
    }

    pub(super) fn as_dyn(&self) -> &dyn SignatureVerificationAlgorithm {
        self
    }
}

impl fmt::Debug for MeteredAlgorithm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl SignatureVerificationAlgorithm for MeteredAlgorithm<'_> {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let question = sha256_of_parts([key, message, signature]);
        let mut results = self.results.lock();
        let is_good = match results.get(&question) {
            Some(is_good) => *is_good,
            None => {
                self.budget
                    .spend(work_of_signature(key, message))
                    .map_err(|BudgetExhausted| InvalidSignature)?;
                let is_good = self.algorithm.verify_signature(key, message, signature).is_ok();
                results.insert(question, is_good);
                is_good
            }
        };
        if is_good { Ok(()) } else { Err(InvalidSignature) }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

/// Returns the work of one signature check, by the length of the key and of the message.
fn work_of_signature(key: &[u8], message: &[u8]) -> u64 {
    // The length tells the kind of key: Ed25519 or P-256, P-384, P-521; an RSA key is longer.
    let arithmetic: u64 = match key.len() {
        ..=65 => 100_000,
        66..=97 => 400_000,
        98..=133 => 800_000,
        // The work is quadratic in the length of an RSA key.
        bytes => bytes as u64 * bytes as u64,
    };
    arithmetic + message.len() as u64 * 4
}

/// Returns the work of the verification of a path. webpki parses every certificate again at each step, makes more steps if
/// several certificates have one name, and compares all names with all name constraints above them.
pub(super) fn work_of_path(path: &[&Certificate<'_>], anchor: &TrustAnchor<'_>) -> u64 {
    let bytes: usize = path.iter().map(|certificate| certificate.der.len()).sum();
    let parsing = bytes as u64 * path.len() as u64 * orders(path);
    20_000 + parsing * 4 + work_of_constraints(path, anchor)
}

/// Returns an upper bound for the number of orders in which webpki may try the certificates of a path that share a name.
pub(super) fn orders(path: &[&Certificate<'_>]) -> u64 {
    let same_name_count = |certificate: &Certificate<'_>| {
        let same =
            |other: &&&Certificate<'_>| other.parsed.subject.as_raw() == certificate.parsed.subject.as_raw();
        path.iter().filter(same).count() as u64
    };
    path.iter().map(|certificate| same_name_count(certificate)).product::<u64>().max(1)
}

/// Values of one kind, each of which is compared with each value of another kind: their number, and the sum of their lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Values {
    count: u64,
    bytes: u64,
}

impl Values {
    /// Counts the values in lists. Values of unknown kinds count as well, because webpki may compare them. A malformed list
    /// counts as one value for each two bytes, which is the maximum.
    fn of(lists: &[&[u8]]) -> Self {
        let count = |list: &&[u8]| elements(list).map_or(list.len() / 2, |values| values.len()) as u64;
        Self { count: lists.iter().map(count).sum(), bytes: lists.iter().map(|list| list.len() as u64).sum() }
    }

    fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, bytes: self.bytes + other.bytes }
    }

    /// Returns the work of all comparisons. One comparison reads every byte of both values.
    fn work_against(self, others: Self) -> u64 {
        let bytes = self.count * others.bytes + self.bytes * others.count;
        self.count * others.count * 20 + bytes * 3
    }
}

/// Returns the work of comparing the names in a path with the name constraints of the certificates above them and of the
/// authority. A path of 64 KiB has room for hundreds of each, and the bound of webpki allows a tenth of a second.
fn work_of_constraints(path: &[&Certificate<'_>], anchor: &TrustAnchor<'_>) -> u64 {
    let of_anchor = anchor.name_constraints.as_ref().map(|subtrees| subtrees.as_ref());
    if of_anchor.is_none() && path.iter().all(|it| values_of(it, &OID_X509_EXT_NAME_CONSTRAINTS).is_none()) {
        return 0;
    }
    let (mut names, mut work) = (Values::default(), 0);
    for certificate in path {
        work += names.work_against(subtrees(values_of(certificate, &OID_X509_EXT_NAME_CONSTRAINTS)));
        names = names.and(names_of(certificate));
    }
    work + names.work_against(subtrees(of_anchor))
}

/// Returns the value of an extension without its outer tag and length.
fn values_of<'c>(certificate: &Certificate<'c>, kind: &Oid<'_>) -> Option<&'c [u8]> {
    let extension = certificate.parsed.extensions().iter().find(|extension| extension.oid == *kind)?;
    Some(content(extension.value).unwrap_or(extension.value))
}

/// Counts the subtrees in both lists of name constraints (RFC 5280 §4.2.1.10).
fn subtrees(lists: Option<&[u8]>) -> Values {
    let lists = lists.unwrap_or_default();
    match elements(lists) {
        Some(lists) => Values::of(&lists.iter().map(|list| list.data).collect::<Vec<_>>()),
        None => Values::of(&[lists]),
    }
}

fn names_of(certificate: &Certificate<'_>) -> Values {
    let names = values_of(certificate, &OID_X509_EXT_SUBJECT_ALT_NAME);
    // The subject is compared as well.
    Values::of(&names.into_iter().collect::<Vec<_>>()).and(Values { count: 1, bytes: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_cost_by_the_number_and_the_length_of_names() {
        let values = |count, bytes| Values { count, bytes };
        assert_eq!(Values::of(&[&[0x82, 1, b'a', 0x82, 2, b'b', b'c']]), values(2, 7));
        assert_eq!(Values::of(&[&[0x82, 0x80, 1, 1]]), values(2, 4));
        let work = |names: Values, constraints: Values| names.work_against(constraints);
        // webpki allows this number of comparisons, here of names of 50 bytes.
        assert!(work(values(500, 25_000), values(500, 25_000)) > 50_000_000);
        assert!(work(values(250, 10_000), values(100, 2_000)) < 6_000_000);
        assert_eq!(work(values(1, 10), values(0, 0)), 0);
    }

    #[test]
    fn subtrees_of_both_lists_count_and_malformed_lists_as_well() {
        let lists = [0xa0, 5, 0x30, 3, 0x82, 1, b'a', 0xa1, 4, 0x30, 0, 0x30, 0];
        assert_eq!(subtrees(Some(&lists)), Values { count: 3, bytes: 9 });
        assert_eq!(subtrees(Some(&[0xa0, 0x80, 0, 0])).count, 2);
        assert_eq!(subtrees(None), Values::default());
    }
}
