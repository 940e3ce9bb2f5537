//! The keys below `tls`: the server's certificates, whom client certificates must come from, and how revocation is checked.

use std::path::Path;
use std::time::Duration;

use super::{Draft, KeyPair, Located, Section};
use crate::diagnostic::Code;
use crate::document::{Node, Reader};
use crate::identity::{MissingCrl, TrustDomainPin};

const MISSING: [(&str, MissingCrl); 2] = [("refuse", MissingCrl::Refuse), ("allow", MissingCrl::Allow)];

impl Draft<'_> {
    /// The first, and the further ones of `certificates`.
    pub(super) fn certificates(&mut self, tls: &Section<'_>) -> Option<Vec<KeyPair>> {
        let certificate = self.required_path(tls, "certificate");
        let key = self.required_path(tls, "key");
        let folder = self.folder;
        let further = self.read(tls, "certificates", |reader, node| {
            Some(reader.list(node)?.iter().filter_map(|item| key_pair(reader, item, folder)).collect())
        });
        let further: Vec<_> = further.map(|further| further.value).unwrap_or_default();
        let first = KeyPair { certificate: certificate?, key: key? };
        Some(std::iter::once(first).chain(further).collect())
    }

    /// It may be nothing at all: that is the strict choice.
    pub(super) fn crl_grace(&mut self, tls: &Section<'_>) -> Duration {
        self.duration_or_none(tls, "crl_grace")
    }

    pub(super) fn crl_missing(&mut self, tls: &Section<'_>) -> MissingCrl {
        self.choice(tls, "crl_missing", &MISSING, MissingCrl::Refuse)
    }

    pub(super) fn trust_domains(&mut self, tls: &Section<'_>) -> Vec<TrustDomainPin> {
        let pins = self.read(tls, "trust_domains", |reader, node| {
            let entries = reader.entries(node, "`trust_domains`")?;
            Some(entries.into_iter().filter_map(|(file, _, value)| pin(reader, file, value)).collect())
        });
        pins.map(|pins| pins.value).unwrap_or_default()
    }
}

/// One entry of `tls.certificates`.
fn key_pair(reader: &mut Reader<'_>, node: &Node<'_>, folder: &Path) -> Option<KeyPair> {
    let fields = reader.fields(node, "an entry of `certificates`", &["certificate", "key"])?;
    let mut path = |key| {
        let node = fields.required(key, reader)?;
        let value = folder.join(reader.name(node)?);
        Some(Located { value, place: reader.place(node) })
    };
    let (certificate, key) = (path("certificate"), path("key"));
    Some(KeyPair { certificate: certificate?, key: key? })
}

/// One entry of `tls.trust_domains`.
fn pin(reader: &mut Reader<'_>, file: &str, value: &Node<'_>) -> Option<TrustDomainPin> {
    let text = reader.text(value)?;
    let Ok(domain) = text.parse() else {
        let help = "write it as in `shop.example`: lower-case letters, digits, `.`, `-` and `_`".to_owned();
        reader.error(Code::BadTrustDomain, value, format!("`{text}` is no SPIFFE trust domain"), Some(help));
        return None;
    };
    Some(TrustDomainPin { file: file.to_owned(), domain, place: Some(reader.place(value)) })
}
