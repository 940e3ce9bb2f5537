//! What a client may do: policies in YAML, understood whole or refused whole, and decided by one walk down a path. Pure.
//!
//! From text to decision in four steps, each a module: `document` (the shape of a file, part by part), `check` (names
//! looked up, every mistake found), `compile` (one tree of routes, one index of clients), and [`Policy::authorize`].
//! From its verdict to the leave to go on is one step more, [`Mode::permit`]. Beside the road stand the tools for authors,
//! which work on the checked model.
//!
//! A deny beats every grant, the order of entries never matters, and a doubtful request is denied.

mod check;
mod compile;
mod condition;
pub(crate) mod diff;
pub(crate) mod identity_text;
mod document;
pub(crate) mod explanation;
mod hash;
pub(crate) mod history;
mod host;
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
pub(crate) mod trace;
pub(crate) mod trial;
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
use condition::IfDoubtful;
pub use condition::Network;
use document::Document;
pub(crate) use document::LocatedText;
pub use host::Host;
pub use mode::{Mode, Permit};
pub use rights::Rights;
use rights::{BoundRule, BoundRules, Clients};
pub use shadow::{Change, Difference, Shadow, deciding_rule};
use trie::{Entry, Trie};

/// A policy, ready to decide.
#[derive(Debug)]
pub struct Policy {
    trie: Trie,
    clients: Clients,
    /// The deny rules that mean everyone alike.
    denies: BoundRules,
    inputs: Inputs,
}

/// What a decision may depend on beside the client, the method and the path.
#[derive(Debug)]
struct Inputs {
    headers: Box<[http::HeaderName]>,
    hosts: bool,
    time: bool,
}

/// A request, as far as a policy looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Method, path and query.
    pub target: &'a Target,
    /// The host that it names, for routes with conditions on it.
    pub host: Host<'a>,
    /// The request's headers as they are forwarded, for routes with conditions on them. Where they are not known, every
    /// such condition is doubtful.
    pub headers: Option<&'a http::HeaderMap>,
    /// The address of the peer.
    pub source: IpAddr,
    /// The time at which it is decided.
    pub now: Timestamp,
    /// The protocol that the client asks to switch to, from its `Upgrade` header.
    pub upgrade: Option<&'a str>,
}

impl Question<'_> {
    /// Whether the client asks to switch to the one protocol that can be permitted.
    fn asks_to_switch(&self) -> bool {
        self.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
    }
}

/// A policy's yes.
#[derive(Clone, Debug)]
pub struct Granted {
    rule: Arc<Rule>,
    upgrade: bool,
}

impl Granted {
    /// The client entry that grants it.
    #[must_use]
    pub const fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Whether the switch to the protocol that was asked for is permitted too.
    #[must_use]
    pub const fn upgrade(&self) -> bool {
        self.upgrade
    }
}

/// A policy's no.
#[derive(Clone, Debug)]
pub struct Denied {
    rule: Option<Arc<Rule>>,
}

impl Denied {
    /// The deny rule that forbids it; none where no grant allows it.
    #[must_use]
    pub const fn rule(&self) -> Option<&Arc<Rule>> {
        self.rule.as_ref()
    }
}

/// What a policy says about a request. What comes of it is a matter of the [`Mode`].
pub type Verdict = Result<Granted, Denied>;

/// An entry of a policy that decided, as audit records name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The entry's `name`.
    pub name: Box<str>,
    /// The file that it is in, as it was named when the policy was read.
    pub file: Box<str>,
    /// The line of its name.
    pub line: usize,
}

impl Rule {
    /// The entry's `name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How much of the service a client may take; enforced by admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in a second, in the long run.
    pub requests_per_second: Option<u32>,
    /// Requests at once; as many as in a second where nothing is said.
    pub burst: Option<u32>,
    /// Connections that hold a slot.
    pub connections: Option<u32>,
    /// Requests in flight and in the queue, over all connections.
    pub in_flight: Option<u32>,
    /// Whether it comes before others where there is not enough for all.
    pub priority: Priority,
}

/// Who comes first where there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Everybody.
    #[default]
    Normal,
    /// Those for whom a part is kept.
    High,
}

impl Priority {
    /// All of them, with the words that authors write.
    pub const ALL: [(&'static str, Self); 2] = [("normal", Self::Normal), ("high", Self::High)];

    /// The word that authors write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl Limits {
    /// Requests at once, said or not.
    #[must_use]
    pub fn requests_at_once(self) -> Option<u32> {
        self.burst.or(self.requests_per_second)
    }

    /// Of each kind the lower bound, whether it is said or follows from another. Priority is what any entry gives.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        let lower = |a: Option<u32>, b: Option<u32>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            requests_per_second: lower(self.requests_per_second, other.requests_per_second),
            burst: lower(self.requests_at_once(), other.requests_at_once()),
            connections: lower(self.connections, other.connections),
            in_flight: lower(self.in_flight, other.in_flight),
            priority: self.priority.max(other.priority),
        }
    }
}

