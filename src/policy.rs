//! Policies: what a client may do (DESIGN §4). A policy is written in YAML, takes effect as a whole or is refused as a
//! whole, and decides a request by one walk down the request's path. This module has no runtime, clock or files.
//!
//! A text becomes a decision in four steps, each in a module of its own: `document` reads the shape of a file, `check`
//! looks names up and reports every mistake, `compile` builds one tree of routes and one index of clients, and
//! [`Policy::authorize`] decides. [`Mode::permit`] then turns the verdict into a [`Permit`]. The tools for authors (lint,
//! diff, explain, test and others) work on the checked model, not on the compiled policy.
//!
//! A deny beats every grant, the order of entries never matters, and a doubtful request is denied.

mod check;
mod comparison;
mod compile;
mod condition;
mod decision;
pub(crate) mod diff;
pub(crate) mod identity_text;
mod document;
pub(crate) mod explanation;
pub(crate) mod history;
mod host;
mod limits;
pub(crate) mod lint;
mod matching;
pub(crate) mod matrix;
mod mode;
mod pattern;
mod rights;
mod route;
pub(crate) mod schema;
mod shadow;
pub(crate) mod suggest;
mod timeouts;
pub(crate) mod trace;
pub(crate) mod test_run;
mod trie;
pub(crate) mod who_can;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::client_headers::{StripPattern, folds_to};
use crate::diagnostic::{Code, Diagnostic, Source, first_ones};
use crate::identity::Identity;
use crate::target::Target;
pub(crate) use check::Model;
pub use condition::Network;
use decision::DecisionSearch;
use document::Document;
pub(crate) use document::LocatedText;
pub use host::Host;
pub use limits::{Limits, Priority};
pub use mode::{Mode, Permit};
pub use rights::Rights;
use rights::{BoundRules, Clients};
pub use shadow::{Change, Difference, Shadow, deciding_rule};
pub use timeouts::{RouteTimeouts, TimeLimit};
use trie::Trie;

/// A policy, ready to decide.
#[derive(Debug)]
pub struct Policy {
    trie: Trie,
    clients: Clients,
    /// Deny rules that apply to every client in the same way.
    denies: BoundRules,
    inputs: Inputs,
}

/// The parts of a request that a decision may depend on, beside the client, the method and the path.
#[derive(Debug)]
struct Inputs {
    headers: Box<[http::HeaderName]>,
    hosts: bool,
    time: bool,
    /// A route has time limits of its own.
    timeouts: bool,
}

/// The parts of a request that a policy may judge.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Method, path and query.
    pub target: &'a Target,
    /// Host that the request names, for routes with `hosts`.
    pub host: Host<'a>,
    /// Headers of the request as they are forwarded, for routes with `headers`. `None` if the headers are not known: every
    /// condition on a header is then doubtful.
    pub headers: Option<&'a http::HeaderMap>,
    /// Address of the peer.
    pub source: IpAddr,
    /// Time of the decision.
    pub now: Timestamp,
    /// Protocol that the client asks to switch to, from its `Upgrade` header.
    pub upgrade: Option<Upgrade>,
}

/// A protocol that a request asks to switch to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// WebSocket (RFC 6455), the only protocol that a route can permit.
    WebSocket,
    /// Any other protocol, which no route permits.
    Other,
}

impl Upgrade {
    /// Returns the protocol of that name, as an `Upgrade` header writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        if name.eq_ignore_ascii_case("websocket") { Self::WebSocket } else { Self::Other }
    }
}

impl Question<'_> {
    /// Returns true if the client asks to switch to WebSocket, the only protocol that a route can permit.
    fn asks_to_switch(&self) -> bool {
        self.upgrade == Some(Upgrade::WebSocket)
    }
}

/// The verdict that a client entry grants the request.
#[derive(Clone, Debug)]
pub struct Granted {
    rule: Arc<Rule>,
    upgrade: bool,
    timeouts: RouteTimeouts,
}

impl Granted {
    /// Returns the client entry that grants the request.
    #[must_use]
    pub const fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Returns true if the requested switch of protocols is granted too.
    #[must_use]
    pub const fn allows_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Returns the time limits of the routes that grant the request.
    #[must_use]
    pub const fn timeouts(&self) -> RouteTimeouts {
        self.timeouts
    }
}

/// The verdict that the request is denied, by a deny rule or because no client entry grants it.
#[derive(Clone, Debug)]
pub struct Denied {
    rule: Option<Arc<Rule>>,
}

impl Denied {
    /// Returns the deny rule that forbids the request; `None` if no client entry grants the request.
    #[must_use]
    pub const fn rule(&self) -> Option<&Arc<Rule>> {
        self.rule.as_ref()
    }
}

/// The decision of a policy about a request. The [`Mode`] says whether a denial is enforced.
pub type Verdict = Result<Granted, Denied>;

