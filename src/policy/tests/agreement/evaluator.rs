//! The third evaluator: it decides by a generated policy, and shares no code with the engine.

use std::collections::BTreeSet;

use super::generated::*;
use crate::identity::Attribute;

impl GeneratedPolicy {
    fn permissions_of(&self, client: &GeneratedClient) -> BTreeSet<usize> {
        let mut found: BTreeSet<usize> = client.permissions.iter().copied().collect();
        let mut open = client.roles.clone();
        while let Some(role) = open.pop() {
            for member in &self.roles[role] {
                match member {
                    Member::Permission(permission) => drop(found.insert(*permission)),
                    Member::Role(role) => open.push(*role),
                    Member::AllPermissions => found.extend(0..self.permissions.len()),
                }
            }
        }
        found
    }

    /// Returns true if the request is allowed.
    pub(super) fn allows(&self, identity: &[(Attribute, String)], call: &GeneratedRequest) -> bool {
        !self.forbids(identity, call) && self.grants(identity, call, |_| true)
    }

    /// Returns true if the request and the switch to WebSocket are allowed.
    pub(super) fn allows_switch(&self, identity: &[(Attribute, String)], call: &GeneratedRequest) -> bool {
        call.upgrade && !self.forbids(identity, call) && self.grants(identity, call, |route| route.upgrade)
    }

    /// Returns all that the policy reads from a certificate: which entries match it, and the values of the captures.
    pub(super) fn observed_attributes(
        &self,
        identity: &[(Attribute, String)],
    ) -> Vec<(bool, [Option<String>; 2])> {
        let seen = |alternatives: &[Alternative<'_>]| {
            ["t", "common_name"].map(|name| bound(alternatives, identity, name))
        };
        let clients = self.clients.iter().map(|client| (client.is(identity), seen(&client.alternatives)));
        clients.chain([(true, seen(&[]))]).collect()
    }

    fn forbids(&self, identity: &[(Attribute, String)], call: &GeneratedRequest) -> bool {
        self.denies.iter().filter(|deny| deny.when.holds(call)).any(|deny| {
            let means = |alternatives: &[Alternative]| {
                let bound = |name: &str| bound(alternatives, identity, name);
                self.routes_of(deny).any(|route| route.means(call, true, &bound))
            };
            let Some(clients) = &deny.clients else { return means(&[]) };
            let named = clients.iter().map(|client| &self.clients[*client]);
            named.filter(|client| client.is(identity)).any(|client| means(&client.alternatives))
        })
    }

    fn grants(
        &self,
        identity: &[(Attribute, String)],
        call: &GeneratedRequest,
        counts: impl Fn(&GeneratedRoute) -> bool,
    ) -> bool {
        let mut clients = self.clients.iter();
        clients.any(|client| {
            client.is(identity) && client.when.holds(call) && {
                let bound = |name: &str| bound(&client.alternatives, identity, name);
                self.given(client).any(|route| counts(route) && route.means(call, false, &bound))
            }
        })
    }

    /// Returns the routes of a client entry.
    pub(super) fn given(&self, client: &GeneratedClient) -> impl Iterator<Item = &GeneratedRoute> {
        self.permissions_of(client).into_iter().flat_map(|permission| &self.permissions[permission])
    }

    /// Returns the routes of a deny rule.
    pub(super) fn routes_of<'w>(
        &'w self,
        deny: &'w GeneratedDeny,
    ) -> impl Iterator<Item = &'w GeneratedRoute> {
        let taken = deny.permissions.iter().flat_map(|permission| &self.permissions[*permission]);
        taken.chain(&deny.routes)
    }
}

/// One alternative of a `match`.
type Alternative<'w> = Vec<(Attribute, Vec<&'w str>)>;

impl GeneratedRoute {
    /// Returns true if method and path fit for some certificate, without the other conditions.
    pub(super) fn fits_shape(&self, call: &GeneratedRequest) -> bool {
        let bare = Self { hosts: None, query: None, header: None, ..self.clone() };
        bare.means(call, true, &|_| None)
    }

