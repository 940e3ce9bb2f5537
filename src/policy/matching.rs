//! The `match` of a client entry: alternatives, each with tests on the attributes of the certificate.

use std::collections::HashSet;
use std::net::IpAddr;

use super::condition::Network;
use super::pattern::Pattern;
use super::route::Variable;
use crate::diagnostic::Place;
use crate::identity::{Attribute, Identity};

/// One mapping of a `match`. All tests must hold; `any: true` is an alternative without tests.
#[derive(Clone, Debug)]
pub(crate) struct Alternative {
    pub(crate) tests: Box<[AttributeTest]>,
    pub(crate) place: Place,
}

/// The test of one key of a mapping: one value of the attribute must match one of the values of the key.
#[derive(Clone, Debug)]
pub(crate) struct AttributeTest {
    pub(crate) attribute: Attribute,
    /// Values without wildcards, sorted: a list of a thousand names costs about ten comparisons.
    pub(crate) exact: Box<[Box<str>]>,
    pub(crate) patterns: Box<[Pattern]>,
    pub(crate) networks: Box<[Network]>,
}

/// One value of a key, parsed.
#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Exact(Box<str>),
    Pattern(Pattern),
    Network(Network),
}

impl AttributeTest {
    pub(crate) fn new(attribute: Attribute, matchers: Vec<Matcher>) -> Self {
        let (mut exact, mut patterns, mut networks) = (Vec::new(), Vec::new(), Vec::new());
        for matcher in matchers {
            match matcher {
                Matcher::Exact(text) => exact.push(text),
                Matcher::Pattern(pattern) => patterns.push(pattern),
                Matcher::Network(network) => networks.push(network),
            }
        }
        exact.sort();
        exact.dedup();
        Self { attribute, exact: exact.into(), patterns: patterns.into(), networks: networks.into() }
    }

    pub(crate) fn holds(&self, identity: &Identity) -> bool {
        values(identity, self.attribute).any(|value| self.fits(value))
    }

    pub(crate) fn fits(&self, value: &str) -> bool {
        self.exact.binary_search_by(|exact| (**exact).cmp(value)).is_ok()
            || self.patterns.iter().any(|pattern| pattern.matches(value))
            || (!self.networks.is_empty() && self.in_network(value))
    }

    fn in_network(&self, value: &str) -> bool {
        value
            .parse::<IpAddr>()
            .is_ok_and(|address| self.networks.iter().any(|network| network.contains(address)))
    }

    /// Returns the captures that are bound no matter which of the values matches.
    pub(crate) fn captures(&self) -> HashSet<&str> {
        if !self.exact.is_empty() || !self.networks.is_empty() {
            return HashSet::new();
        }
        let mut patterns = self.patterns.iter().map(|pattern| pattern.captures().collect::<HashSet<_>>());
        let first = patterns.next().unwrap_or_default();
        patterns.fold(first, |common, pattern| common.intersection(&pattern).copied().collect())
    }
}

impl Alternative {
    pub(crate) fn holds(&self, identity: &Identity) -> bool {
        self.tests.iter().all(|test| test.holds(identity))
    }

    /// Returns the captures that are bound whenever the alternative holds.
    pub(crate) fn captures(&self) -> HashSet<&str> {
        self.tests.iter().flat_map(AttributeTest::captures).collect()
    }
}

/// Returns the values of an attribute that rules may use. A certificate with several common names has no usable common
/// name, because it is not known which of these the certificate authority checked.
pub(crate) fn values(identity: &Identity, attribute: Attribute) -> impl Iterator<Item = &str> {
    let single = (attribute == Attribute::CommonName).then(|| identity.single(attribute));
    let several = single.is_none().then(|| identity.values(attribute));
    single.flatten().into_iter().chain(several.into_iter().flatten())
}

/// Returns a value in the spelling that identities use, for values that a person wrote instead of a certificate.
pub(crate) fn canonical_value(attribute: Attribute, value: &str) -> String {
    match attribute {
        Attribute::Dns => value.strip_suffix('.').unwrap_or(value).to_ascii_lowercase(),
        Attribute::Ip => value
            .parse::<IpAddr>()
            .map_or_else(|_| value.to_owned(), |address| address.to_canonical().to_string()),
        Attribute::Serial => {
            let digits = value.replace([':', ' '], "").to_ascii_lowercase();
            let trimmed = digits.trim_start_matches('0');
            if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
        }
        Attribute::Fingerprint | Attribute::PublicKey => value.replace([':', ' '], "").to_ascii_lowercase(),
        _ => value.to_owned(),
    }
}

