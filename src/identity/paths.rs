//! Candidate paths: the ways by name from a presented leaf to an authority, one at a time and within a budget.
//!
//! Anybody can present certificates whose names allow very many ways, and path building that tries all of them takes seconds
//! of the thread that serves everybody else. Certificates that lie on no way from the leaf to an authority are therefore left
//! out, the likeliest way is verified as it is, and where it fails and there are others, the signature between two certificates is
//! checked once and before the way goes on, and every step is paid for from a budget. Key identifiers decide which way is tried first, never whether it is tried: they are no proof (RFC 5280 §4.2.1.1).

mod budget;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Flaw;
use super::der::content;
use super::signature::{Algorithms, SignatureFlaw, Signed, accepted};
use super::trust::{Anchor, Authority};

pub(super) use budget::Budget;
use budget::{Remembering, Spent, orders, work_of_path};

/// The most certificates between a leaf and its authority, as webpki has it.
const MOST_BETWEEN: usize = 6;

/// A presented certificate, parsed.
pub(super) struct Certificate<'c> {
    /// The position in the chain as it was presented; the leaf's is 0.
    pub(super) position: usize,
    pub(super) der: &'c CertificateDer<'c>,
    pub(super) parsed: X509Certificate<'c>,
}

/// The certificates of a presented chain with the ways by name between them and the authorities.
pub(super) struct Paths<'c, 't> {
    /// The leaf first.
    nodes: Vec<Node<'c>>,
    anchors: Vec<Anchor<'t>>,
}

struct Node<'c> {
    certificate: Certificate<'c>,
    /// Subject and issuer, as webpki compares them: byte for byte, without tag and length.
    names: (&'c [u8], &'c [u8]),
    /// Presented certificates that have the name of this one's issuer and lie on a way, likeliest first.
    issuers: Vec<usize>,
    /// Authorities that have it, likeliest first.
    anchors: Vec<usize>,
    /// The fewest certificates between this one and an authority; `None` where there is no way.
    height: Option<usize>,
}

/// The verification of a candidate.
type Look<'l, 'c, T> = dyn FnMut(&Candidate<'_, 'c>) -> Result<T, Flaw> + 'l;

/// A way from the leaf to an authority, by the numbers of its certificates and of the authority.
struct Way {
    certificates: Vec<usize>,
    anchor: usize,
}

impl Way {
    /// Whether two of its certificates share a name: webpki would try them in every order.
    fn has_namesakes(&self, paths: &Paths<'_, '_>) -> bool {
        orders(&paths.certificates(&self.certificates)) > 1
    }
}

/// One way from the leaf to an authority.
pub(super) struct Candidate<'p, 'c> {
    /// The leaf first.
    pub(super) certificates: Vec<&'p Certificate<'c>>,
    pub(super) anchor: &'p TrustAnchor<'static>,
    /// The algorithms to verify the way with. They remember what was found out already.
    pub(super) algorithms: Algorithms<'p>,
}

