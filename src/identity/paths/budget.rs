//! The budget of path building, in steps and in work, and signature algorithms that pay for their work from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use parking_lot::Mutex;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, TrustAnchor};
use x509_parser::oid_registry::{OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, Oid};

use super::Certificate;
use crate::identity::der::{content, elements};
use crate::identity::signature::Algorithms;

/// The cost that path building may have: a number of steps, and work, which is the time in nanoseconds that an ordinary machine takes.
#[derive(Debug)]
pub(in crate::identity) struct Budget {
    steps: AtomicU64,
    work: AtomicU64,
}

/// The budget does not suffice for another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

impl Budget {
    pub(in crate::identity) const fn of(steps: u64, work: u64) -> Self {
        Self { steps: AtomicU64::new(steps), work: AtomicU64::new(work) }
    }

    /// The budget for a chain that a client presents: some 10 ms. Honest bundles of dozens of cross-signed certificates need less.
    pub(in crate::identity) const fn of_a_handshake() -> Self {
        Self::of(4_000, 10_000_000)
    }

    /// Pays for one step from a certificate to an issuer.
    pub(super) fn step(&self) -> Result<(), Spent> {
        take(&self.steps, 1)
    }

    /// Pays for work.
    pub(super) fn spend(&self, work: u64) -> Result<(), Spent> {
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

    /// Whether anything is left to work with.
    pub(super) fn left(&self) -> Result<(), Spent> {
        if self.work.load(Ordering::Relaxed) == 0 { Err(Spent) } else { Ok(()) }
    }
}

/// Takes an amount, or all that is left where that is less.
fn take(from: &AtomicU64, amount: u64) -> Result<(), Spent> {
    // One judgement is done by one thread.
    let left = from.load(Ordering::Relaxed);
    from.store(left.saturating_sub(amount), Ordering::Relaxed);
    if left > amount { Ok(()) } else { Err(Spent) }
}

/// An algorithm that checks each signature once, pays for it, and finds no signature good once the budget is spent.
pub(super) struct Remembering<'b> {
    algorithm: &'b dyn SignatureVerificationAlgorithm,
    budget: &'b Budget,
    found: Mutex<BTreeMap<[u8; 32], bool>>,
}

impl<'b> Remembering<'b> {
    pub(super) fn all(algorithms: Algorithms<'b>, budget: &'b Budget) -> Vec<Self> {
        let one = |algorithm: &&'b dyn SignatureVerificationAlgorithm| Self {
            algorithm: *algorithm,
            budget,
            found: Mutex::default(),
        };
        algorithms.iter().map(one).collect()
    }

    pub(super) fn as_algorithm(&self) -> &dyn SignatureVerificationAlgorithm {
        self
    }
}

