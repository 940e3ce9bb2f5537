//! The meaning of a clause as a text that does not depend on spelling: names of entries and captures, order and places
//! are left out. Clauses with equal texts mean the same; clauses with unequal texts may mean the same.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::condition::When;
use super::super::matching::{Alternative, AttributeTest};
use super::super::pattern::{Pattern, Piece};
use super::super::route::{Route, Segment, Variable};
use super::clause::{Binding, Clause};

/// The meaning of a clause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    clients: u32,
    when: u32,
    route: u32,
    bindings: Vec<u32>,
}

/// A table that gives a number to each text, and remembers the number of each part of a model.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    numbers: HashMap<String, u32>,
    seen: HashMap<(usize, &'static str), u32>,
}

impl KeyTable {
    /// Returns the key of a clause, with all alternatives of the client entry's `match` together.
    pub(super) fn key(&mut self, clause: &Clause<'_>) -> Key {
        let clients = match clause.client {
            Some(client) => self.part(client, "clients", || alternatives(&client.entry.alternatives, None)),
            None => self.number("everyone".to_owned()),
        };
        let when = match clause.when {
            Some(when) => self.part(when, "when", || condition(when)),
            None => self.number("always".to_owned()),
        };
        let route = self.part(clause.route, "route", || path(clause.route));
        let bindings = clause.route.path.segments.iter().filter_map(|segment| match segment {
            Segment::Client(variable) => Some(variable),
            _ => None,
        });
        let texts: Vec<String> = bindings.map(|variable| variable_of(variable, clause)).collect();
        let bindings = texts.into_iter().map(|text| self.number(text)).collect();
        Key { clients, when, route, bindings }
    }

    fn part<T>(&mut self, part: &T, what: &'static str, text: impl FnOnce() -> String) -> u32 {
        let place = (std::ptr::from_ref(part).addr(), what);
        if let Some(number) = self.seen.get(&place) {
            return *number;
        }
        let number = self.number(text());
        self.seen.insert(place, number);
        number
    }

    fn number(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(text).or_insert(next)
    }
}

/// Returns the text for the value that a bound segment is compared with.
pub(super) fn binding(binding: &Binding<'_>) -> String {
    match binding.variable {
        Variable::Attribute(attribute) => attribute.to_string(),
        Variable::Capture(name) => alternatives(binding.alternatives, Some(name)),
    }
}

fn variable_of(variable: &Variable, clause: &Clause<'_>) -> String {
    match (variable, clause.client) {
        (Variable::Attribute(attribute), _) => attribute.to_string(),
        (Variable::Capture(name), Some(client)) => alternatives(&client.entry.alternatives, Some(name)),
        (Variable::Capture(_), None) => "nothing".to_owned(),
    }
}

fn alternatives(all: &[Alternative], captured: Option<&str>) -> String {
    let alternative = |alternative: &Alternative| {
        let mut tests: Vec<String> =
            alternative.tests.iter().map(|test| self::test(test, captured)).collect();
        tests.sort();
        tests.dedup();
        tests.join("&")
    };
    let mut texts: Vec<String> = all.iter().map(alternative).collect();
    texts.sort();
    texts.dedup();
    texts.join("|")
}

fn test(test: &AttributeTest, captured: Option<&str>) -> String {
    let mut patterns: Vec<String> =
        test.patterns.iter().map(|pattern| self::pattern(pattern, captured)).collect();
    patterns.sort();
    patterns.dedup();
    let mut networks: Vec<String> = test.networks.iter().map(ToString::to_string).collect();
    networks.sort();
    networks.dedup();
    format!("{}={:?}{patterns:?}{networks:?}", test.attribute, test.exact)
}

fn pattern(pattern: &Pattern, captured: Option<&str>) -> String {
    let mut text = String::new();
    for piece in pattern.pieces() {
        let _ = match piece {
            Piece::Literal(literal) => write!(text, "{literal:?}"),
            Piece::DoubleStar => write!(text, "**"),
            Piece::Capture(name) if captured == Some(name) => write!(text, "="),
            Piece::Star | Piece::Capture(_) => write!(text, "*"),
        };
    }
    text
}

fn condition(when: &When) -> String {
    let mut source: Vec<String> = when.source.iter().map(ToString::to_string).collect();
    source.sort();
    source.dedup();
    let week = when.week.as_ref().map(|week| (week.days, &week.hours, week.zone.clone()));
    format!("{source:?}{:?}{:?}{week:?}", when.from, when.until)
}

pub(super) fn path(route: &Route) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Client(_) => "bound".to_owned(),
        segment => format!("{segment:?}"),
    };
    let segments: Vec<String> = route.path.segments.iter().map(segment).collect();
    let values = |values: &[Box<str>]| {
        let mut values = values.to_vec();
        values.sort();
        values.dedup();
        values
    };
    let mut query: Vec<_> =
        route.query.iter().map(|condition| (&condition.name, values(&condition.values))).collect();
    query.sort();
    let mut headers: Vec<_> =
        route.headers.iter().map(|condition| (condition.name.as_str(), values(&condition.values))).collect();
    headers.sort();
    let mut hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    hosts.sort();
    hosts.dedup();
    let (methods, rest, upgrade) = (&route.methods, route.path.rest, route.upgrade);
    format!("{methods:?}{segments:?}{rest}{hosts:?}{query:?}{headers:?}{upgrade}")
}