impl Policy {
    /// Understands all files together, whatever their order. Warnings come with the policy.
    ///
    /// # Errors
    /// Every mistake in every file; a policy with any takes no effect.
    pub fn compile(sources: &[Arc<Source>]) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (model, warnings) = model(sources)?;
        Ok((Self::of(model), warnings))
    }

    /// Compiles as [`Policy::compile`] does, for a configuration that takes further headers off the client's requests.
    ///
    /// # Errors
    /// The mistakes that [`Policy::compile`] finds, and every condition on a header that the configuration removes: a
    /// deny on it would never hold.
    pub fn compile_for(
        sources: &[Arc<Source>],
        removed: &[StripPattern],
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (model, warnings) = model(sources)?;
        let wrong = conditions_on(&model, removed);
        if wrong.is_empty() { Ok((Self::of(model), warnings)) } else { Err(first_ones(wrong)) }
    }

    /// Limits of each client entry, by its name.
    pub fn limits(&self) -> impl Iterator<Item = (&str, Limits)> {
        self.clients.limits()
    }

    /// What an identity may do. Worked out once per identity and policy, then shared between its connections.
    #[must_use]
    pub fn rights(&self, identity: &Identity) -> Rights {
        self.clients.rights(identity)
    }

    /// Decides. The rights must be this policy's own.
    ///
    /// # Errors
    /// The deny rule that forbids it, or none if no grant allows it.
    pub fn authorize(&self, rights: &Rights, question: &Question<'_>) -> Verdict {
        let mut decision = Decision::new(self, rights, question);
        match self.trie.walk(question.target.segments(), |entries| decision.consider(entries)) {
            ControlFlow::Break(verdict) => verdict,
            ControlFlow::Continue(()) => decision.verdict(),
        }
    }

    /// Whether any route has a condition on headers.
    #[must_use]
    pub const fn depends_on_headers(&self) -> bool {
        !self.inputs.headers.is_empty()
    }

    /// True if any route has a condition on the host.
    #[must_use]
    pub const fn depends_on_host(&self) -> bool {
        self.inputs.hosts
    }

    /// The headers that routes have conditions on.
    pub fn header_names(&self) -> impl Iterator<Item = &http::HeaderName> {
        self.inputs.headers.iter()
    }

    /// The headers that a route has a condition on, in every spelling, out of those given.
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

    /// Whether what is permitted now may not be permitted later, by this very policy.
    #[must_use]
    pub const fn depends_on_time(&self) -> bool {
        self.inputs.time
    }

    /// Whether no client is given anything, so that every request will be denied.
    #[must_use]
    pub fn allows_nothing(&self) -> bool {
        !self.clients.has_grants()
    }
}

/// Reads and checks all files.
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

/// Conditions on headers that a configuration removes, or sets itself.
fn conditions_on(model: &Model, removed: &[StripPattern]) -> Vec<Diagnostic> {
    let routes = model.permissions.iter().flat_map(|permission| &permission.routes);
    let conditions = routes.flat_map(|route| route.headers.iter().map(move |header| (route, &header.name)));
    let wrong = conditions.filter(|(_, name)| removed.iter().any(|own| own.matches(name.as_str())));
    let told = wrong.map(|(route, name)| {
        let message = format!(
            "no decision is ever made by `{name}`, which `identity_headers` of the configuration takes off"
        );
        let help = "use `match` for who the client is, or take the name out of `custom` and `strip`";
        Diagnostic::error(Code::BadHeader, message).at(route.place.clone()).help(help)
    });
    told.collect()
}

/// A decision that is being made: what was found on the way down the path.
struct Decision<'d> {
    policy: &'d Policy,
    rights: &'d Rights,
    question: &'d Question<'d>,
    bit: u64,
    denies: bool,
    switches: bool,
    grant: Option<&'d BoundRule>,
    upgrade: bool,
}

impl<'d> Decision<'d> {
    fn new(policy: &'d Policy, rights: &'d Rights, question: &'d Question<'d>) -> Self {
        Self {
            policy,
            rights,
            question,
            bit: policy.trie.bit(question.target.method()),
            denies: !policy.denies.is_empty() || !rights.denies.is_empty(),
            switches: question.asks_to_switch(),
            grant: None,
            upgrade: false,
        }
    }

    /// Looks at what is said at one reading of the path; breaks off as soon as nothing can change the verdict.
    fn consider(&mut self, entries: &[Entry]) -> ControlFlow<Verdict> {
        if self.denies
            && let Some(holder) = self.denied(entries)
        {
            return ControlFlow::Break(Err(Denied { rule: Some(holder.rule.clone()) }));
        }
        if self.grant.is_none() || (self.switches && !self.upgrade) {
            self.granted(entries);
        }
        match self.grant {
            Some(holder) if !self.denies && self.upgrade == self.switches => {
                ControlFlow::Break(Ok(Granted { rule: holder.rule.clone(), upgrade: self.upgrade }))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn denied(&self, entries: &[Entry]) -> Option<&'d BoundRule> {
        let (policy, rights) = (self.policy, self.rights);
        let mut found = None;
        let mut hit = |entry: &Entry, holder: &'d BoundRule| {
            let covers = holder.covers(&policy.trie, entry, self.question, self.bit, IfDoubtful::Met);
            found = covers.then_some(holder);
            covers
        };
        let _ = policy.denies.any(entries, &mut hit) || rights.denies.any(entries, &mut hit);
        found
    }

    fn granted(&mut self, entries: &[Entry]) {
        let (policy, rights, question) = (self.policy, self.rights, self.question);
        let (bit, switches) = (self.bit, self.switches);
        let (mut grant, mut upgrade) = (self.grant, self.upgrade);
        rights.grants.any(entries, |entry, holder| {
            if !holder.covers(&policy.trie, entry, question, bit, IfDoubtful::Unmet) {
                return false;
            }
            let switch =
                switches && policy.trie.conditions(entry).is_some_and(|conditions| conditions.upgrade);
            if grant.is_none() || switch {
                (grant, upgrade) = (Some(holder), switch);
            }
            upgrade == switches
        });
        (self.grant, self.upgrade) = (grant, upgrade);
    }

    fn verdict(self) -> Verdict {
        match self.grant {
            Some(holder) => Ok(Granted { rule: holder.rule.clone(), upgrade: self.upgrade }),
            None => Err(Denied { rule: None }),
        }
    }
}

#[cfg(test)]
mod tests;
