use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use x509_parser::prelude::FromDer;

use super::budget::MeteredAlgorithm;
use super::*;
use crate::demo::pki::{Authority, Leaf, authority, pem};
use crate::identity::signature::{SignatureFlaw, Signed};
use crate::identity::{EkuPolicy, Trust, TrustSources};

fn plenty() -> Budget {
    Budget::of(1_000, 1_000_000_000)
}

/// Budget for the verification of one path, without a search.
fn without_steps() -> Budget {
    Budget::of(0, 1_000_000)
}

fn trust(authorities: &[&Authority]) -> Trust {
    let pem: String = authorities.iter().map(|it| pem("CERTIFICATE", it.certificate())).collect();
    let sources = TrustSources::from_authorities("ca.crt", pem.as_bytes(), EkuPolicy::ClientAuthIfPresent);
    Trust::build(&sources, Timestamp::now()).unwrap().0
}

/// Returns the candidates of a search in which every candidate is refused, as positions in the presented chain, and the flaw of
/// the search.
fn candidates(chain: &[CertificateDer<'_>], trust: &Trust, budget: &Budget) -> (Vec<Vec<usize>>, Flaw) {
    let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
    let leaf = Certificate { position: 0, der: &chain[0], parsed };
    let mut candidates = Vec::new();
    let mut refuse = |candidate: &Candidate<'_, '_>| -> Result<(), Flaw> {
        candidates.push(candidate.certificates.iter().map(|certificate| certificate.position).collect());
        Err(Flaw::NameNotAllowed)
    };
    let paths = PathGraph::find(leaf, &chain[1..], trust.valid_at(Timestamp::now()));
    let flaw = paths.and_then(|paths| paths.search(budget, &mut refuse)).unwrap_err();
    (candidates, flaw)
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn named(name: &str, with_key_ids: bool) -> CertificateParams {
    let mut params = authority(name);
    params.use_authority_key_identifier_extension = with_key_ids;
    params
}

fn leaf_of(issuer: &rcgen::Issuer<'_, KeyPair>, with_key_ids: bool) -> CertificateDer<'static> {
    let mut params = named("leaf", with_key_ids);
    params.is_ca = rcgen::IsCa::NoCa;
    params.signed_by(&key(), issuer).unwrap().into()
}

#[test]
fn certificates_on_no_path_by_name_are_left_out_and_a_single_path_takes_no_step() {
    let root = Authority::root("root").unwrap();
    let below = root.intermediate("upper").unwrap().intermediate("lower").unwrap();
    let mut chain = below.issue(&Leaf::client("Shop", "client")).unwrap().chain;
    let strangers: Vec<_> = (0..30).map(|n| Authority::root(&format!("stranger {n}")).unwrap()).collect();
    chain.splice(1..1, strangers.iter().map(|stranger| stranger.certificate().clone()));
    let (verified, flaw) = candidates(&chain, &trust(&[&root]), &without_steps());
    assert_eq!((verified, flaw), (vec![vec![0, 31, 32]], Flaw::NameNotAllowed));
}

#[test]
fn without_a_path_by_name_nothing_is_verified() {
    let (known, unknown) = (Authority::root("known").unwrap(), Authority::root("unknown").unwrap());
    let chain = unknown.intermediate("a").unwrap().issue(&Leaf::client("Shop", "client")).unwrap().chain;
    let whole = [chain.as_slice(), &[unknown.certificate().clone(), known.certificate().clone()]].concat();
    for chain in [&chain[..1], &chain, &whole] {
        assert_eq!(candidates(chain, &trust(&[&known]), &plenty()), (vec![], Flaw::UnknownIssuer));
    }
}

#[test]
fn a_certificate_that_is_presented_many_times_counts_once() {
    let root = Authority::root("root").unwrap();
    let mut chain = root.intermediate("a").unwrap().issue(&Leaf::client("Shop", "client")).unwrap().chain;
    chain.extend(vec![chain[1].clone(); 30]);
    chain.extend(vec![chain[0].clone(); 30]);
    assert_eq!(candidates(&chain, &trust(&[&root]), &without_steps()).0, [[0, 1]]);
}

#[test]
fn both_paths_of_a_cross_signed_pair_are_verified_in_the_order_of_the_chain() {
    let (old, new) = (Authority::root("old").unwrap(), Authority::root("new").unwrap());
    let (shared, params) = (key(), named("shared", true));
    let [first, second] = [&old, &new].map(|root| params.signed_by(&shared, root.issuer()).unwrap().into());
    let issuer = rcgen::Issuer::new(params.clone(), shared);
    let chain = [leaf_of(&issuer, true), first, second];
    assert_eq!(candidates(&chain, &trust(&[&old, &new]), &plenty()).0, [[0, 1], [0, 2]]);
    assert_eq!(candidates(&chain, &trust(&[&new]), &without_steps()).0, [[0, 2]]);
}

/// Key identifiers only decide which issuer is tried first: the right issuer is found without identifiers as well.
#[test]
fn among_issuers_with_one_name_the_most_likely_is_verified_and_then_only_the_signer() {
    let root = Authority::root("root").unwrap();
    for with_key_ids in [true, false] {
        let params = named("shared name", with_key_ids);
        let issuers: Vec<_> = (0..12).map(|_| rcgen::Issuer::new(params.clone(), key())).collect();
        let certified = issuers.iter().map(|it| params.signed_by(it.key(), root.issuer()).unwrap().into());
        let certificates: Vec<CertificateDer<'static>> = certified.collect();
        let chain = [&[leaf_of(&issuers[7], with_key_ids)][..], &certificates].concat();
        let budget = Budget::of(1_000, 1_000_000_000);
        let expected: &[_] = if with_key_ids { &[[0, 8]] } else { &[[0, 1], [0, 8]] };
        assert_eq!(candidates(&chain, &trust(&[&root]), &budget).0, expected, "{with_key_ids}");
        // One signature check for each issuer, or only those of the right issuer and of its authority.
        let most = if with_key_ids { 13 } else { 26 };
        assert!(budget.steps_left() >= 1_000 - most, "{with_key_ids}: {budget:?}");
    }
}

#[test]
fn a_search_through_cyclic_names_ends() {
    let root = Authority::root("root").unwrap();
    let keys: Vec<_> = (0..3).map(|_| key()).collect();
    let issuer = |n: usize| rcgen::Issuer::new(named(&format!("{n}"), true), &keys[n]);
    let mut chain = Vec::new();
    for (below, key) in keys.iter().enumerate() {
        let params = named(&format!("{below}"), true);
        chain.extend([0, 1, 2].map(|above| params.signed_by(key, &issuer(above)).unwrap().into()));
    }
    chain.push(named("0", true).signed_by(&keys[0], root.issuer()).unwrap().into());
    let mut params = named("leaf", true);
    params.is_ca = rcgen::IsCa::NoCa;
    chain.insert(0, params.signed_by(&key(), &issuer(2)).unwrap().into());
    let (verified, flaw) = candidates(&chain, &trust(&[&root]), &plenty());
    // There are two paths from 2 to 0: directly, and through 1.
    assert_eq!((verified.len(), flaw), (2, Flaw::NameNotAllowed), "{verified:?}");
}

#[test]
fn a_path_that_is_longer_than_webpki_accepts_is_too_complex() {
    let root = Authority::root("root").unwrap();
    let mut issuer = root.intermediate("1").unwrap();
    for number in 2..=6 {
        issuer = issuer.intermediate(&number.to_string()).unwrap();
    }
    let client = Leaf::client("Shop", "client");
    assert_eq!(candidates(&issuer.issue(&client).unwrap().chain, &trust(&[&root]), &plenty()).0.len(), 1);
    let chain = issuer.intermediate("7").unwrap().issue(&client).unwrap().chain;
    assert_eq!(candidates(&chain, &trust(&[&root]), &plenty()), (vec![], Flaw::TooComplex));
}

#[test]
fn a_search_ends_when_its_steps_or_its_work_are_spent() {
    let (old, new) = (Authority::root("old").unwrap(), Authority::root("new").unwrap());
    let (shared, params) = (key(), named("shared", true));
    let [first, second] = [&old, &new].map(|root| params.signed_by(&shared, root.issuer()).unwrap().into());
    let issuer = rcgen::Issuer::new(params.clone(), shared);
    let (chain, trust) = ([leaf_of(&issuer, true), first, second], trust(&[&old, &new]));
    // Four steps: from the leaf to each of two issuers, and from each issuer to its authority.
    for (budget, expected) in [
        (Budget::of(1, 1_000_000_000), 1),
        (Budget::of(3, 1_000_000_000), 1),
        (Budget::of(100, 1), 0),
        (Budget::of(100, 310_000), 1),
    ] {
        let (verified, flaw) = candidates(&chain, &trust, &budget);
        assert_eq!((verified.len(), flaw), (expected, Flaw::TooComplex), "{budget:?}");
    }
    assert_eq!(candidates(&chain, &trust, &plenty()).1, Flaw::NameNotAllowed);
}

#[test]
fn a_repeated_signature_is_checked_once() {
    let root = Authority::root("root").unwrap();
    let leaf = root.issue(&Leaf::client("Shop", "client")).unwrap().chain.remove(0);
    let budget = Budget::of(0, 1_000_000);
    let metered = MeteredAlgorithm::wrap_all(accepted_algorithms(), &budget);
    let algorithms: Vec<_> = metered.iter().map(MeteredAlgorithm::as_dyn).collect();
    let (_, certificate) = X509Certificate::from_der(root.certificate()).unwrap();
    let check = |key: &[u8]| Signed::parse(&leaf).unwrap().verify_with(&algorithms, key);
    check(certificate.public_key().raw).unwrap();
    let left = budget.work_left();
    assert!(left < 1_000_000);
    for _ in 0..100 {
        check(certificate.public_key().raw).unwrap();
    }
    assert_eq!(budget.work_left(), left);
    let (_, other) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(check(other.public_key().raw), Err(SignatureFlaw::Wrong));
    assert!(budget.work_left() < left);
}

#[test]
fn no_signature_is_good_when_the_budget_is_spent() {
    let root = Authority::root("root").unwrap();
    let leaf = root.issue(&Leaf::client("Shop", "client")).unwrap().chain.remove(0);
    let budget = Budget::of(0, 1);
    let metered = MeteredAlgorithm::wrap_all(accepted_algorithms(), &budget);
    let algorithms: Vec<_> = metered.iter().map(MeteredAlgorithm::as_dyn).collect();
    let (_, certificate) = X509Certificate::from_der(root.certificate()).unwrap();
    let found = Signed::parse(&leaf).unwrap().verify_with(&algorithms, certificate.public_key().raw);
    assert_eq!((found, budget.check_left()), (Err(SignatureFlaw::Wrong), Err(BudgetExhausted)));
}

/// Returns a leaf with `names` names and its intermediate with `constraints` name constraints.
fn constrained(root: &Authority, constraints: usize, names: usize) -> Vec<CertificateDer<'static>> {
    let mut params = named("constrained", true);
    let subtrees = (0..constraints).map(|n| rcgen::GeneralSubtree::DnsName(format!("{n}.example")));
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: Vec::new(),
        excluded_subtrees: subtrees.collect(),
    });
    let key = key();
    let certificate = params.signed_by(&key, root.issuer()).unwrap().into();
    let issuer = rcgen::Issuer::new(params, key);
    vec![leaf_with(&issuer, names), certificate]
}

