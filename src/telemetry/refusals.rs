//! The last refusals, kept so that they can be explained. Each worker keeps its own, in memory that no other worker writes; a
//! forwarded request costs nothing here. An explanation is made when it is asked for, from what was kept.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use rustls::pki_types::CertificateDer;

use super::RequestId;
use crate::policy::Rule;
use crate::printable;
use crate::refusal::Reason;

/// Number of kept refusals to authenticated clients, and as many to others, so that a flood of one kind does not displace the
/// other.
const MOST_KEPT: usize = 1_000;
/// Longest name that is kept, in bytes as JSON.
const LONGEST_NAME: usize = 256;
/// Longest path that is kept, in bytes as JSON.
const LONGEST_PATH: usize = 1_024;
/// Longest query, and most bytes of headers, that are kept. An explanation without them says so.
const LONGEST_QUERY: usize = 1_024;
/// Longest chain that is kept, in bytes.
const LONGEST_CHAIN: usize = 8 * 1_024;

/// A certificate chain, leaf first.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// One refusal, with all that its explanation needs.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The time of the refusal.
    pub time: Timestamp,
    /// The time at which the request came: the instant at which it was judged.
    pub judged_at: Timestamp,
    /// The request id, which the client was told.
    pub request_id: RequestId,
    /// The peer.
    pub source: SocketAddr,
    /// The generation of the snapshot under which the request was refused.
    pub generation: u64,
    /// The client's name; of a client that is not authenticated, the name in its certificate, which proves nothing.
    pub client: Option<Box<str>>,
    /// The chain of an authenticated client, unless it is long.
    pub chain: Option<Chain>,
    /// A summary of the request.
    pub request: RequestSummary,
    /// The reason of the refusal.
    pub reason: Reason,
    /// The `detail` that the client was told.
    pub detail: Box<str>,
    /// The deny rule that denied the request.
    pub rule: Option<Arc<Rule>>,
}

/// A summary of a request, for its explanation.
#[derive(Clone, Debug, Default)]
pub struct RequestSummary {
    /// The method; `None` if the bytes were no HTTP.
    pub method: Option<Method>,
    /// The path, cut if it is long.
    pub path: Box<str>,
    /// The query. It may hold secrets: it serves to explain and is never shown.
    pub query: Option<Box<str>>,
    /// The headers that the policy depends on, and no others.
    pub headers: HeaderMap,
    /// The host that the request names, if the policy depends on it.
    pub host: Option<Box<str>>,
    /// A part of the request was too long to be kept.
    pub is_cut: bool,
}

impl RequestSummary {
    /// Returns the summary of a request.
    #[must_use]
    pub fn of(method: &Method, uri: &Uri, headers: HeaderMap, host: Option<&str>) -> Self {
        let path = printable::cut(uri.path(), LONGEST_PATH);
        let query = uri.query().filter(|query| query.len() <= LONGEST_QUERY);
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let is_cut = matches!(path, Cow::Owned(_))
            || query.is_none() && uri.query().is_some()
            || size > LONGEST_QUERY
            || kept_method(method).is_none();
        Self {
            method: kept_method(method),
            path: path.into(),
            query: query.map(Box::from),
            headers: if size > LONGEST_QUERY { HeaderMap::new() } else { headers },
            // A host that was accepted is no longer than a DNS name and a port.
            host: host.map(Box::from),
            is_cut,
        }
    }
}

/// Returns the method, if it is short enough to be kept.
#[must_use]
pub fn kept_method(method: &Method) -> Option<Method> {
    (method.as_str().len() <= LONGEST_NAME).then(|| method.clone())
}

/// Returns the name, cut if it is long.
#[must_use]
pub fn kept_name(name: &str) -> Box<str> {
    printable::cut(name, LONGEST_NAME).into()
}

/// Returns the chain, if it is short enough to be kept.
#[must_use]
pub fn kept_chain(chain: &Chain) -> Option<Chain> {
    let size: usize = chain.iter().map(|certificate| certificate.len()).sum();
    (size <= LONGEST_CHAIN).then(|| Arc::clone(chain))
}