    pub(super) fn means(
        &self,
        call: &GeneratedRequest,
        deny: bool,
        bound: &dyn Fn(&str) -> Option<String>,
    ) -> bool {
        let methods: Vec<&str> = self.methods.split('|').collect();
        let method = methods.contains(&"*")
            || methods.contains(&call.method)
            || (call.method == "HEAD" && methods.contains(&"GET"));
        let long_enough = if self.rest {
            call.segments.len() >= self.segments.len()
        } else {
            call.segments.len() == self.segments.len()
        };
        let fits = |(pattern, segment): (&&str, &&str)| match *pattern {
            "{x}" | "*" => !segment.is_empty(),
            "{client.t}" | "{client.common_name}" => {
                match bound(pattern.trim_start_matches("{client.").trim_end_matches('}')) {
                    Some(text) => text == **segment,
                    None => deny && !segment.is_empty(),
                }
            }
            glob if glob.contains('*') => !readings(glob, segment, None).is_empty(),
            literal => literal == *segment,
        };
        let query = self.query.as_ref().is_none_or(|(name, values)| {
            let (exact, others) = parameters(call.query, name);
            is_met(values, &exact, others || has_semicolon(call.query), deny)
        });
        let header = self.header.as_ref().is_none_or(|(name, values)| {
            let name = name.to_lowercase();
            let same = call.modes.iter().filter(|(other, _)| variable(other) == variable(&name));
            let (exact, others): (Vec<_>, Vec<_>) = same.partition(|(other, _)| *other == name);
            let exact: Vec<String> = exact.into_iter().map(|(_, value)| (*value).to_owned()).collect();
            is_met(values, &exact, !others.is_empty(), deny)
        });
        let host = self.hosts.as_ref().is_none_or(|hosts| match call.host.and_then(one_form) {
            Some(named) => hosts.iter().any(|host| is_of(host, &named)),
            None => deny,
        });
        method && long_enough && host && query && header && self.segments.iter().zip(&call.segments).all(fits)
    }
}

/// Returns true if a condition is met by the values of the name, given whether a name with another spelling has a
/// value.
fn is_met(values: &[&str], exact: &[String], others: bool, deny: bool) -> bool {
    match exact {
        [] if !others => false,
        [value] if !others && !value.contains(',') => {
            values.contains(&value.as_str()) || values.contains(&"*")
        }
        _ => deny,
    }
}

/// Returns the values of a parameter, and true if another parameter has a name that some backend treats as the same.
fn parameters(query: &str, name: &str) -> (Vec<String>, bool) {
    let plain = |text: &str| {
        let text = text.replace('+', " ").replace("%20", " ").replace("%5B", "[").replace("%5D", "]");
        text.replace("%71", "q")
    };
    let short = |name: &str| {
        let name = name.trim().to_lowercase();
        let name = name.trim_start_matches(['[', ']']);
        name.split(['[', ']']).next().unwrap_or_default().to_owned()
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| (plain(name), plain(value)));
    let of_name = pairs.filter(|(other, _)| short(other) == short(name));
    let (exact, others): (Vec<_>, Vec<_>) = of_name.partition(|(other, _)| other == name);
    (exact.into_iter().map(|(_, value)| value).collect(), !others.is_empty())
}

fn has_semicolon(query: &str) -> bool {
    query.to_lowercase().replace("%3b", ";").contains(';')
}

/// Returns the name that CGI gives to a header.
fn variable(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

/// Returns the name in one spelling, and the port; `None` if the host is doubtful.
fn one_form(host: &str) -> Option<(String, String)> {
    let host = host.to_lowercase();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.trim_start_matches('0')),
        _ => (&*host, "443"),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_clear = !name.starts_with('.') && !name.ends_with('.') && !name.contains("..");
    is_clear.then(|| (name.replace("[0:0::1]", "[::1]"), port.to_owned()))
}

fn is_of(pattern: &str, (name, port): &(String, String)) -> bool {
    let pattern = pattern.to_lowercase();
    let (pattern, own) = match pattern.rsplit_once(':') {
        Some((pattern, own)) if !own.ends_with(']') => (pattern, Some(own)),
        _ => (&*pattern, None),
    };
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    let is_name = match pattern.starts_with('[') || name.starts_with('[') {
        true => pattern == name,
        false => !readings(pattern, name, Some('.')).is_empty(),
    };
    is_name && own.is_none_or(|own| own == port)
}

