//! Secrets: the content of files with a private key or a token, and the search for secrets in other texts. The bytes of a
//! secret become a key or a digest and are never printed.

use std::fmt;

use rustls::pki_types::PrivateKeyDer;

use crate::diagnostic::{Code, Diagnostic, Place, Source, Span};
use crate::pem::{self, PemFlaw};
use crate::redact::{has_private_key, looks_like_key, without_nuls};
use crate::token::Token;

/// The bytes of a secret file.
#[derive(Clone, Hash)]
pub(crate) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Secret {
    /// Returns true if the file is empty.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the private key of a PEM file.
    ///
    /// # Errors
    /// The flaw of the PEM file, and its line.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemFlaw> {
        pem::private_key(&self.0)
    }

    /// Returns the token of a file.
    ///
    /// # Errors
    /// The reason for which the content is not a token.
    pub(crate) fn token(&self) -> Result<Token, &'static str> {
        Token::read(&self.0)
    }
}

/// Minimum length of a token: a shorter word is more likely a typing mistake.
const MIN_TOKEN: usize = 16;
/// Minimum length of a line of base64. Most lines have 64 characters; the last line of a key may be shorter.
const MIN_LINE: usize = 40;
/// Minimum length of a first word of base64. The first word of a YAML document is a key with a colon, which is not base64.
const MIN_WORD: usize = 24;

/// Refuses a key in place of the path of its file: the messages about a file name its path.
///
/// # Errors
/// A diagnostic that quotes nothing.
pub(crate) fn refuse_key_as_path(text: &str, place: Place) -> Result<(), Diagnostic> {
    if !has_private_key(text) && !looks_like_key(text) {
        return Ok(());
    }
    let message = "this looks like a key, and is to be the path of a file; nothing of it is shown";
    Err(Diagnostic::error(Code::Secret, message)
        .at(place)
        .help("write the key to a file, and name that file"))
}

/// Refuses to read a document with a private key in it: the messages about a document quote its lines.
///
/// # Errors
/// A diagnostic that quotes nothing.
pub(crate) fn refuse_private_key(source: &Source) -> Result<(), Diagnostic> {
    if !has_private_key(source.text()) {
        return Ok(());
    }
    Err(refused(
        source.name(),
        "has a private key in it",
        "write keys to files of their own, and name these files",
    ))
}

/// Refuses a file that is to be a policy or a configuration and is a key or a token, whole or damaged.
///
/// # Errors
/// A diagnostic that quotes nothing.
pub(crate) fn refuse_secret_document(source: &Source) -> Result<(), Diagnostic> {
    if lines_of_base64(source.text()) > 1 { Err(no_yaml(source)) } else { refuse_secret_manifest(source) }
}

/// Refuses a key or a token as [`refuse_secret_document`] does, but allows lines of base64: Kubernetes manifests contain
/// Secrets.
///
/// # Errors
/// A diagnostic that quotes nothing.
pub(crate) fn refuse_secret_manifest(source: &Source) -> Result<(), Diagnostic> {
    let cleaned = without_nuls(source.text());
    let text = cleaned.as_deref().unwrap_or(source.text()).trim_start_matches('\u{feff}').trim();
    let is_secret = is_token(text) || starts_with_base64(text) || text.starts_with("-----BEGIN");
    if is_secret { Err(no_yaml(source)) } else { Ok(()) }
}

fn no_yaml(source: &Source) -> Diagnostic {
    refused(source.name(), "looks like a key, a certificate or a token, and no YAML", "check the path")
}

fn refused(name: &str, what: &str, help: &str) -> Diagnostic {
    let message = format!("`{name}` {what}; nothing of it is shown");
    Diagnostic::error(Code::Secret, message)
        .at(Place::new(&Source::new(name, ""), Span::default()))
        .help(help)
}

fn is_token(text: &str) -> bool {
    text.len() >= MIN_TOKEN && !text.starts_with(['{', '[', '#']) && !text.contains(char::is_whitespace)
}

fn starts_with_base64(text: &str) -> bool {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.len() >= MIN_WORD && is_base64(word)
}

fn lines_of_base64(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE && is_base64(line)).take(2).count()
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_documents_and_keys_are_not() {
        for text in [
            "",
            "version: 1\n",
            "{version:1}",
            "[",
            "{listen:127.0.0.1:8443,policies:policies}",
            "# aVeryLongFirstWordOfACommentInAFile\nversion: 1\n",
            "- a\n- list\n",
            "a: >\n  aLongLineOfOneWordOfMoreThanFortyCharactersHere\n",
            "listen: nowhere\n",
        ] {
            assert!(refuse_secret_document(&Source::new("f", text)).is_ok(), "{text}");
        }
        let line = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA";
        for text in [
            format!("-----BEGIN X-----\n{line}\n"),
            format!("{line}\n{line}\n"),
            format!("\n\n{line}"),
            format!("{line}: {line}").replace(": ", " "),
            format!("M*I\n{line}\n{line}\nAAA=\n"),
            format!("{line}\0"),
            "0123456789abcdef\n".to_owned(),
            "top:secret:0123456789\n".to_owned(),
        ] {
            let refused = refuse_secret_document(&Source::new("f", text.as_str())).unwrap_err();
            assert!(!format!("{refused:?}{refused}").contains("MIGH"), "{text}");
        }
    }

    #[test]
    fn a_document_with_a_key_in_it_is_refused_and_not_quoted() {
        let key = "tls:\n  key: |\n    -----BEGIN EC PRIVATE KEY-----\n    MHcCAQEE\n";
        let refused = refuse_private_key(&Source::new("sidegate.yaml", key)).unwrap_err();
        assert!(
            refused.human(crate::diagnostic::Colour::Never).contains("sidegate.yaml")
                && !refused.to_string().contains("MHcC")
        );
        assert!(refuse_private_key(&Source::new("p", "# PRIVATE KEY holders\nversion: 1\n")).is_ok());
        assert_eq!(format!("{:?}", Secret::from(key.as_bytes().to_vec())), "Secret");
    }
}
