//! Certificates: for each attribute, values that meet the tests that must hold and none of those that must not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::condition::Network;
use super::super::matching::{Alternative, Test};
use super::super::pattern::Style;
use super::super::route::Variable;
use super::language::{Alphabet, Language, Machine, TooMuch, shortest};
use super::moment;
use crate::identity::Attribute;

/// What is asked of a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Whom<'m> {
    pub(super) tests: Vec<(&'m Test, bool)>,
}

/// What a certificate is to give to a name of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'g> {
    pub(super) alternatives: &'g [Alternative],
    pub(super) variable: &'g Variable,
    pub(super) text: &'g str,
}

/// What is asked of the values of one attribute.
#[derive(Debug, Default)]
pub(super) struct Asked<'m> {
    pub(super) inside: Vec<Language>,
    pub(super) outside: Vec<Machine>,
    networks: Vec<(&'m [Network], bool)>,
    exactly: Vec<&'m str>,
}

impl<'m> Whom<'m> {
    /// A certificate of which all of it holds.
    pub(super) fn attributes(
        &self,
        given: &[Given<'m>],
    ) -> Result<Option<Vec<(Attribute, String)>>, TooMuch> {
        let mut attributes = Vec::new();
        for (attribute, asked) in self.asked(given) {
            let Some(values) = asked.values(attribute)? else { return Ok(None) };
            attributes.extend(values.into_iter().map(|value| (attribute, value)));
        }
        Ok(Some(attributes))
    }

    pub(super) fn asked(&self, given: &[Given<'m>]) -> BTreeMap<Attribute, Asked<'m>> {
        let mut by_attribute: BTreeMap<Attribute, Asked<'m>> = BTreeMap::new();
        for (test, is) in &self.tests {
            let asked = by_attribute.entry(test.attribute).or_default();
            asked.networks.push((&test.networks, *is));
            match is {
                true => asked.inside.push(test.language(given)),
                false => asked.outside.extend(test.language(&[])),
            }
        }
        for one in given {
            if let Variable::Attribute(attribute) = one.variable {
                let asked = by_attribute.entry(*attribute).or_default();
                asked.inside.push(vec![Machine::of_text(one.text)]);
                asked.exactly.push(one.text);
            }
        }
        by_attribute
    }
}

impl Asked<'_> {
    fn values(&self, attribute: Attribute) -> Result<Option<Vec<String>>, TooMuch> {
        if attribute == Attribute::Ip {
            return Ok(self.addresses());
        }
        if self.inside.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let alphabet = Alphabet::of_values(Style::of(attribute));
        let value = |inside: &[Language]| -> Result<Option<String>, TooMuch> {
            let found = shortest(inside, &self.outside, alphabet, true)?;
            Ok(found.map(|symbols| symbols.into_iter().filter_map(char::from_u32).collect()))
        };
        let filled: Vec<Language> =
            self.inside.iter().map(|language| language.iter().map(Machine::filled).collect()).collect();
        if let Ok(Some(value)) = value(&filled) {
            return Ok(Some(vec![value]));
        }
        if let Some(value) = value(&self.inside)? {
            return Ok(Some(vec![value]));
        }
        if has_one_value(attribute) {
            return Ok(None);
        }
        self.inside.iter().map(|language| value(std::slice::from_ref(language))).collect()
    }

    fn addresses(&self) -> Option<Vec<String>> {
        let wanted: Vec<_> = self.networks.iter().filter(|(_, is)| *is).collect();
        let mut unwanted: Vec<(&[Network], bool)> =
            self.networks.iter().filter(|(_, is)| !is).copied().collect();
        if let Some(text) = self.exactly.first() {
            let address: IpAddr = text.parse().ok()?;
            let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
            let fits = self.networks.iter().all(|(networks, is)| within(networks) == *is);
            return fits.then(|| vec![(*text).to_owned()]);
        }
        let mut addresses = Vec::new();
        for (networks, _) in wanted {
            unwanted.push((networks, true));
            addresses.push(moment::address(&unwanted)?.to_string());
            unwanted.pop();
        }
        Some(addresses)
    }
}

/// Whether no certificate has two of them that count.
pub(super) const fn has_one_value(attribute: Attribute) -> bool {
    use Attribute::{CommonName, Fingerprint, PublicKey, Serial, Subject};
    matches!(attribute, CommonName | Subject | Serial | Fingerprint | PublicKey)
}

impl Test {
    /// The values that fit it, as far as they give to captures what is given.
    fn language(&self, given: &[Given<'_>]) -> Language {
        let exact = self.exact.iter().map(|text| Machine::of_text(text));
        let own: Vec<&Given<'_>> = given.iter().filter(|given| self.is_of(given.alternatives)).collect();
        let patterns = self.patterns.iter().map(|pattern| {
            let mut pattern = pattern.clone();
            for given in &own {
                if let Variable::Capture(name) = given.variable {
                    pattern = pattern.with_capture(name, given.text);
                }
            }
            Machine::of_pattern(&pattern)
        });
        exact.chain(patterns).collect()
    }

    fn is_of(&self, alternatives: &[Alternative]) -> bool {
        alternatives.iter().flat_map(|alternative| &alternative.tests).any(|test| std::ptr::eq(test, self))
    }
}
