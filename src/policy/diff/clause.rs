//! Policies as clauses, and clauses as atoms: a clause applies to a request if all its atoms hold.

use jiff::Timestamp;

use super::super::check::{Client, Deny, Model};
use super::super::condition::{HeaderCondition, IfDoubtful, Network, QueryCondition, Week, When};
use super::super::document::LocatedText;
use super::super::host::{self, HostPattern};
use super::super::matching::{Alternative, AttributeTest, bind};
use super::super::route::{Route, Segment, Variable};
use super::request::PolicyInput;

/// One route of one entry, for one alternative of the entry's `match`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clause<'m> {
    /// The name of the client entry or of the deny rule.
    pub(super) entry: &'m LocatedText,
    pub(super) permission: &'m LocatedText,
    pub(super) route: &'m Route,
    pub(super) when: Option<&'m When>,
    /// The client entry whose `match` applies; `None` if the clause applies to every client.
    pub(super) client: Option<&'m Client>,
    pub(super) alternative: Option<&'m Alternative>,
    pub(super) if_doubtful: IfDoubtful,
}

/// The smallest condition that a clause puts on a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Atom<'m> {
    AttributeTest(&'m AttributeTest),
    Source(&'m [Network]),
    From(Timestamp),
    Until(Timestamp),
    Week(&'m Week),
    Length { segments: usize, rest: bool },
    Segment { at: usize, pattern: &'m Segment },
    Binding(Binding<'m>),
    Host(&'m [HostPattern], IfDoubtful),
    Query(&'m QueryCondition, IfDoubtful),
    Header(&'m HeaderCondition, IfDoubtful),
}

/// A segment that must equal the value of a variable of the certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding<'m> {
    pub(super) at: usize,
    pub(super) variable: &'m Variable,
    pub(super) alternatives: &'m [Alternative],
    pub(super) if_doubtful: IfDoubtful,
}

impl<'m> Clause<'m> {
    /// Returns the clauses that grant something.
    pub(super) fn grants(model: &'m Model) -> impl Iterator<Item = Self> {
        model.clients.iter().flat_map(move |client| Self::of_client(model, client))
    }

    fn of_client(model: &'m Model, client: &'m Client) -> impl Iterator<Item = Self> {
        let mut held: Vec<u32> = client.permissions().collect();
        held.sort_unstable();
        held.dedup();
        let entry = &client.entry;
        held.into_iter().flat_map(move |permission| {
            Self::routes(model, permission).flat_map(move |(permission, route)| {
                entry.alternatives.iter().map(move |alternative| Self {
                    entry: &entry.name,
                    permission,
                    route,
                    when: entry.when.as_ref(),
                    client: Some(client),
                    alternative: Some(alternative),
                    if_doubtful: IfDoubtful::Unmet,
                })
            })
        })
    }

    /// Returns the clauses that forbid something.
    pub(super) fn denies(model: &'m Model) -> impl Iterator<Item = Self> {
        model.denies.iter().flat_map(move |deny| Self::of_deny(model, deny))
    }

    fn of_deny(model: &'m Model, deny: &'m Deny) -> impl Iterator<Item = Self> {
        let named = deny.clients.iter().flatten();
        let named = named.filter_map(|client| model.clients.get(*client as usize)).flat_map(|client| {
            client.entry.alternatives.iter().map(move |alternative| (Some(client), Some(alternative)))
        });
        let clients: Vec<_> =
            deny.clients.is_none().then_some((None, None)).into_iter().chain(named).collect();
        deny.permissions.iter().flat_map(move |permission| Self::routes(model, *permission)).flat_map(
            move |(permission, route)| {
                let clients = clients.clone();
                clients.into_iter().map(move |(client, alternative)| Self {
                    entry: &deny.entry.name,
                    permission,
                    route,
                    when: deny.entry.when.as_ref(),
                    client,
                    alternative,
                    if_doubtful: IfDoubtful::Met,
                })
            },
        )
    }

    fn routes(model: &'m Model, permission: u32) -> impl Iterator<Item = (&'m LocatedText, &'m Route)> {
        let entry = model.permissions.get(permission as usize);
        entry.into_iter().flat_map(|entry| entry.routes.iter().map(|route| (&entry.name, route)))
    }

    /// Returns the conditions beside the method, the cheapest first.
    pub(super) fn atoms(&self) -> Vec<Atom<'m>> {
        let Self { route, when, .. } = *self;
        let path = &route.path;
        let mut atoms = vec![Atom::Length { segments: path.segments.len(), rest: path.rest }];
        atoms.extend(path.segments.iter().enumerate().map(|(at, pattern)| self.segment(at, pattern)));
        let tests = self.alternative.into_iter().flat_map(|alternative| alternative.tests.iter());
        atoms.extend(tests.map(Atom::AttributeTest));
        atoms.extend(when.into_iter().flat_map(conditions));
        atoms.extend((!route.hosts.is_empty()).then_some(Atom::Host(&route.hosts, self.if_doubtful)));
        atoms.extend(route.query.iter().map(|condition| Atom::Query(condition, self.if_doubtful)));
        atoms.extend(route.headers.iter().map(|condition| Atom::Header(condition, self.if_doubtful)));
        atoms
    }

    fn segment(&self, at: usize, pattern: &'m Segment) -> Atom<'m> {
        match pattern {
            Segment::Client(variable) => {
                let alternatives = self.client.map(|client| client.entry.alternatives.as_slice());
                let alternatives = alternatives.unwrap_or_default();
                Atom::Binding(Binding { at, variable, alternatives, if_doubtful: self.if_doubtful })
            }
            pattern => Atom::Segment { at, pattern },
        }
    }

    pub(super) fn applies_to(&self, input: &PolicyInput) -> bool {
        self.route.methods.contains(input.target.method())
            && self.atoms().iter().all(|atom| atom.holds(input))
    }
}

fn conditions(when: &When) -> Vec<Atom<'_>> {
    let source = (!when.source.is_empty()).then_some(Atom::Source(&when.source));
    let from = when.from.map(Atom::From);
    let until = when.until.map(Atom::Until);
    let week = when.week.as_ref().map(Atom::Week);
    [source, from, until, week].into_iter().flatten().collect()
}

impl Atom<'_> {
    fn holds(&self, input: &PolicyInput) -> bool {
        let segment = |at: usize| input.target.segments().nth(at);
        match *self {
            Self::AttributeTest(test) => test.holds(&input.identity),
            Self::Source(networks) => networks.iter().any(|network| network.contains(input.source)),
            Self::From(from) => from <= input.now,
            Self::Until(until) => input.now < until,
            Self::Week(week) => week.holds(input.now),
            Self::Length { segments, rest } => {
                let length = input.target.segments().count();
                length == segments || (rest && length > segments)
            }
            Self::Segment { at, pattern } => segment(at).is_some_and(|text| pattern.fits(text)),
            Self::Binding(binding) => {
                let text = bind(binding.alternatives, &input.identity, binding.variable);
                segment(binding.at).is_some_and(|segment| binding.holds(text.as_deref(), segment))
            }
            Self::Host(hosts, if_doubtful) => host::holds(hosts, input.host.as_deref().into(), if_doubtful),
            Self::Query(condition, if_doubtful) => condition.holds(input.target.query(), if_doubtful),
            Self::Header(condition, if_doubtful) => condition.holds(Some(&input.headers), if_doubtful),
        }
    }
}

impl Binding<'_> {
    fn holds(&self, text: Option<&str>, segment: &[u8]) -> bool {
        match text {
            Some(text) => text.as_bytes() == segment,
            None => self.if_doubtful == IfDoubtful::Met && !segment.is_empty(),
        }
    }
}

impl Segment {
    /// Returns true if the pattern matches a segment. A `{client.NAME}` matches every segment that is not empty.
    fn fits(&self, segment: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *segment,
            Self::Glob(glob) => glob.matches(segment),
            Self::Any | Self::Client(_) => !segment.is_empty(),
        }
    }
}
