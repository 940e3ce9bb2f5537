//! The keys below `tls`: the server's certificates, the authorities of client certificates, and revocation.

use std::path::PathBuf;

use super::draft::Input;
use super::{KeyPair, Located, readers};
use crate::diagnostic::Code;
use crate::document::{Node, Reader};
use crate::identity::{MissingCrl, TrustDomainPin};

/// The words of `tls.crl_missing`.
pub(super) const MISSING: [(&str, MissingCrl); 2] =
    [("refuse", MissingCrl::Refuse), ("allow", MissingCrl::Allow)];

/// All server certificates: the first, and those of `tls.certificates`.
pub(super) fn certificates(
    certificate: Option<Located<PathBuf>>,
    key: Option<Located<PathBuf>>,
    further: Vec<KeyPair>,
) -> Option<Vec<KeyPair>> {
    let first = KeyPair { certificate: certificate?, key: key? };
    Some(std::iter::once(first).chain(further).collect())
}

/// Reads one entry of `tls.certificates`.
pub(super) fn key_pair(input: &mut Input<'_>, node: &Node<'_>) -> Option<KeyPair> {
    let fields = input.reader.fields(node, "an entry of `certificates`", &["certificate", "key"])?;
    let mut path = |key| {
        let node = fields.required(key, &mut input.reader)?;
        let value = readers::path(input, node)?;
        Some(Located { value, place: input.reader.place(node) })
    };
    let (certificate, key) = (path("certificate"), path("key"));
    Some(KeyPair { certificate: certificate?, key: key? })
}

/// Reads `tls.trust_domains`.
pub(super) fn pins(input: &mut Input<'_>, node: &Node<'_>) -> Option<Vec<TrustDomainPin>> {
    let entries = input.reader.entries(node, "`trust_domains`")?.into_iter();
    Some(entries.filter_map(|(file, _, value)| pin(&mut input.reader, file, value)).collect())
}

fn pin(reader: &mut Reader<'_>, file: &str, value: &Node<'_>) -> Option<TrustDomainPin> {
    let text = reader.text(value)?;
    let Ok(domain) = text.parse() else {
        let help = "write it as in `shop.example`: lower-case letters, digits, `.`, `-` and `_`".to_owned();
        let message = format!("`{text}` is not a SPIFFE trust domain");
        reader.error(Code::BadTrustDomain, value, message, Some(help));
        return None;
    };
    Some(TrustDomainPin { file: file.to_owned(), domain, place: Some(reader.place(value)) })
}
