//! The snapshot that requests are judged by: policy, trust, limits and how identities are told. Complete before it is
//! visible, swapped in whole, and one and the same for the whole of a request.

mod limits;
mod timeouts;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;

use crate::client_headers::StripPatterns;
use crate::diagnostic::Source;
use crate::forward;
use crate::forward::headers::IdentitySettings;
use crate::from_files::FromFiles;
use crate::identity::{Expiry, Trust};
use crate::policy::{Denied, Difference, Mode, Network, Permit, Policy, Question, Rights, Shadow, Verdict};
use crate::target;
use crate::token::Token;

pub use limits::HttpLimits;
pub use timeouts::Patience;

/// One generation of everything that can change while connections are open.
#[derive(Debug)]
pub struct Live {
    /// Counts the snapshots of this process, from 1. Whatever was worked out under another one is worked out again.
    pub generation: u64,
    /// What clients may do.
    pub policy: Arc<Policy>,
    /// The texts that it was compiled from.
    pub sources: Arc<[Arc<Source>]>,
    /// What becomes of what it denies.
    pub mode: Mode,
    /// A policy that is tried beside it, if one is named.
    pub shadow_policy: Option<ShadowPolicy>,
    /// Who says who they are.
    pub trust: Arc<Trust>,
    /// The server's side of TLS, for new connections.
    pub tls: FromFiles<ServerConfig>,
    /// When the server's certificates expire.
    pub server_expiries: Arc<[Expiry]>,
    /// The terms of requests to the backend.
    pub backend: Arc<forward::Terms>,
    /// How long connections may do nothing.
    pub patience: Patience,
    /// The bounds of HTTP itself.
    pub limits: HttpLimits,
    /// What may be asked for.
    pub paths: target::TargetRules,
    /// Proxies that are believed what they say of their own peers.
    pub trusted_proxies: Box<[Network]>,
    /// How the backend is told who they are.
    pub identity_headers: IdentitySettings,
    /// Names that are stripped of trailers beside the listed ones: the user's own, and those that the policy judges,
    /// because some backends merge trailers into the headers.
    pub stripped_of_trailers: StripPatterns,
    /// Whether audit records are kept, which tell who they are as well.
    pub keeps_records: bool,
    /// What whoever asks the admin listener must show, where it is configured.
    pub admin_token: Option<Token>,
    /// How long a stopping server waits for what runs.
    pub drain_timeout: Duration,
}

/// A policy that is tried beside the one in force (`shadow_policies`).
#[derive(Clone, Debug)]
pub struct ShadowPolicy {
    /// How the configuration names it.
    pub named: String,
    /// What is judged. A mistake leaves what was there; at first that is nothing.
    pub shadow: Option<FromFiles<Shadow>>,
    /// How many mistakes are in what was read last.
    pub problems: usize,
}

impl Live {
    /// Whether a request may go to the backend, or go on there.
    ///
    /// # Errors
    /// The denial that is in force.
    pub fn permit(&self, rights: &Rights, question: &Question<'_>) -> Result<Permit, Denied> {
        self.mode.permit(self.policy.authorize(rights, question), question)
    }

    /// The policy that is judged beside the one in force.
    pub fn shadow(&self) -> Option<&Shadow> {
        self.shadow_policy.as_ref()?.shadow.as_ref().map(|shadow| &*shadow.value)
    }

    /// Where it differs from a verdict of the one in force. The rights are those that it gives to the client.
    pub fn difference(
        &self,
        rights: Option<&Rights>,
        question: &Question<'_>,
        verdict: &Verdict,
    ) -> Option<(Timestamp, Difference)> {
        let (shadow, rights) = self.shadow().zip(rights)?;
        Some((shadow.since, shadow.difference(rights, question, verdict)?))
    }

    /// Everything of it that expires: the server's certificates, client CAs, CRLs.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> {
        self.server_expiries.iter().cloned().chain(self.trust.expiries())
    }
}
