//! Graph of the presented certificates and the authorities: an edge leads from each certificate to every possible issuer, by
//! name.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Certificate, IndexedPath};
use crate::identity::Flaw;
use crate::identity::der::content;
use crate::identity::trust::Anchor;

/// Maximum number of certificates between a leaf and its authority; webpki accepts no more.
const MAX_INTERMEDIATES: usize = 6;

/// The presented certificates that lie on a path by name from the leaf to an authority.
pub(in crate::identity) struct PathGraph<'c, 't> {
    /// Nodes of the certificates, that of the leaf first.
    pub(super) nodes: Vec<Node<'c>>,
    pub(super) anchors: Vec<Anchor<'t>>,
}

pub(super) struct Node<'c> {
    pub(super) certificate: Certificate<'c>,
    /// Subject and issuer without tag and length: webpki compares names byte for byte.
    names: (&'c [u8], &'c [u8]),
    /// Presented certificates with the issuer's name that lie on a path, most likely first.
    pub(super) issuers: Vec<usize>,
    /// Authorities with the issuer's name, most likely first.
    pub(super) anchors: Vec<usize>,
    /// Minimum number of certificates between this one and an authority; `None` if there is no path.
    distance: Option<usize>,
}

impl<'c, 't> PathGraph<'c, 't> {
    /// Finds the paths by name from a leaf through other presented certificates to these authorities.
    ///
    /// # Errors
    /// [`Flaw::UnknownIssuer`] if there is no path, [`Flaw::TooComplex`] if every path is too long.
    pub(in crate::identity) fn find(
        leaf: Certificate<'c>,
        others: &'c [CertificateDer<'_>],
        anchors: impl Iterator<Item = Anchor<'t>>,
    ) -> Result<Self, Flaw> {
        let nodes = distinct_certificates(leaf, others).into_iter().map(Node::new).collect();
        let mut graph = Self { nodes, anchors: anchors.collect() };
        graph.link_by_name();
        graph.set_distances();
        graph.remove_dead_ends();
        match graph.nodes.first().and_then(|leaf| leaf.distance) {
            None => Err(Flaw::UnknownIssuer),
            Some(distance) if distance > MAX_INTERMEDIATES => Err(Flaw::TooComplex),
            Some(_) => Ok(graph),
        }
    }

    pub(super) fn certificates(&self, path: &[usize]) -> Vec<&Certificate<'c>> {
        path.iter().filter_map(|index| self.nodes.get(*index)).map(|node| &node.certificate).collect()
    }

    /// Returns the path that follows the first issuer of each certificate and prefers an authority to a presented certificate.
    pub(super) fn most_likely_path(&self) -> Option<IndexedPath> {
        let mut certificates = vec![0];
        loop {
            let last = self.nodes.get(*certificates.last()?)?;
            if let Some(anchor) = last.anchors.first() {
                return Some(IndexedPath { certificates, anchor: *anchor });
            }
            let issuer = last.issuers.iter().find(|issuer| self.may_extend(&certificates, **issuer))?;
            certificates.push(*issuer);
        }
    }

    /// Returns false if a path through this issuer would be longer than webpki accepts, or would contain the same name and key
    /// twice (RFC 4158 §5.2).
    pub(super) fn may_extend(&self, path: &[usize], issuer: usize) -> bool {
        let Some(issuer) = self.nodes.get(issuer) else { return false };
        let is_near = issuer.distance.is_some_and(|distance| path.len() + distance <= MAX_INTERMEDIATES);
        let is_same = |other: &Node<'_>| other.key() == issuer.key() && other.names.0 == issuer.names.0;
        is_near && !path.iter().filter_map(|index| self.nodes.get(*index)).any(is_same)
    }

    /// Returns true if names allow exactly one path.
    pub(super) fn has_single_path(&self) -> bool {
        let on_a_path = self.nodes.iter().filter(|node| node.distance.is_some());
        on_a_path.map(|node| node.issuers.len() + node.anchors.len()).all(|issuers| issuers <= 1)
    }

    /// Sets the possible issuers of each certificate that can be reached from the leaf.
    fn link_by_name(&mut self) {
        let names: Vec<_> = self.nodes.iter().map(|node| node.names).collect();
        let anchors: Vec<_> = self.anchors.iter().map(|(anchor, _)| anchor.subject.as_ref()).collect();
        let (mut reached, mut next) = (vec![0], 0);
        while let Some(child) = reached.get(next).copied() {
            next += 1;
            let Some((_, issuer)) = names.get(child) else { break };
            // Neither the leaf nor the certificate itself can be the issuer.
            let is_issuer = |(index, (subject, _)): (usize, &(&[u8], &[u8]))| {
                (index > 0 && index != child && subject == issuer).then_some(index)
            };
            let issuers: Vec<_> = names.iter().enumerate().filter_map(is_issuer).collect();
            let new: Vec<_> = issuers.iter().copied().filter(|index| !reached.contains(index)).collect();
            reached.extend(new);
            let named = anchors.iter().enumerate().filter(|(_, subject)| *subject == issuer);
            let named = named.map(|(index, _)| index).collect();
            self.set_issuers(child, issuers, named);
        }
    }

    /// Sets the issuers of a certificate, first those with the key identifier that the certificate names.
    fn set_issuers(&mut self, child: usize, mut issuers: Vec<usize>, mut anchors: Vec<usize>) {
        if issuers.len() + anchors.len() > 1
            && let Some(wanted) = self.nodes.get(child).and_then(|node| authority_key_id(node.parsed()))
        {
            // The sort is stable, so equal issuers stay in the order of the chain, and authorities in that of the
            // configuration.
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

    fn set_distances(&mut self) {
        for distance in 0..self.nodes.len() {
            let distances = self.distances();
            let is_nearer = |index: &usize| {
                distance > 0 && distances.get(*index).copied().flatten() == Some(distance - 1)
            };
            for node in self.nodes.iter_mut().filter(|node| node.distance.is_none()) {
                let is_at_distance = match distance {
                    0 => !node.anchors.is_empty(),
                    _ => node.issuers.iter().any(is_nearer),
                };
                node.distance = is_at_distance.then_some(distance);
            }
        }
    }

    fn remove_dead_ends(&mut self) {
        let distances = self.distances();
        let leads_to_authority = |index: &usize| distances.get(*index).copied().flatten().is_some();
        self.nodes.iter_mut().for_each(|node| node.issuers.retain(leads_to_authority));
    }

    fn distances(&self) -> Vec<Option<usize>> {
        self.nodes.iter().map(|node| node.distance).collect()
    }
}

/// Returns the leaf and the other certificates that can be read, without duplicates.
fn distinct_certificates<'c>(
    leaf: Certificate<'c>,
    others: &'c [CertificateDer<'_>],
) -> Vec<Certificate<'c>> {
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
        Self { certificate, names, issuers: Vec::new(), anchors: Vec::new(), distance: None }
    }

    fn parsed(&self) -> &X509Certificate<'c> {
        &self.certificate.parsed
    }

    pub(super) fn key(&self) -> &[u8] {
        self.parsed().public_key().raw
    }
}

/// Returns the subject key identifier (RFC 5280 §4.2.1.2).
pub(in crate::identity) fn subject_key_id<'c>(certificate: &X509Certificate<'c>) -> Option<&'c [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

/// Returns the identifier of the key that the certificate claims to be signed with (RFC 5280 §4.2.1.1).
fn authority_key_id<'c>(certificate: &X509Certificate<'c>) -> Option<&'c [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}