impl<'c, 't> Paths<'c, 't> {
    /// The ways from a leaf through other presented certificates to some of these authorities.
    ///
    /// # Errors
    /// Names allow no way, or only ways that are too long.
    pub(super) fn find(
        leaf: Certificate<'c>,
        others: &'c [CertificateDer<'_>],
        anchors: impl Iterator<Item = Anchor<'t>>,
    ) -> Result<Self, Flaw> {
        let nodes = read(leaf, others).into_iter().map(Node::new).collect();
        let mut paths = Self { nodes, anchors: anchors.collect() };
        paths.follow_names();
        paths.measure();
        paths.leave_out_dead_ends();
        match paths.nodes.first().and_then(|leaf| leaf.height) {
            None => Err(Flaw::UnknownIssuer),
            Some(height) if height > MOST_BETWEEN => Err(Flaw::TooComplex),
            Some(_) => Ok(paths),
        }
    }

    /// Shows candidates to `look`, likeliest first, until it accepts one or the budget is spent.
    ///
    /// # Errors
    /// The flaw of all candidates that is the most worth telling, or that there were too many ways.
    pub(super) fn search<T>(&self, budget: &Budget, look: &mut Look<'_, 'c, T>) -> Result<T, Flaw> {
        let likeliest = self.likeliest().filter(|way| !way.has_namesakes(self));
        let first = likeliest.as_ref().map(|way| self.verify_as_it_is(way, budget, look));
        match first {
            Some(Ok(verdict)) => return Ok(verdict),
            Some(Err(flaw)) if flaw == Flaw::TooComplex || self.is_one_way() => return Err(flaw),
            _ => {}
        }
        let tried = likeliest.zip(first.and_then(Result::err));
        self.search_all(tried, budget, look)
    }

    /// The way that follows the first issuer at each certificate, an authority before presented ones.
    fn likeliest(&self) -> Option<Way> {
        let mut certificates = vec![0];
        loop {
            let head = self.nodes.get(*certificates.last()?)?;
            if let Some(anchor) = head.anchors.first() {
                return Some(Way { certificates, anchor: *anchor });
            }
            let above = head.issuers.iter().find(|above| self.may_go_on(&certificates, **above))?;
            certificates.push(*above);
        }
    }

    /// The verification of an ordinary chain, in which no signature is worth remembering: its cost is bounded by its length.
    fn verify_as_it_is<T>(&self, way: &Way, budget: &Budget, look: &mut Look<'_, 'c, T>) -> Result<T, Flaw> {
        let (anchor, _) = self.anchors.get(way.anchor).ok_or(Flaw::UnknownIssuer)?;
        let certificates = self.certificates(&way.certificates);
        budget.spend(work_of_path(&certificates, anchor)).map_err(|Spent| Flaw::TooComplex)?;
        look(&Candidate { certificates, anchor, algorithms: accepted() })
    }

    fn search_all<T>(
        &self,
        tried: Option<(Way, Flaw)>,
        budget: &Budget,
        look: &mut Look<'_, 'c, T>,
    ) -> Result<T, Flaw> {
        let remembering = Remembering::all(accepted(), budget);
        let algorithms: Vec<_> = remembering.iter().map(Remembering::as_algorithm).collect();
        let mut search = Search {
            paths: self,
            budget,
            algorithms: &algorithms,
            tried,
            way: vec![0],
            found: BTreeMap::new(),
            flaw: Flaw::UnknownIssuer,
            look,
        };
        match search.go_on() {
            ControlFlow::Break(verdict) => verdict,
            ControlFlow::Continue(()) => Err(search.flaw),
        }
    }

    fn certificates(&self, way: &[usize]) -> Vec<&Certificate<'c>> {
        way.iter().filter_map(|index| self.nodes.get(*index)).map(|node| &node.certificate).collect()
    }

    /// No way is longer than webpki takes, or comes by the same name and key twice (RFC 4158 §5.2).
    fn may_go_on(&self, way: &[usize], above: usize) -> bool {
        let Some(issuer) = self.nodes.get(above) else { return false };
        let is_near = issuer.height.is_some_and(|height| way.len() + height <= MOST_BETWEEN);
        let is_same = |other: &Node<'_>| other.key() == issuer.key() && other.names.0 == issuer.names.0;
        is_near && !way.iter().filter_map(|index| self.nodes.get(*index)).any(is_same)
    }

    /// Finds the issuers that each certificate can have by name, for those that can be reached from the leaf.
    fn follow_names(&mut self) {
        let names: Vec<_> = self.nodes.iter().map(|node| node.names).collect();
        let anchors: Vec<_> = self.anchors.iter().map(|(anchor, _)| anchor.subject.as_ref()).collect();
        let (mut reached, mut next) = (vec![0], 0);
        while let Some(child) = reached.get(next).copied() {
            next += 1;
            let Some((_, issuer)) = names.get(child) else { break };
            // The leaf issues nothing, and no certificate itself.
            let above = |(index, (subject, _)): (usize, &(&[u8], &[u8]))| {
                (index > 0 && index != child && subject == issuer).then_some(index)
            };
            let issuers: Vec<_> = names.iter().enumerate().filter_map(above).collect();
            let new: Vec<_> = issuers.iter().copied().filter(|index| !reached.contains(index)).collect();
            reached.extend(new);
            let named = anchors.iter().enumerate().filter(|(_, subject)| *subject == issuer);
            let named = named.map(|(index, _)| index).collect();
            self.set_issuers(child, issuers, named);
        }
    }

    fn set_issuers(&mut self, child: usize, mut issuers: Vec<usize>, mut anchors: Vec<usize>) {
        if issuers.len() + anchors.len() > 1
            && let Some(wanted) = self.nodes.get(child).and_then(|node| authority_key_id(node.parsed()))
        {
            // The order is stable: among equals, the order of the chain and of the configuration.
            issuers.sort_by_key(|index| {
                let issuer = self.nodes.get(*index);
                issuer.and_then(|node| subject_key_id(node.parsed())) != Some(wanted)
            });
            anchors.sort_by_key(|index| {
                let anchor = self.anchors.get(*index);
                anchor.and_then(|(_, authority)| authority.key_id.as_deref()) != Some(wanted)
            });
        }
        if let Some(node) = self.nodes.get_mut(child) {
            (node.issuers, node.anchors) = (issuers, anchors);
        }
    }

    /// Distance of each certificate from an authority.
    fn measure(&mut self) {
        for distance in 0..self.nodes.len() {
            let heights: Vec<_> = self.nodes.iter().map(|node| node.height).collect();
            let is_below =
                |index: &usize| distance > 0 && heights.get(*index).copied().flatten() == Some(distance - 1);
            for node in self.nodes.iter_mut().filter(|node| node.height.is_none()) {
                let is_so =
                    if distance == 0 { !node.anchors.is_empty() } else { node.issuers.iter().any(is_below) };
                node.height = is_so.then_some(distance);
            }
        }
    }

    fn leave_out_dead_ends(&mut self) {
        let heights: Vec<_> = self.nodes.iter().map(|node| node.height).collect();
        let leads_on = |index: &usize| heights.get(*index).copied().flatten().is_some();
        self.nodes.iter_mut().for_each(|node| node.issuers.retain(leads_on));
    }

    /// Whether names allow one way and no other.
    fn is_one_way(&self) -> bool {
        let on_a_way = self.nodes.iter().filter(|node| node.height.is_some());
        on_a_way.map(|node| node.issuers.len() + node.anchors.len()).all(|ways| ways <= 1)
    }
}

