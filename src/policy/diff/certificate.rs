//! The certificate of an example request: for each attribute, values that meet the wanted tests and none of the
//! excluded ones.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::condition::Network;
use super::super::matching::{Alternative, AttributeTest};
use super::super::pattern::ValueSyntax;
use super::super::route::Variable;
use super::language::{Alphabet, Automaton, BudgetExceeded, Language, shortest_text};
use super::source;
use crate::identity::Attribute;

/// The tests on a certificate, each with the outcome that is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateConstraints<'m> {
    pub(super) tests: Vec<(&'m AttributeTest, bool)>,
}

/// A text that the certificate must give to a variable of a client entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequiredBinding<'g> {
    pub(super) alternatives: &'g [Alternative],
    pub(super) variable: &'g Variable,
    pub(super) text: &'g str,
}

/// The constraints on the values of one attribute.
#[derive(Debug, Default)]
pub(super) struct ValueConstraints<'m> {
    pub(super) inside: Vec<Language>,
    pub(super) outside: Vec<Automaton>,
    networks: Vec<(&'m [Network], bool)>,
    required_texts: Vec<&'m str>,
}

impl<'m> CertificateConstraints<'m> {
    /// Returns attributes of a certificate that meets all constraints; `None` if there is none.
    pub(super) fn attributes(
        &self,
        required: &[RequiredBinding<'m>],
    ) -> Result<Option<Vec<(Attribute, String)>>, BudgetExceeded> {
        let mut attributes = Vec::new();
        for (attribute, constraints) in self.constraints(required) {
            let Some(values) = constraints.values(attribute)? else { return Ok(None) };
            attributes.extend(values.into_iter().map(|value| (attribute, value)));
        }
        Ok(Some(attributes))
    }

    pub(super) fn constraints(
        &self,
        required: &[RequiredBinding<'m>],
    ) -> BTreeMap<Attribute, ValueConstraints<'m>> {
        let mut by_attribute: BTreeMap<Attribute, ValueConstraints<'m>> = BTreeMap::new();
        for (test, wanted) in &self.tests {
            let constraints = by_attribute.entry(test.attribute).or_default();
            constraints.networks.push((&test.networks, *wanted));
            match wanted {
                true => constraints.inside.push(test.language(required)),
                false => constraints.outside.extend(test.language(&[])),
            }
        }
        for binding in required {
            if let Variable::Attribute(attribute) = binding.variable {
                let constraints = by_attribute.entry(*attribute).or_default();
                constraints.inside.push(vec![Automaton::of_text(binding.text)]);
                constraints.required_texts.push(binding.text);
            }
        }
        by_attribute
    }
}

impl ValueConstraints<'_> {
    fn values(&self, attribute: Attribute) -> Result<Option<Vec<String>>, BudgetExceeded> {
        if attribute == Attribute::Ip {
            return Ok(self.addresses());
        }
        if self.inside.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let alphabet = Alphabet::of_values(ValueSyntax::of(attribute));
        let value = |inside: &[Language]| -> Result<Option<String>, BudgetExceeded> {
            let found = shortest_text(inside, &self.outside, alphabet, true)?;
            Ok(found.map(|symbols| symbols.into_iter().filter_map(char::from_u32).collect()))
        };
        let nonempty: Vec<Language> = self
            .inside
            .iter()
            .map(|language| language.iter().map(Automaton::with_nonempty_wildcards).collect())
            .collect();
        if let Ok(Some(value)) = value(&nonempty) {
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
        let wanted: Vec<_> = self.networks.iter().filter(|(_, wanted)| *wanted).collect();
        let mut constraints: Vec<(&[Network], bool)> =
            self.networks.iter().filter(|(_, wanted)| !wanted).copied().collect();
        if let Some(text) = self.required_texts.first() {
            let address: IpAddr = text.parse().ok()?;
            let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
            let fits = self.networks.iter().all(|(networks, wanted)| within(networks) == *wanted);
            return fits.then(|| vec![(*text).to_owned()]);
        }
        let mut addresses = Vec::new();
        for (networks, _) in wanted {
            constraints.push((networks, true));
            addresses.push(source::address(&constraints)?.to_string());
            constraints.pop();
        }
        Some(addresses)
    }
}

/// Returns true if a policy uses at most one value of the attribute in a certificate.
pub(super) const fn has_one_value(attribute: Attribute) -> bool {
    use Attribute::{CommonName, Fingerprint, PublicKey, Serial, Subject};
    matches!(attribute, CommonName | Subject | Serial | Fingerprint | PublicKey)
}

impl AttributeTest {
    /// Returns the values that pass the test and give each required text to its capture.
    fn language(&self, required: &[RequiredBinding<'_>]) -> Language {
        let exact = self.exact.iter().map(|text| Automaton::of_text(text));
        let own: Vec<&RequiredBinding<'_>> =
            required.iter().filter(|required| self.belongs_to(required.alternatives)).collect();
        let patterns = self.patterns.iter().map(|pattern| {
            let mut pattern = pattern.clone();
            for required in &own {
                if let Variable::Capture(name) = required.variable {
                    pattern = pattern.with_capture(name, required.text);
                }
            }
            Automaton::of_pattern(&pattern)
        });
        exact.chain(patterns).collect()
    }

    fn belongs_to(&self, alternatives: &[Alternative]) -> bool {
        alternatives.iter().flat_map(|alternative| &alternative.tests).any(|test| std::ptr::eq(test, self))
    }
}
