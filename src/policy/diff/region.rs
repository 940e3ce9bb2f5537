//! Requests of which some atoms hold and others do not: a part of the space of all requests, and one request in it.

use http::Method;
use jiff::Timestamp;

use super::super::condition::{HeaderCondition, IfDoubtful, Network, QueryCondition};
use super::authority::Hosts;
use super::bound::Meeting;
use super::language::TooMuch;
use super::moment::{self, Times};
use super::parameter;
use super::path::Paths;
use super::request::Request;
use super::rule::{Atom, Bound};
use super::who::Whom;

/// What is asked in each dimension.
#[derive(Clone, Debug)]
pub(super) struct Region<'m> {
    method: Method,
    upgrade: bool,
    sources: Vec<(&'m [Network], bool)>,
    times: Times<'m>,
    paths: Paths<'m>,
    whom: Whom<'m>,
    bounds: Vec<(Bound<'m>, bool)>,
    hosts: Hosts<'m>,
    query: Vec<(&'m QueryCondition, IfDoubtful, bool)>,
    headers: Vec<(&'m HeaderCondition, IfDoubtful, bool)>,
}

impl<'m> Region<'m> {
    /// All requests with that method.
    pub(super) fn of_method(method: Method, upgrade: bool) -> Self {
        Self {
            method,
            upgrade,
            sources: Vec::new(),
            times: Times::default(),
            paths: Paths::default(),
            whom: Whom::default(),
            bounds: Vec::new(),
            hosts: Hosts::default(),
            query: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// The part of it in which the atom holds, or does not.
    pub(super) fn with(mut self, atom: Atom<'m>, is: bool) -> Self {
        match atom {
            Atom::Says(test) => self.whom.tests.push((test, is)),
            Atom::Source(networks) => self.sources.push((networks, is)),
            Atom::From(from) if is => self.times.from.push(from),
            Atom::From(from) => self.times.until.push(from),
            Atom::Until(until) if is => self.times.until.push(until),
            Atom::Until(until) => self.times.from.push(until),
            Atom::Week(week) => self.times.weeks.push((week, is)),
            Atom::Length { segments, rest } => self.paths.lengths.push((segments, rest, is)),
            Atom::Segment { at, pattern } => self.paths.segments.push((at, pattern, is)),
            Atom::Bound(bound) => self.bounds.push((bound, is)),
            Atom::Host(hosts, if_doubtful) => self.hosts.asked.push((hosts, if_doubtful, is)),
            Atom::Query(condition, if_doubtful) => self.query.push((condition, if_doubtful, is)),
            Atom::Header(condition, if_doubtful) => self.headers.push((condition, if_doubtful, is)),
        }
        self
    }

    /// A request in it; none if it is empty.
    pub(super) fn request(&self, now: Timestamp) -> Result<Option<Request>, TooMuch> {
        let Some(source) = moment::address(&self.sources) else { return Ok(None) };
        let Some(host) = self.hosts.host()? else { return Ok(None) };
        let Some(query) = parameter::query(&self.query)? else { return Ok(None) };
        let Some(headers) = parameter::headers(&self.headers)? else { return Ok(None) };
        let meeting = Meeting { whom: &self.whom, paths: &self.paths, bounds: &self.bounds };
        let Some((attributes, segments)) = meeting.found()? else { return Ok(None) };
        let Some(now) = self.times.instant(now) else { return Ok(None) };
        Ok(Some(Request {
            attributes,
            method: self.method.clone(),
            segments,
            host,
            query,
            headers,
            source,
            now,
            upgrade: self.upgrade,
            host_matters: !self.hosts.asked.is_empty(),
            source_matters: !self.sources.is_empty(),
            time_matters: !self.times.is_empty(),
        }))
    }
}
