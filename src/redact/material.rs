//! Detection of key material in a text: long runs of base64 that are unlike words and paths, their decoded content, and the
//! private members of a JWK.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Minimum length of a run of base64; a shorter run may be a word. Lines of base64 are usually 64 characters long.
const MIN_RUN: usize = 40;
/// Minimum length of a private key; a name may have more than [`MIN_RUN`].
const MIN_KEY: usize = 64;
/// Number of characters that are decoded to recognize the start of a private key.
const START_LENGTH: usize = 48;
/// Number of characters that are decoded if the run is shorter, as for keys of small curves.
const MIN_START: usize = 32;
/// Labels in the first lines of PEM files of keys.
const LABELS: [&str; 2] = ["PRIVATE", "EC PARAMETERS"];
/// Members of a JWK that are secret (RFC 7518 §6).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "k", "p", "q", "dp", "dq", "qi"];
/// Minimum length of the value of a private member.
const MIN_MEMBER: usize = 16;
/// Replacement for a text that may be a secret.
const HIDDEN: &str = "(not shown: it may be a secret)";

/// Returns the runs of characters of the two base64 alphabets.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character| !is_base64(character))
}

const fn is_base64(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '-' | '_')
}

/// Returns true if a run looks like encoded bytes and not like words: it mixes both cases and digits. A run of hexadecimal
/// digits does not count, because digests of images and fingerprints are public.
fn looks_like_base64(run: &str) -> bool {
    let has = |class: fn(&u8) -> bool| run.bytes().any(|byte| class(&byte));
    run.len() >= MIN_RUN
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_digit)
        && has(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit())
        && count_class_changes(run) * 4 >= run.len()
}

/// Returns the number of changes between small letters, capitals and digits. Random base64 changes at about half of its
/// positions, words at few.
fn count_class_changes(run: &str) -> usize {
    let class = |byte: u8| match byte {
        b'a'..=b'z' => Some(0),
        b'A'..=b'Z' => Some(1),
        b'0'..=b'9' => Some(2),
        _ => None,
    };
    let following = run.bytes().skip(1);
    let pairs = run.bytes().zip(following).filter_map(|(one, next)| class(one).zip(class(next)));
    pairs.filter(|(one, next)| one != next).count()
}

/// Returns true if a text contains a private key in base64, of PEM or of DER.
pub(super) fn has_encoded_key(text: &str) -> bool {
    runs(text).filter(|run| run.len() >= MIN_START).any(|run| {
        let decoded = decode_start(run);
        let text = String::from_utf8_lossy(&decoded);
        is_private_der(&decoded) || LABELS.iter().any(|label| text.contains(label))
    })
}

/// Decodes the first characters of a run.
fn decode_start(run: &str) -> Vec<u8> {
    let start = run.get(..START_LENGTH).or_else(|| run.get(..MIN_START)).unwrap_or_default();
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if start.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config).decode(start).unwrap_or_default()
}

/// Returns true for the start of a private key in DER. PKCS#1, SEC 1, PKCS#8 and PKCS#12 begin with a sequence and a small
/// version, and an encrypted PKCS#8 key begins with an identifier of PKCS#5 or PKCS#12.
fn is_private_der(bytes: &[u8]) -> bool {
    let content = |bytes: &[u8]| -> Option<Vec<u8>> {
        let (&[0x30, length], rest) = bytes.split_first_chunk()? else { return None };
        let more = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
        rest.get(more..).filter(|_| more <= 4).map(<[u8]>::to_vec)
    };
    let Some(inner) = content(bytes) else { return false };
    let is_encrypted = content(&inner)
        .is_some_and(|inner| inner.get(2..9) == Some(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01]));
    matches!(inner.as_slice(), [0x02, 0x01, 0..=3, ..]) || is_encrypted
}

/// Returns true if a text in place of a path is more likely a key.
pub(crate) fn looks_like_key(text: &str) -> bool {
    const LONGEST_NAME: usize = 255;
    let is_long = |run: &&str| run.len() >= MIN_KEY;
    text.split('/').any(|name| name.len() > LONGEST_NAME) || runs(text).filter(is_long).any(looks_like_base64)
}

/// Returns true if a line may contain a part of a secret.
pub(super) fn is_secret_line(line: &str) -> bool {
    super::has_label(line) || runs(line).any(looks_like_base64) || has_private_member(line)
}

/// Returns true if a line is one word of base64, as the last line of a key.
pub(super) fn is_base64_line(line: &str) -> bool {
    let word = line.trim().trim_end_matches('=');
    !word.is_empty() && word.chars().all(is_base64)
}

fn has_private_member(line: &str) -> bool {
    let line = line.replace('\\', "");
    let parts: Vec<&str> = line.split('"').collect();
    parts.windows(3).any(|parts| match parts {
        [name, colon, value] => {
            PRIVATE_MEMBERS.contains(name)
                && colon.trim() == ":"
                && value.len() >= MIN_MEMBER
                && is_base64_line(value)
        }
        _ => false,
    })
}

/// Replaces a secret in a message, from its start to the end of the quotation.
pub(super) fn redact(text: &str) -> Cow<'_, str> {
    let mut start = 0;
    for piece in text.split_inclusive(|character| !is_base64(character)) {
        if looks_like_base64(piece.trim_end_matches(|character| !is_base64(character))) {
            let (before, rest) = text.split_at_checked(start).unwrap_or((text, ""));
            let after = rest.rfind('`').and_then(|end| rest.get(end..)).unwrap_or_default();
            return Cow::Owned(format!("{before}{HIDDEN}{after}"));
        }
        start += piece.len();
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    fn key() -> Vec<u8> {
        rcgen::KeyPair::generate().unwrap().serialize_der()
    }

    /// Digests, fingerprints, names and paths, which must stay readable.
    const PUBLIC: [&str; 9] = [
        "image: registry.example/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "fingerprint: 9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
        "fingerprint: 9F86D081884C7D659A2FEAA0C55AD015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "- GET /api/v1/CustomerOrders2024Archive/ItemsOfTheYear2023/details/of/one",
        "name: Everything2024underneathandbeyondthewholeofit",
        "subject: CN=Shop,O=Example 2024 Limited Company of Somewhere",
        "/home/Alice/Projects2024/sidegate/deploy/policies/of/Shop/First",
        "value: {\"d\": \"short\"}",
        "# -----BEGIN CERTIFICATE-----",
    ];

    #[test]
    fn public_texts_are_not_taken_for_secrets() {
        for text in PUBLIC {
            assert!(!is_secret_line(text) && !looks_like_key(text) && !has_encoded_key(text), "{text}");
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn keys_are_detected_in_every_encoding() {
        for _ in 0..200 {
            let der = key();
            let pem = crate::demo::pki::pem("PRIVATE KEY", &der);
            let mut forms = vec![STANDARD.encode(&der), STANDARD.encode(&pem), URL_SAFE_NO_PAD.encode(&der)];
            forms.push(pem.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n"));
            for form in forms {
                assert!(has_encoded_key(&form) && is_secret_line(&form) && looks_like_key(&form), "{form}");
                let told = redact(&format!("cannot read `/dir/{form}`: no such file")).into_owned();
                assert!(told.ends_with("`: no such file") && !told.contains(&form[..20]), "{told}");
            }
        }
    }

    #[test]
    fn a_private_member_of_a_jwk_is_detected() {
        for line in
            [r#"value: {"kty":"EC","d":"aaaaaaaaaaaaaaaaaaaa"}"#, r#""{\"d\" : \"aaaaaaaaaaaaaaaaaaaa\"}""#]
        {
            assert!(is_secret_line(line), "{line}");
        }
    }
}
