//! The `match` of a client entry: what a certificate must say, key by key.

use super::super::condition::Network;
use super::super::matching::{Alternative, AttributeTest, Matcher};
use super::super::pattern::{Pattern, SyntaxError};
use super::{reject_empty, report};
use crate::diagnostic::Code;
use crate::document::{Kind, Node, Reader};
use crate::identity::Attribute;

/// Reads one mapping, or a list of mappings.
pub(super) fn alternatives(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<Alternative> {
    reject_empty(node, reader, "write what a certificate must contain, or `any: true` for every client");
    if matches!(node.kind(), Kind::Null) {
        let help = "write what a certificate must contain, or `any: true` for every client".to_owned();
        reader.wrong_type(node, "`match` is a mapping or a list of them", Some(help));
        return Vec::new();
    }
    let items = reader.one_or_more(node);
    let mut alternatives = Vec::with_capacity(items.len());
    for item in items {
        alternatives.extend(alternative(item, reader));
    }
    alternatives
}

fn alternative(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Alternative> {
    let mut keys = vec!["any"];
    keys.extend(Attribute::ALL.map(Attribute::name));
    let entries = reader.entries(node, "`match`")?;
    let place = reader.place(node);
    let mut tests = Vec::new();
    let mut any = None;
    for (name, key, value) in &entries {
        match (*name, Attribute::from_name(name)) {
            ("any", _) => any = Some((*key, *value)),
            (_, Some(attribute)) => tests.push(test(attribute, value, reader)),
            (_, None) => unknown_attribute(name, key, "`match`", &keys, reader),
        }
    }
    match any {
        Some((_, value)) if reader.boolean(value) == Some(false) => {
            reader.error(
                Code::BadMatch,
                value,
                "`any: false` matches no client",
                Some("remove the entry, or write `any: true`".into()),
            );
        }
        Some((key, _)) if entries.len() > 1 => {
            let help = "remove `any`, or the other keys".to_owned();
            reader.error(Code::BadMatch, key, "`any: true` cannot be combined with other keys", Some(help));
        }
        None if entries.is_empty() => {
            let help = "write `any: true` to match every client".to_owned();
            reader.error(Code::EmptyList, node, "an empty `match` matches no client", Some(help));
        }
        _ => {}
    }
    Some(Alternative { tests: tests.into(), place })
}

/// Reports a key that is not an attribute. The help knows the abbreviations of certificate tools, such as `CN`.
pub(super) fn unknown_attribute(
    name: &str,
    key: &Node<'_>,
    what: &str,
    keys: &[&str],
    reader: &mut Reader<'_>,
) {
    let usual = match name.to_ascii_lowercase().as_str() {
        "cn" => Some("common_name"),
        "o" | "org" => Some("organization"),
        "ou" => Some("organizational_unit"),
        "c" => Some("country"),
        "l" => Some("locality"),
        "st" => Some("state"),
        "san" | "spiffe" | "spiffe_id" => Some("uri"),
        _ => None,
    };
    let help = match usual {
        Some(usual) => Some(format!("did you mean `{usual}`?")),
        None => reader.did_you_mean(name, keys.iter().copied()),
    };
    let help = help.unwrap_or_else(|| format!("the keys here are {}", keys.join(", ")));
    reader.error(Code::UnknownKey, key, format!("unknown key `{name}` in {what}"), Some(help));
}

fn test(attribute: Attribute, node: &Node<'_>, reader: &mut Reader<'_>) -> AttributeTest {
    reject_empty(node, reader, "write at least one value, or leave the key out");
    let mut matchers = Vec::new();
    for item in reader.one_or_more(node) {
        let Some(text) = reader.name(item) else { continue };
        match matcher(attribute, text) {
            Ok(matcher) => matchers.push(matcher),
            Err(error) => report(error, Code::BadPattern, item, reader),
        }
    }
    AttributeTest::new(attribute, matchers)
}

fn matcher(attribute: Attribute, text: &str) -> Result<Matcher, SyntaxError> {
    match attribute {
        Attribute::Ip => match Network::parse(text) {
            Ok(network) => Ok(Matcher::Network(network)),
            Err((message, help)) => Err(SyntaxError { start: 0, end: text.len(), message, help }),
        },
        Attribute::Serial | Attribute::Fingerprint | Attribute::PublicKey => {
            hexadecimal(attribute, text).map(Matcher::Exact)
        }
        Attribute::Dns => pattern(attribute, text.strip_suffix('.').unwrap_or(text)),
        Attribute::Uri => {
            spiffe(text)?;
            pattern(attribute, text)
        }
        _ => pattern(attribute, text),
    }
}

fn pattern(attribute: Attribute, text: &str) -> Result<Matcher, SyntaxError> {
    let pattern = Pattern::parse(attribute, text)?;
    Ok(match pattern.exact() {
        Some(exact) => Matcher::Exact(exact.into()),
        None => Matcher::Pattern(pattern),
    })
}

/// Reads a hexadecimal number in the spelling of identities: lower case, no colons, no leading zeros in a serial number.
fn hexadecimal(attribute: Attribute, text: &str) -> Result<Box<str>, SyntaxError> {
    let digits: String =
        text.chars().filter(|c| !matches!(c, ':' | ' ')).collect::<String>().to_ascii_lowercase();
    let wrong = |message: String| SyntaxError::new(0, text.len(), message);
    let help = format!("write the whole value, without wildcards; {}", how_to_print(attribute));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(format!("`{attribute}` is a number in hexadecimal, not `{text}`")).help(help));
    }
    if attribute == Attribute::Serial {
        let trimmed = digits.trim_start_matches('0');
        return Ok(if trimmed.is_empty() { "0" } else { trimmed }.into());
    }
    if digits.len() != 64 {
        return Err(
            wrong(format!("a SHA-256 has 64 hexadecimal digits, this has {}", digits.len())).help(help)
        );
    }
    Ok(digits.into())
}

/// Returns the command that prints the value of such an attribute.
fn how_to_print(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Serial => "`openssl x509 -in FILE -noout -serial` prints it",
        Attribute::Fingerprint => "`openssl x509 -in FILE -noout -fingerprint -sha256` prints it",
        _ => "`sidegate cert FILE --ca CA` prints it",
    }
}

/// Reports a pattern that no SPIFFE id can match (SPIFFE-ID §2).
fn spiffe(text: &str) -> Result<(), SyntaxError> {
    let Some(id) = text.strip_prefix("spiffe://") else { return Ok(()) };
    let domain = id.split('/').next().unwrap_or_default();
    let wrong = |message: &str, help: &str| Err(SyntaxError::new(0, text.len(), message).help(help));
    if domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong(
            "no certificate can match this: the trust domain of a SPIFFE id has no capital letters",
            "write the part between `spiffe://` and the next `/` in small letters",
        );
    }
    if id.contains(['?', '#', '%', ' ']) {
        return wrong(
            "no certificate can match this: a SPIFFE id has no `?`, `#`, `%` or space",
            "remove these characters and what follows them",
        );
    }
    if id.ends_with('/') || id.contains("//") {
        return wrong(
            "no certificate can match this: a SPIFFE id has no `/` at its end, and no `//` after the first",
            "remove the `/`; to match everything below, write `/**`",
        );
    }
    if id.split('/').skip(1).any(|segment| matches!(segment, "." | "..")) {
        return wrong(
            "no certificate can match this: a SPIFFE id has no `.` or `..` segment",
            "remove this segment, or write `*` for any segment",
        );
    }
    Ok(())
}