/// The leaf, and the other certificates that can be read, each once.
fn read<'c>(leaf: Certificate<'c>, others: &'c [CertificateDer<'_>]) -> Vec<Certificate<'c>> {
    let mut certificates = vec![leaf];
    for (index, der) in others.iter().enumerate() {
        let is_known = certificates.iter().any(|known| known.der == der);
        if let (false, Ok(([], parsed))) = (is_known, X509Certificate::from_der(der)) {
            certificates.push(Certificate { position: index + 1, der, parsed });
        }
    }
    certificates
}

impl<'c> Node<'c> {
    fn new(certificate: Certificate<'c>) -> Self {
        let parsed = &certificate.parsed;
        let [subject, issuer] =
            [&parsed.subject, &parsed.issuer].map(|name| content(name.as_raw()).unwrap_or_default());
        let names = (subject, issuer);
        Self { certificate, names, issuers: Vec::new(), anchors: Vec::new(), height: None }
    }

    fn parsed(&self) -> &X509Certificate<'c> {
        &self.certificate.parsed
    }

    fn key(&self) -> &[u8] {
        self.parsed().public_key().raw
    }
}

/// The subject key identifier (RFC 5280 §4.2.1.2).
pub(super) fn subject_key_id<'c>(certificate: &X509Certificate<'c>) -> Option<&'c [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

/// The identifier of the key that a certificate says it was signed with (RFC 5280 §4.2.1.1).
fn authority_key_id<'c>(certificate: &X509Certificate<'c>) -> Option<&'c [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}

/// A walk from the leaf upwards, depth first.
struct Search<'s, 'c, 't, 'l, T> {
    paths: &'s Paths<'c, 't>,
    budget: &'s Budget,
    algorithms: Algorithms<'s>,
    /// The way that was verified already, and its flaw.
    tried: Option<(Way, Flaw)>,
    /// The certificates from the leaf to where the walk is.
    way: Vec<usize>,
    /// The signatures that were checked: of which certificate, and by whom.
    found: BTreeMap<(usize, Issuer), Result<(), SignatureFlaw>>,
    /// The most telling flaw so far.
    flaw: Flaw,
    look: &'l mut Look<'l, 'c, T>,
}

