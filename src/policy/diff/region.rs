//! A region is the set of requests for which some atoms hold and others do not. This module finds one request in it.

use http::Method;
use jiff::Timestamp;

use super::super::Upgrade;
use super::super::condition::{HeaderCondition, IfDoubtful, Network, QueryCondition};
use super::binding::JointConstraints;
use super::certificate::CertificateConstraints;
use super::clause::{Atom, Binding};
use super::host::HostConstraints;
use super::language::BudgetExceeded;
use super::parameter;
use super::path::PathConstraints;
use super::request::ExampleRequest;
use super::source;
use super::time::TimeConstraints;

/// The constraints on each part of a request.
#[derive(Clone, Debug)]
pub(super) struct Region<'m> {
    method: Method,
    upgrade: Option<Upgrade>,
    sources: Vec<(&'m [Network], bool)>,
    times: TimeConstraints<'m>,
    paths: PathConstraints<'m>,
    certificate: CertificateConstraints<'m>,
    bindings: Vec<(Binding<'m>, bool)>,
    hosts: HostConstraints<'m>,
    query: Vec<(&'m QueryCondition, IfDoubtful, bool)>,
    headers: Vec<(&'m HeaderCondition, IfDoubtful, bool)>,
}

impl<'m> Region<'m> {
    /// Returns the region of all requests with that method that ask for that switch of protocols, or for none.
    pub(super) fn of_method(method: Method, upgrade: Option<Upgrade>) -> Self {
        Self {
            method,
            upgrade,
            sources: Vec::new(),
            times: TimeConstraints::default(),
            paths: PathConstraints::default(),
            certificate: CertificateConstraints::default(),
            bindings: Vec::new(),
            hosts: HostConstraints::default(),
            query: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Returns the part of the region in which the atom holds, or the part in which the atom does not hold.
    pub(super) fn with(mut self, atom: Atom<'m>, wanted: bool) -> Self {
        match atom {
            Atom::AttributeTest(test) => self.certificate.tests.push((test, wanted)),
            Atom::Source(networks) => self.sources.push((networks, wanted)),
            Atom::From(from) if wanted => self.times.from.push(from),
            Atom::From(from) => self.times.until.push(from),
            Atom::Until(until) if wanted => self.times.until.push(until),
            Atom::Until(until) => self.times.from.push(until),
            Atom::Week(week) => self.times.weeks.push((week, wanted)),
            Atom::Length { segments, rest } => self.paths.lengths.push((segments, rest, wanted)),
            Atom::Segment { at, pattern } => self.paths.segments.push((at, pattern, wanted)),
            Atom::Binding(binding) => self.bindings.push((binding, wanted)),
            Atom::Host(hosts, if_doubtful) => self.hosts.conditions.push((hosts, if_doubtful, wanted)),
            Atom::Query(condition, if_doubtful) => self.query.push((condition, if_doubtful, wanted)),
            Atom::Header(condition, if_doubtful) => self.headers.push((condition, if_doubtful, wanted)),
        }
        self
    }

    /// Returns a request of the region; `None` if the region is empty.
    pub(super) fn request(&self, now: Timestamp) -> Result<Option<ExampleRequest>, BudgetExceeded> {
        let Some(source) = source::address(&self.sources) else { return Ok(None) };
        let Some(host) = self.hosts.host()? else { return Ok(None) };
        let Some(query) = parameter::query(&self.query)? else { return Ok(None) };
        let Some(headers) = parameter::headers(&self.headers)? else { return Ok(None) };
        let constraints =
            JointConstraints { certificate: &self.certificate, paths: &self.paths, bindings: &self.bindings };
        let Some((attributes, segments)) = constraints.solve()? else { return Ok(None) };
        let Some(now) = self.times.instant(now) else { return Ok(None) };
        Ok(Some(ExampleRequest {
            attributes,
            method: self.method.clone(),
            segments,
            host,
            query,
            headers,
            source,
            now,
            upgrade: self.upgrade,
            host_matters: !self.hosts.conditions.is_empty(),
            source_matters: !self.sources.is_empty(),
            time_matters: !self.times.is_empty(),
        }))
    }
}
