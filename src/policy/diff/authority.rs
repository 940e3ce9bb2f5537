//! Hosts that meet the conditions with `true` and none with `false`: a name, an address, or none at all.

use std::net::Ipv6Addr;

use super::super::condition::IfDoubtful;
use super::super::host::{DEFAULT_PORT, Host, HostPattern, Name, holds};
use super::super::pattern::{Pattern, Style};
use super::language::{Alphabet, Language, Machine, TooMuch, shortest};
use crate::identity::Attribute;

/// The host that is taken where none is asked for.
const SOMEWHERE: &str = "host.example";

/// The conditions on the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts<'m> {
    pub(super) asked: Vec<(&'m [HostPattern], IfDoubtful, bool)>,
}

impl Hosts<'_> {
    /// A host of which all of it holds; the inner `None` for a request that names no host.
    pub(super) fn host(&self) -> Result<Option<Option<String>>, TooMuch> {
        let mut open = false;
        let others = self.ports().into_iter().filter_map(|port| {
            self.name(port).unwrap_or_else(|TooMuch| {
                open = true;
                None
            })
        });
        let plain = std::iter::once(SOMEWHERE.to_owned());
        let mut named = plain.chain(others).chain(self.addresses());
        if let Some(host) = named.find(|host| self.is_met_by(Host::Named(host))) {
            return Ok(Some(Some(host)));
        }
        drop(named);
        match self.is_met_by(Host::Absent) {
            true => Ok(Some(None)),
            false if open => Err(TooMuch),
            false => Ok(None),
        }
    }

    fn is_met_by(&self, host: Host<'_>) -> bool {
        self.asked.iter().all(|(hosts, if_doubtful, is)| holds(hosts, host, *if_doubtful) == *is)
    }

    fn patterns(&self) -> impl Iterator<Item = &HostPattern> {
        self.asked.iter().flat_map(|(hosts, ..)| hosts.iter())
    }

    /// One port of each kind that patterns tell from the others: the one that is left out, those named, and another.
    fn ports(&self) -> Vec<u16> {
        let mut ports = vec![DEFAULT_PORT];
        ports.extend(self.patterns().filter_map(|pattern| pattern.port));
        ports.extend((8443..).find(|port| !ports.contains(port)));
        ports.dedup();
        ports
    }

    /// A name with that port.
    fn name(&self, port: u16) -> Result<Option<String>, TooMuch> {
        let language = |hosts: &[HostPattern]| -> Language {
            let of_port = hosts.iter().filter(|pattern| pattern.port.is_none_or(|own| own == port));
            let labels = of_port.filter_map(|pattern| match &pattern.name {
                Name::Labels(pattern) => Some(Machine::of_pattern(pattern)),
                Name::Address(_) => None,
            });
            labels.collect()
        };
        let of = |wanted: bool| self.asked.iter().filter(move |(_, _, is)| *is == wanted);
        let mut inside: Vec<Language> = of(true).map(|(hosts, ..)| language(hosts)).collect();
        inside.push(names(&["**"]));
        let mut outside: Language = of(false).flat_map(|(hosts, ..)| language(hosts)).collect();
        // A name with an empty label is doubtful.
        outside.extend(names(&[".**", "**."]));
        outside.push(Machine::around(".."));
        let alphabet = Alphabet::of_values(Style::of(Attribute::Dns));
        let filled: Vec<Language> =
            inside.iter().map(|language| language.iter().map(Machine::filled).collect()).collect();
        let found = match shortest(&filled, &outside, alphabet, false) {
            Ok(Some(found)) => Some(found),
            _ => shortest(&inside, &outside, alphabet, false)?,
        };
        Ok(found.map(|symbols| {
            with_port(&symbols.into_iter().filter_map(char::from_u32).collect::<String>(), port)
        }))
    }

    /// Every address that is named, and another one, with each port.
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

fn names(patterns: &[&str]) -> Language {
    let patterns = patterns.iter().filter_map(|text| Pattern::parse(Attribute::Dns, text).ok());
    patterns.map(|pattern| Machine::of_pattern(&pattern)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(asked: &[(&[&str], IfDoubtful, bool)]) -> Option<Option<String>> {
        let patterns: Vec<Vec<HostPattern>> = asked
            .iter()
            .map(|(texts, ..)| texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect())
            .collect();
        let asked = patterns
            .iter()
            .zip(asked)
            .map(|(patterns, (_, if_doubtful, is))| (&**patterns, *if_doubtful, *is));
        Hosts { asked: asked.collect() }.host().unwrap()
    }

    #[test]
    fn a_host_is_found_in_every_kind_or_there_is_none() {
        use IfDoubtful::{Met, Unmet};
        let host = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(found(&[]), host(SOMEWHERE));
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
