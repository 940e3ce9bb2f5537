//! The host of an example request: a name, an address, or no host.

use std::net::Ipv6Addr;

use super::super::condition::IfDoubtful;
use super::super::host::{DEFAULT_PORT, Host, HostPattern, Name, holds};
use super::super::pattern::{Pattern, ValueSyntax};
use super::language::{Alphabet, Automaton, BudgetExceeded, Language, shortest_text};
use crate::identity::Attribute;

/// The host of examples without a condition on it.
const DEFAULT_HOST: &str = "host.example";

/// The conditions on the host, each with the outcome that is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct HostConstraints<'m> {
    pub(super) conditions: Vec<(&'m [HostPattern], IfDoubtful, bool)>,
}

impl HostConstraints<'_> {
    /// Returns a host that meets all conditions. The outer `None` means that there is none; the inner `None` means that a
    /// request without a host meets them.
    ///
    /// # Errors
    /// [`BudgetExceeded`] if no host was found and the search for some names was cut short.
    pub(super) fn host(&self) -> Result<Option<Option<String>>, BudgetExceeded> {
        let mut is_cut_short = false;
        let others = self.ports().into_iter().filter_map(|port| {
            self.host_name(port).unwrap_or_else(|BudgetExceeded| {
                is_cut_short = true;
                None
            })
        });
        let plain = std::iter::once(DEFAULT_HOST.to_owned());
        let mut named = plain.chain(others).chain(self.addresses());
        if let Some(host) = named.find(|host| self.is_met_by(Host::Named(host))) {
            return Ok(Some(Some(host)));
        }
        drop(named);
        match self.is_met_by(Host::Absent) {
            true => Ok(Some(None)),
            false if is_cut_short => Err(BudgetExceeded),
            false => Ok(None),
        }
    }

    fn is_met_by(&self, host: Host<'_>) -> bool {
        self.conditions.iter().all(|(hosts, if_doubtful, wanted)| holds(hosts, host, *if_doubtful) == *wanted)
    }

    fn patterns(&self) -> impl Iterator<Item = &HostPattern> {
        self.conditions.iter().flat_map(|(hosts, ..)| hosts.iter())
    }

    /// Returns one port of each kind that the patterns distinguish: the default port, the ports that patterns name, and
    /// one other port.
    fn ports(&self) -> Vec<u16> {
        let mut ports = vec![DEFAULT_PORT];
        ports.extend(self.patterns().filter_map(|pattern| pattern.port));
        ports.extend((8443..).find(|port| !ports.contains(port)));
        ports.dedup();
        ports
    }

    /// Returns host name with that port.
    fn host_name(&self, port: u16) -> Result<Option<String>, BudgetExceeded> {
        let language = |hosts: &[HostPattern]| -> Language {
            let of_port = hosts.iter().filter(|pattern| pattern.port.is_none_or(|own| own == port));
            let labels = of_port.filter_map(|pattern| match &pattern.name {
                Name::Labels(pattern) => Some(Automaton::of_pattern(pattern)),
                Name::Address(_) => None,
            });
            labels.collect()
        };
        let with = |outcome: bool| self.conditions.iter().filter(move |(_, _, wanted)| *wanted == outcome);
        let mut inside: Vec<Language> = with(true).map(|(hosts, ..)| language(hosts)).collect();
        inside.push(name_patterns(&["**"]));
        let mut outside: Language = with(false).flat_map(|(hosts, ..)| language(hosts)).collect();
        // A name with an empty label is doubtful to the policy, so no example has one.
        outside.extend(name_patterns(&[".**", "**."]));
        outside.push(Automaton::containing(".."));
        let alphabet = Alphabet::of_values(ValueSyntax::of(Attribute::Dns));
        let nonempty: Vec<Language> = inside
            .iter()
            .map(|language| language.iter().map(Automaton::with_nonempty_wildcards).collect())
            .collect();
        let found = match shortest_text(&nonempty, &outside, alphabet, false) {
            Ok(Some(found)) => Some(found),
            _ => shortest_text(&inside, &outside, alphabet, false)?,
        };
        Ok(found.map(|symbols| {
            with_port(&symbols.into_iter().filter_map(char::from_u32).collect::<String>(), port)
        }))
    }

    /// Returns every address that a pattern names, and one other address, with each port.
    fn addresses(&self) -> impl Iterator<Item = String> {
        let mut all: Vec<Ipv6Addr> = Vec::new();
        all.extend(self.patterns().filter_map(|pattern| match pattern.name {
            Name::Address(address) => Some(address),
            Name::Labels(_) => None,
        }));
        let another = (1u16..).map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        all.extend(another.into_iter().find(|address| !all.contains(address)));
        let ports = self.ports();
        all.into_iter().flat_map(move |address| {
            ports.clone().into_iter().map(move |port| with_port(&format!("[{address}]"), port))
        })
    }
}

fn with_port(host: &str, port: u16) -> String {
    if port == DEFAULT_PORT { host.to_owned() } else { format!("{host}:{port}") }
}

fn name_patterns(patterns: &[&str]) -> Language {
    let patterns = patterns.iter().filter_map(|text| Pattern::parse(Attribute::Dns, text).ok());
    patterns.map(|pattern| Automaton::of_pattern(&pattern)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(conditions: &[(&[&str], IfDoubtful, bool)]) -> Option<Option<String>> {
        let patterns: Vec<Vec<HostPattern>> = conditions
            .iter()
            .map(|(texts, ..)| texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect())
            .collect();
        let conditions = patterns
            .iter()
            .zip(conditions)
            .map(|(patterns, (_, if_doubtful, wanted))| (&**patterns, *if_doubtful, *wanted));
        HostConstraints { conditions: conditions.collect() }.host().unwrap()
    }

    #[test]
    fn a_host_of_every_kind_is_found_or_none_exists() {
        use IfDoubtful::{Met, Unmet};
        let host = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(found(&[]), host(DEFAULT_HOST));
        assert_eq!(found(&[(&["a.example"], Unmet, true)]), host("a.example"));
        assert_eq!(found(&[(&["*.a"], Unmet, true), (&["b.a", "y.a"], Unmet, false)]), host("x.a"));
        assert_eq!(found(&[(&["**.a"], Unmet, true), (&["*.a"], Unmet, false)]), host("x.x.a"));
        assert_eq!(found(&[(&["a"], Unmet, true), (&["a:443"], Unmet, false)]), host("a:8443"));
        assert_eq!(found(&[(&["**"], Unmet, false)]), host("[2001:db8::1]"));
        assert_eq!(found(&[(&["**", "[::1]"], Unmet, true), (&["**"], Unmet, false)]), host("[::1]"));
        assert_eq!(found(&[(&["a"], Unmet, false), (&["a"], Met, true)]), Some(None));
        assert_eq!(found(&[(&["a"], Unmet, true), (&["a"], Met, false)]), None);
        assert_eq!(found(&[(&["*.a"], Unmet, true), (&["**.a"], Unmet, false)]), None);
    }
}
