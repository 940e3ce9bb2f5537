//! A request that is made up to tell two policies apart.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;

use super::super::{Policy, Question};
use crate::identity::{Attribute, Identity};
use crate::target::Target;

/// What a query or a header says of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Once(String),
    /// Twice, so that nobody can say which is meant.
    Twice,
}

/// A request, and the certificate that it comes with.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) attributes: Vec<(Attribute, String)>,
    pub(crate) method: Method,
    pub(super) segments: Vec<Vec<u8>>,
    pub(crate) host: Option<String>,
    pub(super) query: Vec<(String, Said)>,
    pub(super) headers: Vec<(HeaderName, Said)>,
    pub(crate) source: IpAddr,
    pub(crate) now: Timestamp,
    pub(crate) upgrade: bool,
    /// True if the host was chosen and not just taken; the same of the address and the time.
    pub(crate) host_matters: bool,
    pub(crate) source_matters: bool,
    pub(crate) time_matters: bool,
}

/// The same, as policies are asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) identity: Identity,
    pub(super) target: Target,
    pub(super) host: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) source: IpAddr,
    pub(super) now: Timestamp,
    pub(super) upgrade: bool,
}

impl Request {
    /// Path and query, as they are sent.
    pub(crate) fn target(&self) -> String {
        let mut target = String::new();
        for segment in &self.segments {
            target.push('/');
            encode(segment, &mut target);
        }
        if self.segments.is_empty() {
            target.push('/');
        }
        let mut between = '?';
        for (name, value) in pairs(&self.query) {
            target.push(between);
            between = '&';
            encode(name.as_bytes(), &mut target);
            target.push('=');
            encode(value.as_bytes(), &mut target);
        }
        target
    }

    /// Each header that it has, as it is sent.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        pairs(&self.headers).collect()
    }

    /// As policies are asked; none where the proxy would refuse it before it asks.
    pub(super) fn asked(&self) -> Option<Asked> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers() {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
        }
        Some(Asked {
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

impl Asked {
    /// Whether the policy lets it through; with an upgrade, whether it lets it switch.
    pub(super) fn is_allowed(&self, policy: &Policy) -> bool {
        let question = self.question();
        let permit = policy.authorize(&policy.rights(&self.identity), &question);
        permit.is_ok_and(|permit| !self.upgrade || permit.upgrade())
    }

    fn question(&self) -> Question<'_> {
        Question {
            target: &self.target,
            host: self.host.as_deref().into(),
            headers: Some(&self.headers),
            source: self.source,
            now: self.now,
            upgrade: self.upgrade.then_some("websocket"),
        }
    }
}

/// Names and values as they are sent.
pub(super) fn pairs<N: AsRef<str>>(all: &[(N, Said)]) -> impl Iterator<Item = (&str, &str)> {
    all.iter().flat_map(|(name, said)| {
        let (first, second) = match said {
            Said::Once(value) => (value.as_str(), None),
            Said::Twice => ("x", Some("y")),
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