/// The client entry or deny rule that decided, as audit records name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// `name` of the entry.
    pub name: Box<str>,
    /// File of the entry, as it was named when the policy was read.
    pub file: Box<str>,
    /// Line of the entry's name, from 1.
    pub line: usize,
}

impl Rule {
    /// Returns the `name` of the entry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Policy {
    /// Compiles all files together, in any order. Returns the policy and its warnings.
    ///
    /// # Errors
    /// All mistakes of all files. A policy with a mistake takes no effect.
    pub fn compile(sources: &[Arc<Source>]) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (model, warnings) = model(sources)?;
        Ok((Self::of(model), warnings))
    }

    /// Compiles as [`Policy::compile`] does, for a configuration that removes the headers `removed` from requests.
    ///
    /// # Errors
    /// The mistakes that [`Policy::compile`] finds, and every condition on a header that the configuration removes. Such a
    /// condition never holds, so a deny rule with the condition would have no effect.
    pub fn compile_for(
        sources: &[Arc<Source>],
        removed: &[StripPattern],
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (model, warnings) = model(sources)?;
        let wrong = conditions_on_removed(&model, removed);
        if wrong.is_empty() { Ok((Self::of(model), warnings)) } else { Err(first_ones(wrong)) }
    }

    /// Returns the name and the limits of each client entry.
    pub fn limits(&self) -> impl Iterator<Item = (&str, Limits)> {
        self.clients.limits()
    }

    /// Returns what an identity may do. The connections of one identity share the rights, because computing them costs more
    /// than a decision.
    #[must_use]
    pub fn rights(&self, identity: &Identity) -> Rights {
        self.clients.rights(identity)
    }

    /// Decides about a request. The rights must come from [`Policy::rights`] of this policy.
    ///
    /// # Errors
    /// [`Denied`], with the deny rule that forbids the request, or without a rule if no client entry grants the request.
    pub fn authorize(&self, rights: &Rights, question: &Question<'_>) -> Verdict {
        let mut decision = DecisionSearch::new(self, rights, question);
        match self.trie.walk(question.target.segments(), |entries| decision.consider(entries)) {
            ControlFlow::Break(verdict) => verdict,
            ControlFlow::Continue(()) => decision.verdict(),
        }
    }

    /// Returns true if any route has a condition on headers.
    #[must_use]
    pub const fn depends_on_headers(&self) -> bool {
        !self.inputs.headers.is_empty()
    }

    /// Returns true if any route has a condition on the host.
    #[must_use]
    pub const fn depends_on_host(&self) -> bool {
        self.inputs.hosts
    }

    /// Returns the names of the headers that routes have conditions on.
    pub fn header_names(&self) -> impl Iterator<Item = &http::HeaderName> {
        self.inputs.headers.iter()
    }

    /// Returns the headers that a route has a condition on, and the headers whose names some backends read as the same name.
    #[must_use]
    pub fn relevant_headers(&self, headers: &http::HeaderMap) -> http::HeaderMap {
        let mut kept = http::HeaderMap::new();
        for (name, value) in headers {
            if self.header_names().any(|looked_at| folds_to(name.as_str(), looked_at.as_str())) {
                kept.append(name, value.clone());
            }
        }
        kept
    }

    /// Returns true if the decision about a request may change with time (`when` of an entry).
    #[must_use]
    pub const fn depends_on_time(&self) -> bool {
        self.inputs.time
    }

    /// Returns true if no client entry grants anything, so that every request will be denied.
    #[must_use]
    pub fn allows_nothing(&self) -> bool {
        !self.clients.has_grants()
    }
}

/// Reads and checks all files. Returns the checked model and its warnings, or all diagnostics if there is an error.
pub(crate) fn model(sources: &[Arc<Source>]) -> Result<(Model, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut document = Document::default();
    for source in sources {
        document.read(source, &mut diagnostics);
    }
    match Model::check(document, &mut diagnostics) {
        Some(model) => Ok((model, diagnostics)),
        None => Err(first_ones(diagnostics)),
    }
}

/// Reports each condition on a header that the configuration removes from requests, or sets.
fn conditions_on_removed(model: &Model, removed: &[StripPattern]) -> Vec<Diagnostic> {
    let routes = model.permissions.iter().flat_map(|permission| &permission.routes);
    let conditions = routes.flat_map(|route| route.headers.iter().map(move |header| (route, &header.name)));
    let wrong = conditions.filter(|(_, name)| removed.iter().any(|own| own.matches(name.as_str())));
    let diagnostics = wrong.map(|(route, name)| {
        let message = format!(
            "a condition on `{name}` can never be met: `identity_headers` in `sidegate.yaml` removes this header from every request"
        );
        let help = "to test who the client is, use `match`; or remove the name from `identity_headers.custom` and `identity_headers.strip`";
        Diagnostic::error(Code::BadHeader, message).at(route.place.clone()).help(help)
    });
    diagnostics.collect()
}

#[cfg(test)]
mod tests;
