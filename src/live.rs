//! The snapshot that requests are judged by: policy, trust and how identities are told. Complete before it is
//! visible, swapped in whole, and one and the same for the whole of a request.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use crate::forward::headers::IdentitySettings;
use crate::identity::{Expiry, Trust};
use crate::policy::{Network, Policy};
use crate::target;

/// One generation of everything that can change while connections are open.
#[derive(Debug)]
pub struct Live {
    /// Counts the snapshots of this process, from 1. Whatever was worked out under another one is worked out again.
    pub generation: u64,
    /// What clients may do.
    pub policy: Policy,
    /// Who says who they are.
    pub trust: Trust,
    /// The server's side of TLS, for new connections.
    pub tls: Arc<ServerConfig>,
    /// When the server's certificate expires.
    pub server_expiry: Option<Expiry>,
    /// Our side of TLS to the backend, where it is spoken.
    pub backend_tls: Option<Arc<ClientConfig>>,
    /// What may be asked for.
    pub paths: target::Rules,
    /// Proxies that are believed what they say of their own peers.
    pub trusted_proxies: Box<[Network]>,
    /// How the backend is told who they are.
    pub identity_headers: IdentitySettings,
    /// Whether audit records are kept, which tell who they are as well.
    pub keeps_records: bool,
}

impl Live {
    /// Everything of it that expires: the server's certificate, client CAs, CRLs.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> {
        self.server_expiry.iter().cloned().chain(self.trust.expiries())
    }
}
