//! The keys below `identity_headers`: how the backend is told who the client is.

use std::sync::Arc;

use http::HeaderName;

use super::draft::{Draft, Input};
use super::keys::IdentityHeadersSection;
use crate::client_headers::{self, StripPattern};
use crate::diagnostic::{Code, Diagnostic, Place, did_you_mean};
use crate::document::{Node, Reader};
use crate::forward::headers::IdentitySettings;
use crate::identity::Attribute;

/// One entry of `identity_headers.strip`.
pub(super) struct Stripped {
    name: StripPattern,
    /// The name as its author wrote it.
    text: String,
    place: Place,
}

/// The settings of identity headers.
pub(super) fn settings(section: IdentityHeadersSection, draft: &mut Draft<'_>) -> IdentitySettings {
    let IdentityHeadersSection { client_cert, client_cert_chain, xfcc, custom, strip } = section;
    for stripped in strip.iter().filter(|stripped| stripped.is_one_of(&custom)) {
        draft.diagnostics.push(stripped_already(stripped));
    }
    let own = custom.iter().map(|(name, _)| StripPattern::of(name));
    let stripped = own.chain(strip.into_iter().map(|stripped| stripped.name)).collect();
    IdentitySettings { client_cert, client_cert_chain, xfcc, custom: Arc::from(custom), stripped }
}

impl Stripped {
    /// `true` if the entry is exactly the name of a header of `custom`. A family may have such a header.
    fn is_one_of(&self, custom: &[(HeaderName, Attribute)]) -> bool {
        !self.text.ends_with('*') && custom.iter().any(|(name, _)| self.name.matches(name.as_str()))
    }
}

fn stripped_already(Stripped { text, place, .. }: &Stripped) -> Diagnostic {
    Diagnostic::error(Code::BadHeader, format!("`{text}` is a header of `custom`"))
        .at(place.clone())
        .help("a name of `custom` is stripped already, before it is set; leave it out here")
}

/// Reads `identity_headers.custom`.
pub(super) fn custom(input: &mut Input<'_>, node: &Node<'_>) -> Option<Vec<(HeaderName, Attribute)>> {
    let entries = input.reader.entries(node, "`custom`")?.into_iter();
    Some(
        entries.filter_map(|(name, key, value)| custom_header(&mut input.reader, name, key, value)).collect(),
    )
}

fn custom_header(
    reader: &mut Reader<'_>,
    name: &str,
    key: &Node<'_>,
    value: &Node<'_>,
) -> Option<(HeaderName, Attribute)> {
    let attribute = attribute(reader, value);
    let header = header_name(reader, name, key);
    header.zip(attribute)
}

fn attribute(reader: &mut Reader<'_>, value: &Node<'_>) -> Option<Attribute> {
    let text = reader.text(value)?;
    let attribute = Attribute::from_name(text);
    if attribute.is_none() {
        let help = did_you_mean(text, Attribute::ALL.iter().map(|attribute| attribute.name()));
        let message = format!("`{text}` is not an attribute of certificates");
        reader.error(Code::UnknownAttribute, value, message, help);
    }
    attribute
}

fn header_name(reader: &mut Reader<'_>, name: &str, key: &Node<'_>) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        reader.error(Code::BadHeader, key, format!("`{name}` is not a name of a header"), None);
        return None;
    };
    if client_headers::is_reserved(&header) {
        let help = "choose a name of its own, such as `X-Client-Name`".to_owned();
        let message = format!("`{name}` has a meaning of its own in HTTP");
        reader.error(Code::BadHeader, key, message, Some(help));
        return None;
    }
    Some(header)
}

/// Reads one entry of `identity_headers.strip`.
pub(super) fn stripped(input: &mut Input<'_>, node: &Node<'_>) -> Option<Stripped> {
    let text = input.reader.text(node)?;
    match StripPattern::parse(text) {
        Ok(name) => Some(Stripped { name, text: text.to_owned(), place: input.reader.place(node) }),
        Err((message, help)) => {
            input.reader.error(Code::BadHeader, node, message, Some(help));
            None
        }
    }
}
