//! The snapshot by which requests are judged: policy, trust, limits and identity headers. It is complete before it is
//! visible, replaced as a whole, and one and the same for each request.

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

pub(crate) use limits::HttpLimits;
pub(crate) use timeouts::ClientTimeouts;

/// One generation of everything that can change while connections are open.
#[derive(Debug)]
pub struct Live {
    /// The number of the snapshot in this process, from 1. What was derived from another snapshot is derived anew.
    pub generation: u64,
    /// The policy in force.
    pub policy: Arc<Policy>,
    /// The texts that the policy was compiled from.
    pub sources: Arc<[Arc<Source>]>,
    /// The treatment of denied requests.
    pub mode: Mode,
    /// The shadow policy, if one is configured.
    pub shadow_policy: Option<ShadowPolicy>,
    /// The client CAs and CRLs.
    pub trust: Arc<Trust>,
    /// The server's side of TLS, for new connections.
    pub tls: FromFiles<ServerConfig>,
    /// The ends of validity of the server's certificates.
    pub server_expiries: Arc<[Expiry]>,
    /// The terms of requests to the backend.
    pub backend: Arc<forward::Terms>,
    /// Time limits of client connections.
    pub client_timeouts: ClientTimeouts,
    /// The bounds of HTTP.
    pub limits: HttpLimits,
    /// The rules for request targets.
    pub paths: target::TargetRules,
    /// Networks of proxies that may name the clients that they forward for.
    pub trusted_proxies: Box<[Network]>,
    /// The headers that tell the backend the identity.
    pub identity_headers: IdentitySettings,
    /// Names that are stripped from trailers beside the listed ones: configured names, and those that the policy judges,
    /// because some backends merge trailers into the headers.
    pub stripped_of_trailers: StripPatterns,
    /// Audit records are kept, which show identities.
    pub keeps_records: bool,
    /// The token of the admin listener, if one is configured.
    pub admin_token: Option<Token>,
    /// Time that a stopping server waits for requests in progress.
    pub drain_timeout: Duration,
}

/// A policy that is compared with the one in force (`shadow_policies`).
#[derive(Clone, Debug)]
pub struct ShadowPolicy {
    /// The path in the configuration.
    pub named: String,
    /// The policy. A mistake leaves the earlier one; `None` if there was none yet.
    pub shadow: Option<FromFiles<Shadow>>,
    /// Number of mistakes in the files read last.
    pub problems: usize,
}

impl Live {
    /// Permits a request to the backend, or its continuation there.
    ///
    /// # Errors
    /// The denial in force.
    pub fn permit(&self, rights: &Rights, question: &Question<'_>) -> Result<Permit, Denied> {
        self.mode.permit(self.policy.authorize(rights, question), question)
    }

    /// The shadow policy.
    pub fn shadow(&self) -> Option<&Shadow> {
        self.shadow_policy.as_ref()?.shadow.as_ref().map(|shadow| &*shadow.value)
    }

    /// The difference between the shadow policy and a verdict of the policy in force. `rights` are those that the shadow
    /// policy gives to the client.
    pub fn difference(
        &self,
        rights: Option<&Rights>,
        question: &Question<'_>,
        verdict: &Verdict,
    ) -> Option<(Timestamp, Difference)> {
        let (shadow, rights) = self.shadow().zip(rights)?;
        Some((shadow.since, shadow.difference(rights, question, verdict)?))
    }

    /// Everything that expires: the server's certificates, client CAs, CRLs.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> {
        self.server_expiries.iter().cloned().chain(self.trust.expiries())
    }
}