fn leaf_with(issuer: &rcgen::Issuer<'_, KeyPair>, names: usize) -> CertificateDer<'static> {
    let mut params = named("leaf", true);
    params.is_ca = rcgen::IsCa::NoCa;
    let name = |n| rcgen::SanType::DnsName(format!("{n}.client").try_into().unwrap());
    params.subject_alt_names = (0..names).map(name).collect();
    params.signed_by(&self::key(), issuer).unwrap().into()
}

/// The comparisons of a single path are paid for as well, because the bound of webpki on them is far too high.
#[test]
fn comparisons_of_names_with_constraints_are_paid_for_before_a_path_is_verified() {
    let root = Authority::root("root").unwrap();
    let trust = trust(&[&root]);
    for (constraints, names, count) in [(40, 2, 1), (2, 40, 1), (40, 40, 0)] {
        let chain = constrained(&root, constraints, names);
        let (verified, flaw) = candidates(&chain, &trust, &Budget::of(0, 120_000));
        let expected = if count == 1 { Flaw::NameNotAllowed } else { Flaw::TooComplex };
        assert_eq!((verified.len(), flaw), (count, expected), "{constraints} constraints, {names} names");
    }
}

#[test]
fn comparisons_with_constraints_of_the_authority_are_paid_for() {
    let mut params = named("root", true);
    let subtrees = (0..40).map(|n| rcgen::GeneralSubtree::DnsName(format!("{n}.example")));
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: subtrees.collect(),
        excluded_subtrees: Vec::new(),
    });
    let key = key();
    let root = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
    let sources = TrustSources::from_authorities("ca.crt", root.as_bytes(), EkuPolicy::ClientAuthIfPresent);
    let trust = Trust::build(&sources, Timestamp::now()).unwrap().0;
    let issuer = rcgen::Issuer::new(params, key);
    for (names, flaw) in [(2, Flaw::NameNotAllowed), (40, Flaw::TooComplex)] {
        assert_eq!(
            candidates(&[leaf_with(&issuer, names)], &trust, &Budget::of(0, 120_000)).1,
            flaw,
            "{names}"
        );
    }
}

/// Honest chains contain the root or a cross-signed pair beside their path. Their judgement must cost no more than the path.
#[test]
fn the_most_likely_of_several_paths_is_verified_at_the_cost_of_a_single_path() {
    let (old, new) = (Authority::root("old").unwrap(), Authority::root("new").unwrap());
    let (shared, params) = (key(), named("shared", true));
    let [first, second] = [&old, &new].map(|root| params.signed_by(&shared, root.issuer()).unwrap().into());
    let chain = [leaf_of(&rcgen::Issuer::new(params.clone(), shared), true), first, second];
    let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
    let leaf = Certificate { position: 0, der: &chain[0], parsed };
    let trust = trust(&[&old, &new]);
    let paths = PathGraph::find(leaf, &chain[1..], trust.valid_at(Timestamp::now())).unwrap();
    let budget = without_steps();
    let found = paths.search(&budget, &mut |candidate| {
        assert!(std::ptr::eq(candidate.algorithms, accepted_algorithms()), "no signature is remembered");
        Ok(candidate.certificates.len())
    });
    assert_eq!(found, Ok(2));
    // The work left shows that no signature was paid for.
    assert!(budget.work_left() > 900_000, "{budget:?}");
}