/// An issuer by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Issuer {
    Presented(usize),
    Authority(usize),
}

/// The walk goes on, or has ended: with a verdict, or because the budget is spent.
type Walk<T> = ControlFlow<Result<T, Flaw>>;

impl<'s, 'c, T> Search<'s, 'c, '_, '_, T> {
    fn go_on(&mut self) -> Walk<T> {
        let paths = self.paths;
        let Some((index, node)) = self.head() else { return ControlFlow::Continue(()) };
        for anchor in &node.anchors {
            if let Some((trusted, authority)) = paths.anchors.get(*anchor)
                && self.is_signed(index, Issuer::Authority(*anchor), authority_key(authority))?
            {
                self.try_out(*anchor, trusted)?;
            }
        }
        for above in &node.issuers {
            if let Some(issuer) = paths.nodes.get(*above)
                && paths.may_go_on(&self.way, *above)
                && self.is_signed(index, Issuer::Presented(*above), issuer.key())?
            {
                self.way.push(*above);
                self.go_on()?;
                self.way.pop();
            }
        }
        ControlFlow::Continue(())
    }

    fn head(&self) -> Option<(usize, &'s Node<'c>)> {
        let index = *self.way.last()?;
        Some((index, self.paths.nodes.get(index)?))
    }

    /// Whether a certificate was signed by that issuer.
    fn is_signed(&mut self, child: usize, issuer: Issuer, key: &[u8]) -> ControlFlow<Result<T, Flaw>, bool> {
        self.pay(self.budget.step())?;
        let found = match self.found.get(&(child, issuer)) {
            Some(found) => *found,
            None => {
                let found = self.check_signature(child, key);
                self.pay(self.budget.left())?;
                self.found.insert((child, issuer), found);
                found
            }
        };
        match found {
            Ok(()) => return ControlFlow::Continue(true),
            Err(SignatureFlaw::Wrong) => self.note(Flaw::BadSignature),
            Err(SignatureFlaw::Unacceptable) => self.note(Flaw::UnacceptableSignature),
        }
        ControlFlow::Continue(false)
    }

    fn check_signature(&self, child: usize, key: &[u8]) -> Result<(), SignatureFlaw> {
        let child = self.paths.nodes.get(child).and_then(|child| Signed::of(child.certificate.der));
        child.ok_or(SignatureFlaw::Unacceptable)?.by_one_of(self.algorithms, key)
    }

    fn try_out(&mut self, index: usize, anchor: &TrustAnchor<'static>) -> Walk<T> {
        if let Some(flaw) = self.flaw_found(index) {
            self.note(flaw);
            return ControlFlow::Continue(());
        }
        let certificates = self.paths.certificates(&self.way);
        self.pay(self.budget.spend(work_of_path(&certificates, anchor)))?;
        let candidate = Candidate { certificates, anchor, algorithms: self.algorithms };
        match (self.look)(&candidate) {
            Ok(verdict) => return ControlFlow::Break(Ok(verdict)),
            Err(Flaw::TooComplex) => return ControlFlow::Break(Err(Flaw::TooComplex)),
            Err(flaw) => self.note(flaw),
        }
        self.pay(self.budget.left())
    }

    /// The flaw of the way to this authority, where that is the one that was tried first. Only now is it known to be signed all
    /// along: the flaw of a way that nobody signed would say nothing of the client.
    fn flaw_found(&self, anchor: usize) -> Option<Flaw> {
        let (way, flaw) = self.tried.as_ref()?;
        (way.anchor == anchor && way.certificates == self.way).then(|| flaw.clone())
    }

    fn note(&mut self, flaw: Flaw) {
        if flaw.telling() > self.flaw.telling() {
            self.flaw = flaw;
        }
    }

    fn pay(&self, paid: Result<(), Spent>) -> Walk<T> {
        match paid {
            Ok(()) => ControlFlow::Continue(()),
            Err(Spent) => ControlFlow::Break(Err(Flaw::TooComplex)),
        }
    }
}

fn authority_key(authority: &Authority) -> &[u8] {
    &authority.key
}

#[cfg(test)]
mod tests;
