//! The last refusals, for the people who are asked why. Each worker keeps its own, in memory that no other worker
//! touches and only a refusal writes; what is forwarded never comes here. An explanation is worked out when somebody asks
//! for one, from what was kept.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use rustls::pki_types::CertificateDer;

use super::{RequestId, cut};
use crate::policy::Rule;
use crate::refusal::Reason;

/// Of clients that are known, and of strangers: so many of each, so that a flood of the one kind does not wash away the
/// other.
const MOST_KEPT: usize = 1_000;
/// Longer names are cut.
const LONGEST_NAME: usize = 256;
/// Longer queries are not kept, nor headers of more bytes: then the explanation is without them, and says so.
const LONGEST_QUERY: usize = 1_024;
/// A longer chain is not kept.
const LONGEST_CHAIN: usize = 8 * 1_024;

/// A certificate chain, leaf first.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// One refusal, with what it takes to explain it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When it was refused.
    pub time: Timestamp,
    /// When it came: the instant by which it was judged.
    pub judged_at: Timestamp,
    /// The request's id, which its client was told.
    pub request_id: RequestId,
    /// The peer.
    pub source: SocketAddr,
    /// The snapshot that it was refused under.
    pub generation: u64,
    /// Who asked, as far as that is known: of a stranger what its certificate says, which nobody vouches for.
    pub client: Option<Box<str>>,
    /// The chain of a client that is known, unless it is long.
    pub chain: Option<Chain>,
    /// What was asked.
    pub request: RequestSummary,
    /// Why it was refused.
    pub reason: Reason,
    /// What the client was told.
    pub detail: Box<str>,
    /// The deny rule that forbade it.
    pub rule: Option<Arc<Rule>>,
}

/// A request, as far as it is kept.
#[derive(Clone, Debug, Default)]
pub struct RequestSummary {
    /// Its method; nothing where it was no HTTP.
    pub method: Option<Method>,
    /// Its path, cut where it is long.
    pub path: Box<str>,
    /// Its query. It may hold secrets: it serves to explain, and is shown to nobody.
    pub query: Option<Box<str>>,
    /// The headers that the policy looks at, and no others.
    pub headers: HeaderMap,
    /// The host that it names, where the policy looks at it.
    pub host: Option<Box<str>>,
    /// Something of it was too long to be kept.
    pub is_cut: bool,
}

impl RequestSummary {
    /// What is kept of a request.
    #[must_use]
    pub fn of(method: &Method, uri: &Uri, headers: HeaderMap, host: Option<&str>) -> Self {
        let path = cut(uri.path());
        let query = uri.query().filter(|query| query.len() <= LONGEST_QUERY);
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let is_cut = path.len() < uri.path().len()
            || query.is_none() && uri.query().is_some()
            || size > LONGEST_QUERY
            || kept_method(method).is_none();
        Self {
            method: kept_method(method),
            path: path.into(),
            query: query.map(Box::from),
            headers: if size > LONGEST_QUERY { HeaderMap::new() } else { headers },
            // A host that has one reading is no longer than a name of DNS and a port.
            host: host.map(Box::from),
            is_cut,
        }
    }
}

/// A method, if it is short enough to be kept.
#[must_use]
pub fn kept_method(method: &Method) -> Option<Method> {
    (method.as_str().len() <= LONGEST_NAME).then(|| method.clone())
}

/// A name as it is kept.
#[must_use]
pub fn kept_name(mut name: String) -> Box<str> {
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name.into()
}

/// A chain, if it is short enough to be kept.
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
    /// Keeps one; the oldest of its kind makes room.
    pub fn keep(&self, refused: Refused) {
        let is_known = !matches!(refused.reason, Reason::NotAuthenticated | Reason::InvalidCertificate);
        let ring = if is_known { &self.of_clients } else { &self.of_strangers };
        ring.push(Arc::new(refused));
    }

    /// All that are kept, in no particular order.
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
        // Given back when nobody waits for the ring.
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
        assert_eq!(kept_name(long).len(), LONGEST_NAME);
    }
}
