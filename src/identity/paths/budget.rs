//! The budget of path building, in steps and in work, and signature algorithms that pay for their work from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use x509_parser::extensions::ParsedExtension;

use super::Certificate;
use crate::identity::signature::Algorithms;

/// What path building may cost: so many steps, and so much work, which is the time in nanoseconds that an ordinary machine takes.
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
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
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
pub(super) fn work_of_path(path: &[&Certificate<'_>]) -> u64 {
    let bytes: usize = path.iter().map(|certificate| certificate.der.len()).sum();
    let parsing = bytes as u64 * path.len() as u64 * orders(path);
    20_000 + parsing * 4 + comparisons(path) * 40
}

/// The orders in which webpki may try the certificates of a path that share a name.
fn orders(path: &[&Certificate<'_>]) -> u64 {
    let namesakes = |certificate: &Certificate<'_>| {
        let same =
            |other: &&&Certificate<'_>| other.parsed.subject.as_raw() == certificate.parsed.subject.as_raw();
        path.iter().filter(same).count() as u64
    };
    // At most the product of the numbers, each counted once for each of its certificates.
    path.iter().map(|certificate| namesakes(certificate)).product::<u64>().max(1)
}

/// The names of a path's certificates held to the name constraints of the certificates above them.
fn comparisons(path: &[&Certificate<'_>]) -> u64 {
    let (mut names, mut comparisons) = (0, 0);
    for certificate in path {
        comparisons += names * constraints(certificate);
        names += names_of(certificate);
    }
    comparisons
}

fn constraints(certificate: &Certificate<'_>) -> u64 {
    let all = certificate.parsed.extensions().iter().map(|extension| match extension.parsed_extension() {
        ParsedExtension::NameConstraints(constraints) => {
            let lists = [&constraints.permitted_subtrees, &constraints.excluded_subtrees];
            lists.into_iter().flatten().map(|list| list.len() as u64).sum()
        }
        _ => 0,
    });
    all.sum()
}

fn names_of(certificate: &Certificate<'_>) -> u64 {
    let all = certificate.parsed.extensions().iter().map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => names.general_names.len() as u64,
        _ => 0,
    });
    // The subject is a name as well.
    all.sum::<u64>() + 1
}
