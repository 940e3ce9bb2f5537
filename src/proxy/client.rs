//! Clients: the verdict on one certificate chain, shared by all connections that present the chain, and valid only for a while.

mod remembered;
mod verdicts;

use std::fmt;

use jiff::Timestamp;

use crate::admission::{Admission, Allowance};
use crate::forward::headers::IdentityHeaders;
use crate::identity::{Attribute, Authenticated, Identity};
use crate::live::Live;
use crate::policy::Rights;
use crate::printable;
use crate::telemetry::{Chain, RecordedIdentity};

use remembered::Fingerprint;

pub(in crate::proxy) use verdicts::Stranger;
pub use verdicts::Verdicts;

/// Longest name of a client in records and views, in bytes of JSON; the rest is cut. A certificate may hold 64 KiB of it.
const LONGEST_NAME: usize = 1024;

/// An authenticated client: identity, rights and headers, made once per chain and generation of the snapshot.
pub struct Client {
    /// The verified path, which is judged again when the verdict may be out of date. Other certificates that were presented
    /// are not kept: they prove nothing, and can take 64 KiB. If a later trust bundle needs them, the client is refused and
    /// has to connect again.
    pub chain: Chain,
    /// The fingerprint of the path.
    path: Fingerprint,
    /// The time of the verdict. Nothing is known of the time before it, should the clock be set back.
    judged_at: Timestamp,
    /// End of the verdict.
    pub(super) valid_until: Timestamp,
    generation: u64,
    /// The rights that the policy gives to the client.
    pub rights: Rights,
    /// The rights that the shadow policy would give.
    pub shadow: Option<Rights>,
    /// The client's share of slots, places in flight and requests per second.
    pub allowance: Allowance,
    /// The headers that tell the backend the identity.
    pub headers: IdentityHeaders,
    /// The name in records: the certificate's subject, or its first other name.
    pub name: String,
    /// The identity for audit records; only where records are kept.
    pub recorded_identity: Option<RecordedIdentity>,
    /// The client entries of the policy that match.
    pub grants: Vec<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Client {
    fn new(
        verdict: Authenticated,
        chain: Chain,
        path: Fingerprint,
        admission: &Admission,
        live: &Live,
        now: Timestamp,
    ) -> Self {
        let Authenticated { identity, valid_until, .. } = verdict;
        let rights = live.policy.rights(&identity);
        Self {
            judged_at: now,
            valid_until,
            generation: live.generation,
            grants: rights.clients().iter().map(ToString::to_string).collect(),
            allowance: admission.allowance(&identity, &rights),
            headers: IdentityHeaders::of(&live.identity_headers, &identity, &chain),
            name: printable::cut(name_of(&identity), LONGEST_NAME).into_owned(),
            recorded_identity: live.keeps_records.then(|| RecordedIdentity::of(&identity)),
            shadow: live.shadow().map(|shadow| shadow.policy.rights(&identity)),
            rights,
            chain,
            path,
        }
    }

    /// The memory that the client takes, in bytes, about.
    fn footprint(&self) -> usize {
        let certificates = self.chain.iter().map(|der| der.len() + size_of_val(der)).sum::<usize>();
        let grants = self.grants.iter().map(|grant| grant.len() + size_of_val(grant)).sum::<usize>();
        let rights = self.rights.footprint() + self.shadow.as_ref().map_or(0, Rights::footprint);
        let recorded_identity = self.recorded_identity.as_ref().map_or(0, RecordedIdentity::footprint);
        size_of::<Self>()
            + certificates
            + grants
            + rights
            + recorded_identity
            + self.headers.footprint()
            + self.name.len()
    }

    /// `true` while the verdict holds.
    pub(super) fn holds(&self, generation: u64, now: Timestamp) -> bool {
        self.generation == generation && self.judged_at <= now && now <= self.valid_until
    }
}

/// The name of an identity, in one line: the certificate's subject, or its first other name.
fn name_of(identity: &Identity) -> &str {
    let names = [Attribute::Subject, Attribute::Uri, Attribute::Dns, Attribute::Fingerprint];
    names.into_iter().find_map(|name| identity.values(name).next()).unwrap_or_default()
}