impl GeneratedClient {
    pub(super) fn is(&self, identity: &[(Attribute, String)]) -> bool {
        self.alternatives.iter().any(|alternative| holds(alternative, identity))
    }
}

fn holds(alternative: &[(Attribute, Vec<&str>)], identity: &[(Attribute, String)]) -> bool {
    alternative.iter().all(|(attribute, patterns)| {
        values_of(*attribute, identity)
            .iter()
            .any(|value| patterns.iter().any(|pattern| !fits(*attribute, pattern, value).is_empty()))
    })
}

fn values_of(attribute: Attribute, identity: &[(Attribute, String)]) -> BTreeSet<&str> {
    let values: BTreeSet<&str> =
        identity.iter().filter(|(key, _)| *key == attribute).map(|(_, value)| value.as_str()).collect();
    if attribute == Attribute::CommonName && values.len() > 1 { BTreeSet::new() } else { values }
}

/// Returns all ways in which a pattern matches a value, each with the text of `{t}`.
fn fits(attribute: Attribute, pattern: &str, value: &str) -> Vec<Option<String>> {
    let (pattern, separator) = match attribute {
        Attribute::Dns => (pattern.to_lowercase(), Some('.')),
        _ => (pattern.to_owned(), None),
    };
    if attribute == Attribute::Dns && value.contains('*') {
        return Vec::new();
    }
    readings(&pattern, value, separator)
}

fn readings(pattern: &str, value: &str, separator: Option<char>) -> Vec<Option<String>> {
    if pattern.is_empty() {
        return if value.is_empty() { vec![None] } else { Vec::new() };
    }
    let wild = [("**", false, true), ("*", false, false), ("{t}", true, false), ("{u}", false, false)];
    for (sign, captures, across) in wild {
        let Some(rest) = pattern.strip_prefix(sign) else { continue };
        let mut found = Vec::new();
        for end in 0..=value.len() {
            let (taken, left) = value.split_at(end);
            if !across && separator.is_some_and(|separator| taken.contains(separator)) {
                break;
            }
            for reading in readings(rest, left, separator) {
                found.push(if captures { Some(taken.to_owned()) } else { reading });
            }
        }
        return found;
    }
    let (first, rest) = pattern.split_at(1);
    value.strip_prefix(first).map(|left| readings(rest, left, separator)).unwrap_or_default()
}

fn bound(alternatives: &[Alternative<'_>], identity: &[(Attribute, String)], name: &str) -> Option<String> {
    let mut texts: BTreeSet<String> = BTreeSet::new();
    if name == "common_name" {
        texts.extend(values_of(Attribute::CommonName, identity).into_iter().map(str::to_owned));
    } else {
        for alternative in alternatives.iter().filter(|alternative| holds(alternative, identity)) {
            for (attribute, patterns) in alternative {
                for pattern in patterns.iter().filter(|pattern| pattern.contains("{t}")) {
                    let values = values_of(*attribute, identity);
                    texts.extend(values.iter().flat_map(|value| fits(*attribute, pattern, value)).flatten());
                }
            }
        }
    }
    let only = if texts.len() == 1 { texts.pop_first() } else { None };
    only.filter(|text| !text.is_empty() && !text.contains('/') && !text.contains(".."))
}

impl Window {
    pub(super) fn holds(self, call: &GeneratedRequest) -> bool {
        let hours = |day: i64| day * 24;
        let (day, hour) = (call.hour.div_euclid(24), call.hour.rem_euclid(24));
        // The first of January 2026 is a Thursday.
        let weekday = |day: i64| (day + 3).rem_euclid(7);
        let week = match self.week {
            Week::Always => true,
            Week::LongWeekend => weekday(day) >= 4,
            Week::SaturdayNight => (weekday(day) == 5 && hour >= 22) || (weekday(day) == 6 && hour < 6),
            Week::TokyoMorning => (8..12).contains(&(call.hour + 9).rem_euclid(24)),
        };
        week && self.from.is_none_or(|from| hours(from) <= call.hour)
            && self.until.is_none_or(|until| call.hour < hours(until))
            && (!self.inside || call.inside)
    }
}
