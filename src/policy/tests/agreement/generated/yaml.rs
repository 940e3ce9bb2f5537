//! The YAML of a generated policy, as three files in any order.

use std::collections::BTreeSet;

use super::*;
use crate::identity::Attribute;

/// A random order, and a random file for each entry. The seed 0 leaves everything in its order.
struct Order(u64);

impl Order {
    fn next(&mut self, below: usize) -> usize {
        // Xorshift: the state 0 stays 0.
        for shift in [13i32, -7, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap()).unwrap()
    }

    fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        if self.0 != 0 {
            for last in (1..items.len()).rev() {
                items.swap(last, self.next(last + 1));
            }
        }
        items
    }

    fn list<T: ToString>(&mut self, items: impl IntoIterator<Item = T>) -> String {
        let items = items.into_iter().map(|item| item.to_string()).collect();
        format!("[{}]", self.shuffled(items).join(", "))
    }

    /// Returns a mapping of the keys that have a value.
    fn map<const N: usize>(&mut self, pairs: [(&str, Option<String>); N]) -> String {
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?))).collect();
        format!("{{ {} }}", self.shuffled(pairs).join(", "))
    }
}

impl GeneratedPolicy {
    /// Returns the policy as three files, in the generated order.
    pub(in super::super) fn yaml(&self) -> [String; 3] {
        self.ordered(Order(0))
    }

    /// Returns the policy as three files, in another order of files, sections, entries, keys and values.
    pub(in super::super) fn yaml_in_order(&self, order: u64) -> [String; 3] {
        self.ordered(Order(order))
    }

    fn ordered(&self, mut order: Order) -> [String; 3] {
        let order = &mut order;
        let sections = [
            (0, "permissions", self.permissions(order)),
            (1, "roles", self.roles(order)),
            (1, "clients", self.clients(order)),
            (2, "deny", self.denies(order)),
        ];
        let mut files: [Vec<String>; 3] = Default::default();
        for (file, title, entries) in order.shuffled(sections.to_vec()) {
            let mut parts: [Vec<String>; 3] = Default::default();
            for entry in order.shuffled(entries) {
                parts[(file + order.next(3)) % 3].push(entry);
            }
            for (file, part) in files.iter_mut().zip(parts).filter(|(_, part)| !part.is_empty()) {
                file.push(format!("{title}:\n{}", part.concat()));
            }
        }
        files.map(|sections| format!("version: 1\n{}", sections.concat()))
    }

    fn permissions(&self, order: &mut Order) -> Vec<String> {
        let permission = |(number, routes): (usize, &Vec<GeneratedRoute>)| {
            let routes: Vec<String> = routes.iter().map(|route| route.yaml(order)).collect();
            format!("  p{number}: {}\n", order.list(routes))
        };
        self.permissions.iter().enumerate().map(permission).collect()
    }

    fn roles(&self, order: &mut Order) -> Vec<String> {
        let role = |(number, members): (usize, &Vec<Member>)| {
            let names = members.iter().map(|member| match member {
                Member::Permission(permission) => format!("p{permission}"),
                Member::Role(role) => format!("r{role}"),
                Member::AllPermissions => "\"p*\"".to_owned(),
            });
            format!("  r{number}: {}\n", order.list(names))
        };
        self.roles.iter().enumerate().map(role).collect()
    }

    fn clients(&self, order: &mut Order) -> Vec<String> {
        let client = |(number, client): (usize, &GeneratedClient)| {
            let alternatives: Vec<String> =
                client.alternatives.iter().map(|tests| alternative(tests, order)).collect();
            let map = [
                ("name", Some(format!("c{number}"))),
                ("match", Some(order.list(alternatives))),
                ("roles", Some(order.list(named('r', &client.roles)))),
                ("permissions", Some(order.list(named('p', &client.permissions)))),
                ("when", client.when.yaml(order)),
            ];
            format!("  - {}\n", order.map(map))
        };
        self.clients.iter().enumerate().map(client).collect()
    }

    fn denies(&self, order: &mut Order) -> Vec<String> {
        let deny = |(number, deny): (usize, &GeneratedDeny)| {
            let routes: Vec<String> = deny.routes.iter().map(|route| route.yaml(order)).collect();
            let map = [
                ("name", Some(format!("d{number}"))),
                ("clients", deny.clients.as_ref().map(|clients| order.list(named('c', clients)))),
                ("permissions", Some(order.list(named('p', &deny.permissions)))),
                ("routes", (!routes.is_empty()).then(|| order.list(routes))),
                ("when", deny.when.yaml(order)),
            ];
            format!("  - {}\n", order.map(map))
        };
        self.denies.iter().enumerate().map(deny).collect()
    }
}

fn named(letter: char, numbers: &[usize]) -> Vec<String> {
    let numbers: BTreeSet<usize> = numbers.iter().copied().collect();
    numbers.iter().map(|number| format!("{letter}{number}")).collect()
}

fn alternative(tests: &[(Attribute, Vec<&str>)], order: &mut Order) -> String {
    if tests.is_empty() {
        return "{ any: true }".to_owned();
    }
    let tests = tests.iter().map(|(key, values)| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("{key}: {}", order.list(values))
    });
    let tests: Vec<String> = tests.collect();
    format!("{{ {} }}", order.shuffled(tests).join(", "))
}

impl GeneratedRoute {
    fn yaml(&self, order: &mut Order) -> String {
        let rest = if self.rest { "/**" } else { "" };
        let slash = if self.segments.is_empty() && !self.rest { "/" } else { "" };
        let path: String = self.segments.iter().map(|segment| format!("/{segment}")).collect();
        let condition = |condition: &Option<(&str, Vec<&str>)>| {
            condition.as_ref().map(|(name, values)| format!("{{ {name}: {values:?} }}"))
        };
        order.map([
            ("route", Some(format!("\"{} {path}{rest}{slash}\"", self.methods))),
            ("hosts", self.hosts.as_ref().map(|hosts| format!("{hosts:?}"))),
            ("query", condition(&self.query)),
            ("headers", condition(&self.header)),
            ("upgrade", self.upgrade.then(|| "websocket".to_owned())),
        ])
    }
}

impl Window {
    fn yaml(self, order: &mut Order) -> Option<String> {
        let day = |day: i64| format!("2026-01-0{}T00:00:00Z", day + 1);
        let (days, hours, zone) = match self.week {
            Week::Always => (None, None, None),
            Week::LongWeekend => (Some("[fri-sun]"), None, None),
            Week::SaturdayNight => (Some("[sat]"), Some("[\"22:00-06:00\"]"), None),
            Week::TokyoMorning => (None, Some("[\"08:00-12:00\"]"), Some("Asia/Tokyo")),
        };
        let map = order.map([
            ("from", self.from.map(day)),
            ("until", self.until.map(day)),
            ("source", self.inside.then(|| "[10.0.0.0/8]".to_owned())),
            ("days", days.map(str::to_owned)),
            ("hours", hours.map(str::to_owned)),
            ("zone", zone.map(str::to_owned)),
        ]);
        (map.len() > 4).then_some(map)
    }
}
