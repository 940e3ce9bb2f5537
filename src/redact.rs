//! Removal of secrets from messages and quoted lines.

mod material;

use std::borrow::Cow;

pub(crate) use material::looks_like_key;

/// Returns true if a text contains a private key, in PEM or in base64.
#[must_use]
pub(crate) fn has_private_key(text: &str) -> bool {
    has_label(text)
        || without_nuls(text).is_some_and(|text| text.contains("PRIVATE KEY"))
        || material::has_encoded_key(text)
}

fn has_label(text: &str) -> bool {
    text.contains("PRIVATE KEY") && (text.contains("BEGIN") || text.contains("END"))
}

/// Returns a message without the secret that it quotes.
#[must_use]
pub(crate) fn redact_secrets(text: &str) -> Cow<'_, str> {
    material::redact(text)
}

/// Returns true if a line of a source may contain a part of a secret. `beside` are the lines before and after: the first and
/// the last line of a key may look harmless alone.
#[must_use]
pub(crate) fn is_secret_line(line: &str, beside: [&str; 2]) -> bool {
    let is_part_of_key =
        || material::is_base64_line(line) && beside.into_iter().any(material::is_secret_line);
    material::is_secret_line(line) || is_part_of_key()
}

/// Returns the text without NULs. A file in UTF-16 that is read as UTF-8 has a NUL beside every letter.
pub(crate) fn without_nuls(text: &str) -> Option<String> {
    text.contains('\0').then(|| text.replace('\0', ""))
}