impl fmt::Debug for Remembering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let question = digest_of([key, message, signature]);
        let mut found = self.found.lock();
        let is_good = match found.get(&question) {
            Some(is_good) => *is_good,
            None => {
                self.budget.spend(work_of_signature(key, message)).map_err(|Spent| InvalidSignature)?;
                let is_good = self.algorithm.verify_signature(key, message, signature).is_ok();
                found.insert(question, is_good);
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

/// SHA-256 over some texts, lengths included: no two lists share one.
fn digest_of(parts: [&[u8]; 3]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    // SHA-256 has 32 bytes.
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// The work of checking a signature: by the kind and length of the key, and the length of what was signed.
fn work_of_signature(key: &[u8], message: &[u8]) -> u64 {
    // The length tells the kinds apart: Ed25519, points on P-256, P-384 and P-521; RSA is longer.
    let arithmetic: u64 = match key.len() {
        ..=65 => 100_000,
        66..=97 => 400_000,
        98..=133 => 800_000,
        // Quadratic in the length of an RSA key.
        bytes => bytes as u64 * bytes as u64,
    };
    arithmetic + message.len() as u64 * 4
}

/// The work of verifying a path: webpki parses every certificate again at each of its steps, of which it makes more where
/// several certificates have one name, and holds all names to all name constraints above them.
pub(super) fn work_of_path(path: &[&Certificate<'_>], anchor: &TrustAnchor<'_>) -> u64 {
    let bytes: usize = path.iter().map(|certificate| certificate.der.len()).sum();
    let parsing = bytes as u64 * path.len() as u64 * orders(path);
    20_000 + parsing * 4 + work_of_constraints(path, anchor)
}

/// The orders in which webpki may try the certificates of a path that share a name.
pub(super) fn orders(path: &[&Certificate<'_>]) -> u64 {
    let namesakes = |certificate: &Certificate<'_>| {
        let same =
            |other: &&&Certificate<'_>| other.parsed.subject.as_raw() == certificate.parsed.subject.as_raw();
        path.iter().filter(same).count() as u64
    };
    // At most the product of the numbers, each counted once for each of its certificates.
    path.iter().map(|certificate| namesakes(certificate)).product::<u64>().max(1)
}

/// Values that are compared with each other value of another kind: how many, and their length together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Values {
    count: u64,
    bytes: u64,
}

impl Values {
    /// Counted as DER has them, whatever they are: webpki compares also what other parsers refuse. Where it is no DER, there are
    /// no more than one for each two bytes.
    fn of(lists: &[&[u8]]) -> Self {
        let count = |list: &&[u8]| elements(list).map_or(list.len() / 2, |values| values.len()) as u64;
        Self { count: lists.iter().map(count).sum(), bytes: lists.iter().map(|list| list.len() as u64).sum() }
    }

    fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, bytes: self.bytes + other.bytes }
    }

    /// Comparing two names goes through every byte of both.
    fn work_against(self, others: Self) -> u64 {
        let bytes = self.count * others.bytes + self.bytes * others.count;
        self.count * others.count * 20 + bytes * 3
    }
}

/// The names of a path's certificates held to the name constraints of the certificates above them, and of the authority. A path
/// of 64 KiB has room for hundreds of each, and webpki's own bound lets it compare for a tenth of a second.
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

/// The value of an extension, without its outer tag and length.
fn values_of<'c>(certificate: &Certificate<'c>, kind: &Oid<'_>) -> Option<&'c [u8]> {
    let extension = certificate.parsed.extensions().iter().find(|extension| extension.oid == *kind)?;
    Some(content(extension.value).unwrap_or(extension.value))
}

/// The subtrees in both lists of name constraints (RFC 5280 §4.2.1.10).
fn subtrees(lists: Option<&[u8]>) -> Values {
    let lists = lists.unwrap_or_default();
    match elements(lists) {
        Some(lists) => Values::of(&lists.iter().map(|list| list.data).collect::<Vec<_>>()),
        None => Values::of(&[lists]),
    }
}

fn names_of(certificate: &Certificate<'_>) -> Values {
    let names = values_of(certificate, &OID_X509_EXT_SUBJECT_ALT_NAME);
    // The subject is a name as well.
    Values::of(&names.into_iter().collect::<Vec<_>>()).and(Values { count: 1, bytes: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_constraints_cost_by_their_number_and_their_length() {
        let values = |count, bytes| Values { count, bytes };
        assert_eq!(Values::of(&[&[0x82, 1, b'a', 0x82, 2, b'b', b'c']]), values(2, 7));
        assert_eq!(Values::of(&[&[0x82, 0x80, 1, 1]]), values(2, 4));
        let work = |names: Values, constraints: Values| names.work_against(constraints);
        // As many comparisons as webpki allows, of names of 50 bytes.
        assert!(work(values(500, 25_000), values(500, 25_000)) > 50_000_000);
        assert!(work(values(250, 10_000), values(100, 2_000)) < 6_000_000);
        assert_eq!(work(values(1, 10), values(0, 0)), 0);
    }

    #[test]
    fn subtrees_of_both_lists_count_and_what_is_no_list_as_well() {
        let lists = [0xa0, 5, 0x30, 3, 0x82, 1, b'a', 0xa1, 4, 0x30, 0, 0x30, 0];
        assert_eq!(subtrees(Some(&lists)), Values { count: 3, bytes: 9 });
        assert_eq!(subtrees(Some(&[0xa0, 0x80, 0, 0])).count, 2);
        assert_eq!(subtrees(None), Values::default());
    }
}
