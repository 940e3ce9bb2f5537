//! The snapshot that requests are judged by: policy, trust, limits and how identities are told. Complete before it is
//! visible, swapped in whole, and one and the same for the whole of a request.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::{ClientConfig, ServerConfig};

use crate::client_headers::StripPatterns;
use crate::connection::{self, Patience};
use crate::diagnostic::Source;
use crate::forward;
use crate::forward::headers::IdentitySettings;
use crate::identity::{Expiry, Trust};
use crate::policy::{Denied, Difference, Mode, Network, Permit, Policy, Question, Rights, Shadow, Verdict};
use crate::target;
use crate::token::Token;

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
    pub tried: Option<Tried>,
    /// Who says who they are.
    pub trust: Arc<Trust>,
    /// The server's side of TLS, for new connections.
    pub tls: Made<ServerConfig>,
    /// When the server's certificates expire.
    pub server_expiries: Arc<[Expiry]>,
    /// Our side of TLS to the backend, where it is spoken.
    pub backend_tls: Option<Made<ClientConfig>>,
    /// How long the backend may take.
    pub timeouts: forward::Timeouts,
    /// Notice that the backend gets when a client takes its request back.
    pub client_abort: forward::ClientAbort,
    /// How long connections may do nothing.
    pub patience: Patience,
    /// The bounds of HTTP itself.
    pub limits: connection::Limits,
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

/// Something made of files. The next snapshot has the very same while they hold the same: of TLS, whose tickets then
/// go on being good.
#[derive(Debug)]
pub struct Made<T> {
    /// What was made.
    pub value: Arc<T>,
    /// SHA-256 over what the files held.
    pub of: [u8; 32],
}

impl<T> Clone for Made<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), of: self.of }
    }
}

/// A policy that is tried beside the one in force (`shadow_policies`).
#[derive(Clone, Debug)]
pub struct Tried {
    /// How the configuration names it.
    pub named: String,
    /// What is judged. A mistake leaves what was there; at first that is nothing.
    pub shadow: Option<Made<Shadow>>,
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
        self.tried.as_ref()?.shadow.as_ref().map(|made| &*made.value)
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