/// Returns the text that `{client.NAME}` stands for. `None` if two matching patterns capture different texts, if a capture is
/// ambiguous, or if the text cannot stand as a segment of a path.
pub(crate) fn bind(
    alternatives: &[Alternative],
    identity: &Identity,
    variable: &Variable,
) -> Option<Box<str>> {
    let value = match variable {
        Variable::Attribute(attribute) => identity.single(*attribute)?.into(),
        Variable::Capture(name) => bind_capture(alternatives, identity, name)?,
    };
    is_segment(&value).then_some(value)
}

fn bind_capture(alternatives: &[Alternative], identity: &Identity, name: &str) -> Option<Box<str>> {
    let mut bound: Option<&str> = None;
    let holding = alternatives.iter().filter(|alternative| alternative.holds(identity));
    for test in holding.flat_map(|alternative| &alternative.tests) {
        for value in values(identity, test.attribute) {
            for pattern in test.patterns.iter().filter(|pattern| pattern.matches(value)) {
                for (_, text) in pattern.bind(value).into_iter().filter(|(capture, _)| *capture == name) {
                    let text = text?;
                    if bound.is_some_and(|bound| bound != text) {
                        return None;
                    }
                    bound = Some(text);
                }
            }
        }
    }
    bound.map(Box::from)
}

/// Returns true if a text can stand as one segment of a path without changing the structure of the path (path traversal).
pub(super) fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && !text.contains("..")
        && !text.contains(['/', '\\', '%', ';', '?', '#'])
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Source, Span};

    fn alternative(tests: &[(Attribute, &[&str])]) -> Alternative {
        let test = |(attribute, patterns): &(Attribute, &[&str])| {
            let matchers = patterns.iter().map(|text| {
                let pattern = Pattern::parse(*attribute, text).unwrap();
                match pattern.exact() {
                    Some(exact) => Matcher::Exact(exact.into()),
                    None => Matcher::Pattern(pattern),
                }
            });
            AttributeTest::new(*attribute, matchers.collect())
        };
        let place = Place::new(&Source::new("", ""), Span::default());
        Alternative { tests: tests.iter().map(test).collect(), place }
    }

    fn identity(values: &[(Attribute, &str)]) -> Identity {
        Identity::from_attributes(values.iter().map(|(attribute, value)| (*attribute, (*value).to_owned())))
    }

    #[test]
    fn several_common_names_satisfy_no_rule() {
        use Attribute::CommonName;
        let rule = alternative(&[(CommonName, &["a"])]);
        assert!(rule.holds(&identity(&[(CommonName, "a")])));
        assert!(!rule.holds(&identity(&[(CommonName, "a"), (CommonName, "b")])));
    }

    #[test]
    fn one_kind_of_name_never_stands_for_another() {
        let rule = alternative(&[(Attribute::Dns, &["a.example"])]);
        for other in [Attribute::CommonName, Attribute::Uri, Attribute::Email] {
            assert!(!rule.holds(&identity(&[(other, "a.example")])));
        }
    }

    #[test]
    fn a_capture_is_bound_to_one_segment_or_not_at_all() {
        use Attribute::{CommonName, Dns};
        let bound = |alternatives: &[Alternative], values: &[(Attribute, &str)]| {
            let variable = Variable::Capture("t".into());
            bind(alternatives, &identity(values), &variable).map(String::from)
        };
        let reader = [alternative(&[(CommonName, &["{t}-reader"])])];
        assert_eq!(bound(&reader, &[(CommonName, "acme-reader")]).as_deref(), Some("acme"));
        for bad in ["-reader", "a/b-reader", "..-reader", "a..b-reader", ".-reader", "%2e-reader", "other"] {
            assert_eq!(bound(&reader, &[(CommonName, bad)]), None, "{bad}");
        }
        let dns = [alternative(&[(Dns, &["{t}.tenants.example"])])];
        assert_eq!(bound(&dns, &[(Dns, "a.tenants.example")]).as_deref(), Some("a"));
        assert_eq!(
            bound(&dns, &[(Dns, "a.tenants.example"), (Dns, "b.tenants.example")]),
            None,
            "two readings"
        );
        let two = [alternative(&[(CommonName, &["{t}-reader"])]), alternative(&[(Dns, &["{t}.example"])])];
        assert_eq!(bound(&two, &[(CommonName, "a-reader"), (Dns, "a.example")]).as_deref(), Some("a"));
        assert_eq!(
            bound(&two, &[(CommonName, "a-reader"), (Dns, "b.example")]),
            None,
            "alternatives disagree"
        );
        let direct = Variable::Attribute(CommonName);
        assert_eq!(bind(&[], &identity(&[(CommonName, "x")]), &direct).as_deref(), Some("x"));
        assert_eq!(bind(&[], &identity(&[(CommonName, "x"), (CommonName, "y")]), &direct), None);
    }
}