/// The last refusals of one worker.
#[derive(Debug, Default)]
pub struct Refusals {
    of_clients: Ring,
    of_strangers: Ring,
}

#[derive(Debug, Default)]
struct Ring(Mutex<VecDeque<Arc<Refused>>>);

impl Refusals {
    /// Keeps a refusal; the oldest of its kind makes room.
    pub fn keep(&self, refused: Refused) {
        let is_known = !matches!(refused.reason, Reason::NotAuthenticated | Reason::InvalidCertificate);
        let ring = if is_known { &self.of_clients } else { &self.of_strangers };
        ring.push(Arc::new(refused));
    }

    /// All kept refusals, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Refused>> {
        let mut all: Vec<_> = self.of_clients.kept().iter().cloned().collect();
        all.extend(self.of_strangers.kept().iter().cloned());
        all
    }
}

impl Ring {
    fn push(&self, refused: Arc<Refused>) {
        let oldest = {
            let mut kept = self.kept();
            let oldest = if kept.len() >= MOST_KEPT { kept.pop_front() } else { None };
            kept.push_back(refused);
            oldest
        };
        // The memory is freed outside of the lock.
        drop(oldest);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Refused>>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RequestIds;

    fn refused(reason: Reason, path: &str) -> Refused {
        let uri: Uri = path.parse().unwrap();
        Refused {
            time: Timestamp::UNIX_EPOCH,
            judged_at: Timestamp::UNIX_EPOCH,
            request_id: RequestIds::new().next(),
            source: ([127, 0, 0, 1], 1).into(),
            generation: 1,
            client: None,
            chain: None,
            request: RequestSummary::of(&Method::GET, &uri, HeaderMap::new(), None),
            reason,
            detail: "".into(),
            rule: None,
        }
    }

    #[test]
    fn a_flood_of_strangers_washes_away_no_refusal_of_a_client_and_memory_is_bounded() {
        let refusals = Refusals::default();
        refusals.keep(refused(Reason::InsufficientPermissions, "/kept"));
        for _ in 0..5 * MOST_KEPT {
            refusals.keep(refused(Reason::NotAuthenticated, "/"));
        }
        let all = refusals.all();
        assert_eq!(all.len(), MOST_KEPT + 1);
        assert!(all.iter().any(|refused| &*refused.request.path == "/kept"));
        for number in 0..2 * MOST_KEPT {
            refusals.keep(refused(Reason::InsufficientPermissions, &format!("/{number}")));
        }
        let all = refusals.all();
        assert_eq!(all.len(), 2 * MOST_KEPT);
        assert!(!all.iter().any(|refused| &*refused.request.path == "/kept"));
    }

    #[test]
    fn what_is_long_is_not_kept_whole_and_says_so() {
        let long = "x".repeat(10_000);
        let of = |path: &str, headers: HeaderMap| {
            RequestSummary::of(&Method::GET, &path.parse().unwrap(), headers, None)
        };
        let path = of(&format!("/{long}"), HeaderMap::new());
        assert!(path.is_cut && path.path.len() <= 1_024, "{}", path.path.len());
        let query = of(&format!("/?{long}"), HeaderMap::new());
        assert!(query.is_cut && query.query.is_none());
        let headers = HeaderMap::from_iter([(http::header::COOKIE, long.parse().unwrap())]);
        let headers = of("/", headers);
        assert!(headers.is_cut && headers.headers.is_empty());
        let short = of("/a?b", HeaderMap::new());
        assert!(!short.is_cut && short.query.as_deref() == Some("b"));
        let chain = |length: usize| Chain::from(vec![CertificateDer::from(vec![0; length])]);
        assert!(
            kept_chain(&chain(LONGEST_CHAIN)).is_some() && kept_chain(&chain(LONGEST_CHAIN + 1)).is_none()
        );
        assert_eq!(kept_name(&long).len(), LONGEST_NAME);
    }
}
