//! Warnings about client entries.

use std::collections::HashSet;

use super::super::check::{Client, Deny};
use super::super::document::LocatedText;
use super::super::matching::{Alternative, AttributeTest};
use super::super::route::{Methods, Path, Route};
use super::super::{Limits, Priority};
use super::{Linter, MAX_COMPARED};
use crate::diagnostic::{Code, Diagnostic};
use crate::identity::Attribute;
use crate::policy::comparison::{covers, is_subset_of};

impl<'m> Linter<'m> {
    pub(super) fn check_clients(&mut self) {
        let model = self.model;
        let in_denies: HashSet<u32> =
            model.denies.iter().filter_map(|deny| deny.clients.as_ref()).flatten().copied().collect();
        for (number, client) in (0..).zip(&model.clients) {
            let entry = &client.entry;
            self.warn_if_expired(entry.when.as_ref(), entry.when_place.as_ref(), &entry.name);
            for alternative in &entry.alternatives {
                self.warn_if_impossible(alternative, &entry.name);
            }
            if !in_denies.contains(&number) {
                self.warn_if_without_permissions(client);
            }
            self.warn_if_very_wide(client);
            self.warn_if_fully_denied(number, client);
        }
        self.warn_if_all_high();
        if model.clients.len() <= MAX_COMPARED {
            self.warn_about_covered_grants(&in_denies);
        }
    }

    /// Warns of an entry that grants nothing. An entry that only sets limits has an effect.
    fn warn_if_without_permissions(&mut self, client: &Client) {
        let name = &client.entry.name;
        if client.permissions().next().is_none() && client.entry.limits == Limits::default() {
            let message = format!("`{}` grants nothing", name.text);
            let help = "add `roles` or `permissions`, or remove the entry";
            self.warn(Code::GivesNothing, &name.place, message, help);
        }
    }

    /// Warns if every client entry has the priority `high`, because then the priority has no effect.
    fn warn_if_all_high(&mut self) {
        let model = self.model;
        let is_high = |client: &Client| client.entry.limits.priority == Priority::High;
        if let Some(first) = model.clients.first()
            && model.clients.iter().all(is_high)
        {
            self.warn(
                Code::HighPriorityForAll,
                &first.entry.name.place,
                "every client entry has `priority: high`, so the priority has no effect".to_owned(),
                "set `priority: high` only where an entry must come before others",
            );
        }
    }

    fn warn_if_impossible(&mut self, alternative: &Alternative, name: &LocatedText) {
        for test in &alternative.tests {
            if let Some((value, why)) = impossible_value(test) {
                let message = format!("no certificate can match `{}`: `{value}` {why}", name.text);
                self.warn(
                    Code::ImpossibleMatch,
                    &alternative.place,
                    message,
                    "write the value as it is in the certificates",
                );
            }
        }
    }

    fn warn_if_very_wide(&mut self, client: &Client) {
        let anyone = client.entry.alternatives.iter().any(|alternative| alternative.tests.is_empty());
        let wide = |route: &&Route| {
            route.methods == Methods::Any && is_every_path(&route.path) && !route.is_conditional()
        };
        let own: usize = client.sets.iter().map(|set| set.len()).sum();
        if !anyone || !self.take_comparisons(own) {
            return;
        }
        let mut routes = client.permissions().flat_map(|permission| self.model.routes(permission));
        if let Some(route) = routes.find(wide) {
            let message = format!("`{}` allows every client to make every request", client.entry.name.text);
            let warning = Diagnostic::warning(Code::VeryWide, message)
                .at(client.entry.name.place.clone())
                .related(route.place.clone(), "this route matches every request")
                .help("name the clients or the routes");
            self.warnings.push(warning);
        }
    }

    fn warn_if_fully_denied(&mut self, number: u32, client: &Client) {
        let for_it = |deny: &&Deny| {
            deny.entry.when.is_none() && deny.clients.as_ref().is_none_or(|clients| clients.contains(&number))
        };
        let model = self.model;
        let routes_of = |deny: &'m Deny| {
            let routes = deny.permissions.iter().flat_map(|permission| model.routes(*permission));
            routes.map(move |route| (deny, route))
        };
        let denies: Vec<(&Deny, &Route)> = model.denies.iter().filter(for_it).flat_map(routes_of).collect();
        if !self.take_comparisons(model.denies.len() + denies.len())
            || denies.is_empty()
            || client.permissions().next().is_none()
        {
            return;
        }
        let mut last = None;
        for route in client.permissions().flat_map(|permission| self.model.routes(permission)) {
            match denies.iter().find(|(_, deny)| covers(deny, route)) {
                Some((deny, _)) if self.take_comparisons(denies.len()) => last = Some(*deny),
                _ => return,
            }
        }
        if let Some(deny) = last {
            let message = format!("a deny rule forbids everything that `{}` grants", client.entry.name.text);
            let warning = Diagnostic::warning(Code::FullyDenied, message)
                .at(client.entry.name.place.clone())
                .related(deny.entry.name.place.clone(), "this rule forbids it")
                .help("remove the entry, or narrow the deny rule");
            self.warnings.push(warning);
        }
    }

    fn warn_about_covered_grants(&mut self, in_denies: &HashSet<u32>) {
        for (number, client) in (0..).zip(&self.model.clients) {
            let own: HashSet<u32> = client.permissions().collect();
            if own.is_empty() || in_denies.contains(&number) || client.entry.limits != Limits::default() {
                continue;
            }
            let other = (0..).zip(&self.model.clients).find(|(other, wider)| {
                *other != number
                    && self.is_covered(client, &own, wider)
                    // Only the later one of two equal entries is reported.
                    && (*other < number
                        || !is_subset_of(&wider.entry.alternatives, &client.entry.alternatives)
                        || !wider.permissions().all(|permission| own.contains(&permission)))
            });
            if let Some((_, wider)) = other {
                let message = format!(
                    "`{}` grants nothing that `{}` does not grant",
                    client.entry.name.text, wider.entry.name.text
                );
                let warning = Diagnostic::warning(Code::CoveredGrant, message)
                    .at(client.entry.name.place.clone())
                    .related(
                        wider.entry.name.place.clone(),
                        "this entry matches the same clients and grants as much",
                    )
                    .help("remove one of the two entries");
                self.warnings.push(warning);
            }
        }
    }

    /// Returns true if `wider` grants everything that `client` grants, to the same certificates and more.
    fn is_covered(&self, client: &Client, own: &HashSet<u32>, wider: &Client) -> bool {
        wider.entry.when.is_none()
            && is_subset_of(&client.entry.alternatives, &wider.entry.alternatives)
            && self.take_comparisons(wider.sets.iter().map(|set| set.len()).sum())
            && own.is_subset(&wider.permissions().collect())
    }
}

/// Returns a value that no certificate can have, and the reason.
fn impossible_value(test: &AttributeTest) -> Option<(&str, &'static str)> {
    let odd = |value: &str| match test.attribute {
        Attribute::Dns if value.contains(['/', ':', '@', ' ']) => Some("is not a DNS name"),
        Attribute::Uri if !value.contains(':') => Some("is not a URI, because it has no scheme"),
        Attribute::Email if !value.contains('@') => Some("is not an e-mail address"),
        Attribute::Country if value.len() != 2 => Some("is not a country code of two letters"),
        Attribute::Subject if !value.contains('=') => Some("is not a distinguished name such as `CN=x,O=y`"),
        _ => None,
    };
    test.exact.iter().find_map(|value| odd(value).map(|why| (&**value, why)))
}

fn is_every_path(path: &Path) -> bool {
    path.rest && path.segments.is_empty()
}
