//! Checks of conditions on headers and parameters: a condition that no request can meet is a mistake of the author.

use super::super::condition::is_same_parameter;
use crate::client_headers::folds_to;
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Kind, Node, Reader};

/// The name, key node and value node of an entry of a mapping.
type Entry<'n, 's> = (&'n str, &'n Node<'s>, &'n Node<'s>);

/// A message and its help.
type Flaw = (String, String);

/// Reports values that no header can have.
pub(super) fn check_header(name: &str, value: &Node<'_>, reader: &mut Reader<'_>) {
    report_values(value, Code::BadHeader, reader, |text| flaw_in_header(name, text));
}

/// Reports names and values that no parameter of a query can have.
pub(super) fn check_parameter((name, key, value): Entry<'_, '_>, reader: &mut Reader<'_>) {
    if let Some((message, help)) = flaw_in_name(name) {
        reader.error(Code::BadParameter, key, message, Some(help));
    } else if name.contains(['=', '&']) {
        let message =
            format!("`{name}` contains `=` or `&`; a client can send this name only percent-encoded");
        let help = "write the name alone, and its values after the colon, as in `query: { format: [csv] }`";
        let warning = Diagnostic::warning(Code::OddParameter, message).at(reader.place(key)).help(help);
        reader.report(warning);
    }
    report_values(value, Code::BadParameter, reader, |text| flaw_in_parameter(name, text));
}

/// Reports headers that some backends read as the same header.
pub(super) fn report_twin_headers(entries: &[Entry<'_, '_>], reader: &mut Reader<'_>) {
    report_twins(entries, (Code::BadHeader, "header"), reader, folds_to);
}

/// Reports parameters that some backends read as the same parameter.
pub(super) fn report_twin_parameters(entries: &[Entry<'_, '_>], reader: &mut Reader<'_>) {
    let is_same = |one: &str, other: &str| is_same_parameter(one.as_bytes(), other.as_bytes());
    report_twins(entries, (Code::BadParameter, "parameter"), reader, is_same);
}

/// Returns the help for a header and its value in one text: YAML reads `X-Mode:batch`, without a space, as one text.
pub(super) fn header_help(text: &str) -> Option<String> {
    let (name, value) = text.split_once(':')?;
    let (name, value) = (name.trim_end(), value.trim_start());
    http::HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some(match value {
        "" => format!("write the name without a colon, and its value after it: `{name}: batch`"),
        value if text.ends_with(&format!(":{value}")) => {
            format!("put a space after the colon: `{name}: {value}`")
        }
        value => format!("write `headers: {{ {name}: {value} }}`"),
    })
}

/// Returns the help for a query that is written as one text.
pub(super) fn query_help(text: &str) -> Option<String> {
    let pairs = text.trim_start_matches('?').split('&').map(|pair| {
        let (name, value) = pair.split_once('=').or_else(|| pair.split_once(':'))?;
        (!name.is_empty()).then(|| format!("{}: [{}]", name.trim(), value.trim()))
    });
    let pairs: Option<Vec<String>> = pairs.collect();
    Some(format!("write `query: {{ {} }}`", pairs?.join(", ")))
}

/// The most names that are compared with each other, because the time grows with the square of their number.
const MAX_COMPARED: usize = 100;

fn report_twins(
    entries: &[Entry<'_, '_>],
    (code, what): (Code, &str),
    reader: &mut Reader<'_>,
    is_same: impl Fn(&str, &str) -> bool,
) {
    let compared = entries.iter().take(MAX_COMPARED);
    for (number, (name, key, _)) in compared.enumerate() {
        let mut before = entries.iter().take(number);
        let Some((other, first, _)) = before.find(|(other, ..)| is_same(name, other)) else { continue };
        let message = format!(
            "some servers treat `{name}` and `{other}` as the same {what}; a request cannot satisfy both conditions"
        );
        let diagnostic = Diagnostic::error(code, message)
            .at(reader.place(key))
            .related(reader.place(first), "first written here")
            .help("keep one of them, with the values of both");
        reader.report(diagnostic);
    }
}

fn report_values(value: &Node<'_>, code: Code, reader: &mut Reader<'_>, flaw: impl Fn(&str) -> Option<Flaw>) {
    let items = match value.kind() {
        Kind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    for item in items {
        if let Some((message, help)) = item.text().and_then(&flaw) {
            reader.error(code, item, message, Some(help));
        }
    }
}

fn flaw_in_header(name: &str, text: &str) -> Option<Flaw> {
    if text.contains(',') {
        return Some(comma(text, &format!("the header `{name}`")));
    }
    if text.chars().any(|character| character.is_ascii_control() && character != '\t') {
        let message = format!("header values never contain a control character: `{}`", text.escape_debug());
        return Some((message, "write a value of one line, without control characters".to_owned()));
    }
    let trimmed = text.trim_ascii();
    (trimmed != text).then(|| {
        let message = format!("header values never begin or end with a space: `{text}`");
        (message, format!("write `{name}: \"{trimmed}\"`"))
    })
}

fn flaw_in_name(name: &str) -> Option<Flaw> {
    if name.is_empty() {
        let help = "write the name before the colon, as in `query: { format: [csv] }`".to_owned();
        return Some(("this condition has no parameter name".to_owned(), help));
    }
    name.contains(';').then(|| semicolon(name, "name"))
}

fn flaw_in_parameter(name: &str, text: &str) -> Option<Flaw> {
    if text.contains(',') {
        return Some(comma(text, &format!("the parameter `{name}`")));
    }
    text.contains(';').then(|| semicolon(text, "value"))
}

fn comma(text: &str, what: &str) -> Flaw {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let message = format!(
        "`{text}` contains a comma, and servers disagree about where such a value ends: no grant ever applies to a request \
         with a comma in {what}, and a deny rule always does"
    );
    let help = match parts.is_empty() {
        true => "write a value without a comma".to_owned(),
        false => format!("list the values that it may have, each without a comma: `[{}]`", parts.join(", ")),
    };
    (message, help)
}

fn semicolon(text: &str, what: &str) -> Flaw {
    let message = format!(
        "the {what} `{text}` contains a `;`, and servers disagree about whether a parameter ends there: no grant ever applies \
         to a request with a `;` in its query, and a deny rule always does"
    );
    (message, format!("write a {what} without `;`, and each parameter as an entry of its own"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::super::super::condition::{HeaderCondition, IfDoubtful, QueryCondition};
    use super::*;

    fn header_is_met(value: &str) -> bool {
        let name = HeaderName::from_static("x-mode");
        let condition = HeaderCondition { name: name.clone(), values: [value.into()].into() };
        let Ok(sent) = HeaderValue::from_bytes(value.as_bytes()) else { return false };
        condition.holds(Some(&HeaderMap::from_iter([(name, sent)])), IfDoubtful::Unmet)
    }

    fn parameter_is_met(name: &str, value: &str) -> bool {
        let condition = QueryCondition { name: name.into(), values: [value.into()].into() };
        let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        condition.holds(Some(&format!("{}={}", escaped(name), escaped(value))), IfDoubtful::Unmet)
    }

    /// For every text of one or two characters: a refused text is never met, and an accepted text can be met.
    #[test]
    fn just_the_values_that_are_never_met_are_refused() {
        let characters: Vec<String> =
            (0..=127u8).map(|byte| char::from(byte).to_string()).chain(["\u{e9}".to_owned()]).collect();
        let pairs = characters.iter().flat_map(|one| characters.iter().map(move |two| format!("{one}{two}")));
        for text in pairs.chain(characters.iter().cloned()).chain([String::new()]) {
            assert_eq!(flaw_in_header("X-Mode", &text).is_none(), header_is_met(&text), "{text:?}");
            assert_eq!(flaw_in_parameter("a", &text).is_none(), parameter_is_met("a", &text), "{text:?}");
            let is_named = !text.is_empty();
            assert_eq!(flaw_in_name(&text).is_none(), is_named && parameter_is_met(&text, "a"), "{text:?}");
        }
    }
}
