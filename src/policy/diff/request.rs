//! An example request, constructed to show how two policies differ.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;

use super::super::{Policy, Question, Upgrade};
use crate::identity::{Attribute, Identity};
use crate::target::Target;

/// The values that a query or a header has for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Occurrence {
    Once(String),
    /// Two different values. A condition on the name is then doubtful.
    Twice,
}

/// An example request, with the attributes of its certificate.
#[derive(Clone, Debug)]
pub(crate) struct ExampleRequest {
    pub(crate) attributes: Vec<(Attribute, String)>,
    pub(crate) method: Method,
    pub(super) segments: Vec<Vec<u8>>,
    pub(crate) host: Option<String>,
    pub(super) query: Vec<(String, Occurrence)>,
    pub(super) headers: Vec<(HeaderName, Occurrence)>,
    pub(crate) source: IpAddr,
    pub(crate) now: Timestamp,
    pub(crate) upgrade: Option<Upgrade>,
    /// True if a condition decided the host. Otherwise the host is the default one and is not shown. The next two
    /// fields say the same of the address and the time.
    pub(crate) host_matters: bool,
    pub(crate) source_matters: bool,
    pub(crate) time_matters: bool,
}

/// The request in the form in which an engine decides it.
#[derive(Clone, Debug)]
pub(super) struct PolicyInput {
    pub(super) identity: Identity,
    pub(super) target: Target,
    pub(super) host: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) source: IpAddr,
    pub(super) now: Timestamp,
    pub(super) upgrade: Option<Upgrade>,
}

impl ExampleRequest {
    /// Returns path and query as a client sends them.
    pub(crate) fn target(&self) -> String {
        let mut target = String::new();
        for segment in &self.segments {
            target.push('/');
            encode(segment, &mut target);
        }
        if self.segments.is_empty() {
            target.push('/');
        }
        let mut separator = '?';
        for (name, value) in pairs(&self.query) {
            target.push(separator);
            separator = '&';
            encode(name.as_bytes(), &mut target);
            target.push('=');
            encode(value.as_bytes(), &mut target);
        }
        target
    }

    /// Returns each header line as a client sends it.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        pairs(&self.headers).collect()
    }

    /// Returns the request for the engine; `None` if the proxy would refuse the request before a decision.
    pub(super) fn input(&self) -> Option<PolicyInput> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers() {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
        }
        Some(PolicyInput {
            identity: Identity::from_attributes(self.attributes.iter().cloned()),
            target: format!("{} {}", self.method, self.target()).parse().ok()?,
            host: self.host.clone(),
            headers,
            source: self.source,
            now: self.now,
            upgrade: self.upgrade,
        })
    }
}

impl PolicyInput {
    /// Returns true if the policy allows the request and, if the request asks for WebSocket, the switch too.
    pub(super) fn is_allowed(&self, policy: &Policy) -> bool {
        let question = self.question();
        let permit = policy.authorize(&policy.rights(&self.identity), &question);
        permit.is_ok_and(|permit| self.upgrade.is_none() || permit.allows_upgrade())
    }

    fn question(&self) -> Question<'_> {
        Question {
            target: &self.target,
            host: self.host.as_deref().into(),
            headers: Some(&self.headers),
            source: self.source,
            now: self.now,
            upgrade: self.upgrade,
        }
    }
}

/// Returns a pair for each name and value, as a client sends them.
pub(super) fn pairs<N: AsRef<str>>(all: &[(N, Occurrence)]) -> impl Iterator<Item = (&str, &str)> {
    all.iter().flat_map(|(name, occurrence)| {
        let (first, second) = match occurrence {
            Occurrence::Once(value) => (value.as_str(), None),
            Occurrence::Twice => ("x", Some("y")),
        };
        std::iter::once(first).chain(second).map(move |value| (name.as_ref(), value))
    })
}

pub(super) fn encode(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' => {
                out.push(char::from(*byte));
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}
