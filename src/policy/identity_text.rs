//! Identities as text for the tools, `common_name=order-producer,organization=Shop`, which no certificate proves; and
//! example attributes that a client entry matches.

use super::check::Client;
use super::diff::certificate_for;
use super::matching::canonical_value;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::identity::{Attribute, Identity};

/// Reads an identity from `key=value,key=value`. `\,` stands for a comma inside a value.
///
/// # Errors
/// A diagnostic for a part that is no pair, or whose key is no attribute.
pub(crate) fn parse_identity(text: &str) -> Result<Identity, Diagnostic> {
    let mut attributes = Vec::new();
    for pair in split(text) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Diagnostic::error(Code::BadClient, format!("`{pair}` is not `key=value`")).help(
                "write what a certificate says, as in `common_name=order-producer,organization=Shop`",
            ));
        };
        let name = name.trim();
        let Some(attribute) = Attribute::from_name(name) else {
            let help = did_you_mean(name, Attribute::ALL.map(Attribute::name)).unwrap_or_else(|| {
                format!("the keys are {}", Attribute::ALL.map(Attribute::name).join(", "))
            });
            return Err(Diagnostic::error(Code::BadClient, format!("unknown key `{name}`")).help(help));
        };
        attributes.push((attribute, canonical_value(attribute, value)));
    }
    Ok(Identity::from_attributes(attributes))
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, parts.last_mut()) {
            ('\\', Some(part)) if characters.peek() == Some(&',') => part.extend(characters.next()),
            (',', _) => parts.push(String::new()),
            (character, Some(part)) => part.push(character),
            _ => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Returns attributes that the client entry matches, from its first alternative for which an example can be built.
pub(crate) fn example_attributes(client: &Client) -> Option<Vec<(Attribute, String)>> {
    client.entry.alternatives.iter().find_map(certificate_for)
}

/// Writes attributes in the form that [`parse_identity`] reads.
pub(crate) fn format_attributes(attributes: &[(Attribute, String)]) -> String {
    let pairs = attributes.iter().map(|(key, value)| format!("{key}={}", value.replace(',', "\\,")));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    #[test]
    fn the_example_of_an_entry_matches_the_entry_and_survives_writing_and_reading() {
        let policy = r#"version: 1
permissions: { p: [GET /] }
clients:
  - { name: a, match: { uri: "spiffe://shop.example/ns/orders/sa/*", organization: "Shop, Ltd" }, permissions: [p] }
  - { name: b, match: [{ common_name: "{tenant}-reader" }, { dns: b.example }], permissions: [p] }
  - { name: c, match: { ip: 10.0.0.0/8 }, permissions: [p] }
  - { name: d, match: { any: true }, permissions: [p] }
"#;
        let (model, _) = super::super::model(&[Source::new("p.yaml", policy)]).unwrap();
        for client in &model.clients {
            let example = example_attributes(client).unwrap();
            let identity = parse_identity(&format_attributes(&example)).unwrap();
            let matches = client.entry.alternatives.iter().any(|alternative| alternative.holds(&identity));
            assert!(matches, "{}: {example:?}", client.entry.name.text);
        }
    }
}
