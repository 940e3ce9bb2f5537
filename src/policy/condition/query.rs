//! Conditions on parameters of the query.

use std::borrow::Cow;

use super::{FieldValue, IfDoubtful};

/// The condition that a parameter of the query is present exactly once, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryCondition {
    pub(crate) name: Box<str>,
    /// `*` for any value.
    pub(crate) values: Box<[Box<str>]>,
}

impl QueryCondition {
    pub(crate) fn holds(&self, query: Option<&str>, if_doubtful: IfDoubtful) -> bool {
        self.read(query.unwrap_or_default()).meets(&self.values, if_doubtful)
    }

    fn read<'q>(&self, query: &'q str) -> FieldValue<'q> {
        // Some backends end a parameter at `;`, so that another parameter may begin there.
        if has_semicolon(query) {
            return FieldValue::Doubtful;
        }
        let mut found = FieldValue::Absent;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decode(name) else { return FieldValue::Doubtful };
            if !is_same_parameter(&name, self.name.as_bytes()) {
                continue;
            }
            let value = decode(value).filter(|value| !value.contains(&b','));
            found = match (found, value) {
                (FieldValue::Absent, Some(value)) if *name == *self.name.as_bytes() => {
                    FieldValue::Single(value)
                }
                _ => return FieldValue::Doubtful,
            };
        }
        found
    }

    /// Describes why the condition is doubtful for this query; `None` if it is not.
    pub(crate) fn doubt_reason(&self, query: &str) -> Option<String> {
        if has_semicolon(query) {
            return Some(format!(
                "the query contains a `;`, which servers read differently; no grant with a condition on `{}` applies",
                self.name
            ));
        }
        let names = query.split('&').filter_map(|pair| decode(pair.split('=').next().unwrap_or_default()));
        let own = self.name.as_bytes();
        let mut others = names.filter(|name| **name != *own && is_same_parameter(name, own));
        if let Some(other) = others.next() {
            let other = String::from_utf8_lossy(&other);
            return Some(format!(
                "the request has the parameter `{other}`, which some servers read as `{name}`; no grant with a condition on `{name}` applies",
                name = self.name
            ));
        }
        self.has_comma(query).then(|| {
            format!(
                "the parameter `{}` contains a comma, which servers read differently; no grant with a condition on it applies",
                self.name
            )
        })
    }

    /// Returns true if the parameter is present once, with a comma in its value.
    fn has_comma(&self, query: &str) -> bool {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut own =
            pairs.filter(|(name, _)| decode(name).is_some_and(|name| *name == *self.name.as_bytes()));
        let (Some((_, value)), None) = (own.next(), own.next()) else { return false };
        decode(value).is_some_and(|value| value.contains(&b','))
    }
}

fn has_semicolon(query: &str) -> bool {
    query.contains(';') || query.as_bytes().windows(3).any(|escape| escape.eq_ignore_ascii_case(b"%3b"))
}

/// Returns true if some backend reads two decoded names as the same parameter. Some backends ignore case. PHP trims a name,
/// and replaces a space, a dot and an unclosed `[` by `_`. PHP, Rack and Express make a list or a map of a name with
/// brackets.
pub(crate) fn is_same_parameter(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let (one, other) = (without_case(without_margin(one)), without_case(without_margin(other)));
    base_name(&one) == base_name(&other) || php_name(&one).eq(php_name(&other))
}

/// Removes the space around a name, and each `?` before it: some backends read a second `?` as the start of the query.
fn without_margin(name: &[u8]) -> &[u8] {
    let start = name.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b'?').count();
    name.get(start..).unwrap_or_default().trim_ascii_end()
}

fn without_case(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.is_ascii() {
        // Both conversions are needed: some letters change only in one of them.
        let text = String::from_utf8_lossy(name).to_uppercase().to_lowercase();
        return Cow::Owned(text.into_bytes());
    }
    match name.iter().any(u8::is_ascii_uppercase) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

fn base_name(name: &[u8]) -> &[u8] {
    let is_bracket = |byte: &u8| matches!(byte, b'[' | b']');
    let start = name.iter().take_while(|byte| is_bracket(byte)).count();
    let name = name.get(start..).unwrap_or_default();
    let end = name.iter().position(is_bracket).unwrap_or(name.len());
    name.get(..end).unwrap_or_default()
}

fn php_name(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(|byte| if matches!(byte, b' ' | b'.' | b'[') { b'_' } else { *byte })
}

/// Decodes a name or value of a query (`application/x-www-form-urlencoded`). Returns `None` for a `%` that starts no escape.
fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_could_be_read_twice_meets_no_grant_and_every_deny() {
        let condition =
            QueryCondition { name: "format".into(), values: Box::new(["csv".into(), "a b".into()]) };
        let holds = |query: &str| {
            let query = Some(query);
            (condition.holds(query, IfDoubtful::Unmet), condition.holds(query, IfDoubtful::Met))
        };
        for query in [
            "format=csv",
            "x=1&format=csv",
            "f%6Frmat=c%73v",
            "format=a+b",
            "format=a%20b",
            "x=%zz&format=csv",
            "x[format]=xml&format=csv",
            "reformat=xml&format=csv",
            "x=format&format=csv",
        ] {
            assert_eq!(holds(query), (true, true), "{query}");
        }
        for query in ["", "format=xml", "format", "for_mat=csv", "x[format]=csv", "format=csv%00"] {
            assert_eq!(holds(query), (false, false), "{query}");
        }
        for query in [
            "format=csv&format=csv",
            "format=csv&f%6Frmat=xml",
            "format=csv,xml",
            "format=%zz",
            "x=1;format=xml&format=csv",
            "%zz=1&format=csv",
            "format=csv&x=1;f%6Frmat=xml",
            "format=csv&x=%3bformat=xml",
            "format=csv&a=%3B",
            "Format=csv",
            "format=csv&FORMAT=xml",
            "format=csv&format%20=xml",
            "format=csv&+format=xml",
            "format=csv&%09format=xml",
            "format=csv&format[]=xml",
            "format=csv&format%5B0%5D=xml",
            "format=csv&[format]=xml",
            "format=csv&]format=xml",
            "format=csv&?format=xml",
            "format[]=csv",
        ] {
            assert_eq!(holds(query), (false, true), "{query}");
        }
        let named = QueryCondition { name: "a_b".into(), values: Box::new(["1".into()]) };
        for other in ["a.b=2", "a+b=2", "a%20b=2", "a[b=2", "A_B=2", "a_b[]=2", " a_b=2"] {
            let query = format!("a_b=1&{other}");
            assert!(!named.holds(Some(&query), IfDoubtful::Unmet), "{query}");
            assert!(named.holds(Some(other), IfDoubtful::Met), "{other}");
        }
        // These names differ only in letters that have the same capital.
        let named = QueryCondition { name: "gr\u{f6}\u{df}e".into(), values: Box::new(["1".into()]) };
        assert!(named.holds(Some("GR%C3%96SSE=2"), IfDoubtful::Met));
    }
}
