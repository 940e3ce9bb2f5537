//! `sidegate.yaml` → [`Config`], in two steps like a policy: the document with its places, then its meaning.
//!
//! `keys` is the table of keys; the other modules are its subjects, each with the readers of its values and the settings
//! that it makes of them. Pure: paths are only named here, and [`crate::reload`] reads the files.

mod backend;
mod change;
mod draft;
mod headers;
mod key;
mod keys;
mod limits;
mod log;
mod paths;
mod readers;
mod tls;
mod tracing;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::tracing::level_filters::LevelFilter;

use crate::admission::{self, Bounds};
use crate::diagnostic::{Diagnostic, Place, Source};
use crate::document::{self, Budget};
use crate::forward;
use crate::forward::headers::IdentitySettings;
use crate::identity::{EkuPolicy, MissingCrl, TrustDomainPin};
use crate::live::{ClientTimeouts, HttpLimits};
use crate::policy::{Mode, Network};
use crate::target;
use crate::telemetry::{Destination, Format, RecordSettings};

use draft::Draft;
use keys::Sections;

pub use backend::BackendTls;
pub use key::{Effect, Key, Presence};
pub use keys::KEYS;
pub use tracing::Tracing;

/// A configuration that makes sense. The files that it names may still not exist.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// The server's certificates: the first, and those that are chosen by the name that a client asks for (SNI).
    pub certificates: Vec<KeyPair>,
    /// The client CAs: a PEM file or a folder of them.
    pub client_ca: Located<PathBuf>,
    /// The CRLs of client CAs: a file or a folder of them; `None` if revocation is not checked.
    pub crl: Option<Located<PathBuf>>,
    /// Time for which a CRL is accepted after its `nextUpdate`.
    pub crl_grace: Duration,
    /// The treatment of clients whose issuer has no CRL.
    pub crl_missing: MissingCrl,
    /// The trust domains of client CA files.
    pub trust_domains: Vec<TrustDomainPin>,
    /// The extended key usage that a client certificate must have.
    pub usage: EkuPolicy,
    /// The backend.
    pub backend: forward::Settings,
    /// Time limits of exchanges with the backend.
    pub backend_timeouts: forward::Timeouts,
    /// Notice that the backend gets when a client takes its request back.
    pub client_abort: forward::ClientAbort,
    /// Bounds on the headers of the backend's answers.
    pub answers: forward::AnswerLimits,
    /// Longest time that a connection to the backend may be idle.
    pub keep_idle: Duration,
    /// TLS to the backend; `None` if the connection is not encrypted.
    pub backend_tls: Option<BackendTls>,
    /// Requests that the backend works on at once.
    pub max_in_flight: usize,
    /// The percentage of places in flight that is kept for clients that hold none.
    pub reserved_for_others: usize,
    /// The queue of requests that wait for a place in flight.
    pub queue: admission::Queue,
    /// The policy: a file or a folder.
    pub policies: Located<PathBuf>,
    /// A policy that is judged beside the policy in force: a file or a folder.
    pub shadow_policies: Option<Located<PathBuf>>,
    /// The treatment of requests that the policy denies.
    pub mode: Mode,
    /// The place of `mode`; `None` if it is not written.
    pub mode_place: Option<Place>,
    /// The rules of targets.
    pub paths: target::TargetRules,
    /// The bounds on connections.
    pub limits: Limits,
    /// The time limits of connections.
    pub client_timeouts: ClientTimeouts,
    /// Proxies whose words about their own peers are trusted.
    pub trusted_proxies: Box<[Network]>,
    /// The headers that tell the backend who the client is.
    pub identity_headers: IdentitySettings,
    /// The address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// The file of the token that requests to the admin listener must have.
    pub admin_token: Option<Located<PathBuf>>,
    /// The readiness probe fails while the backend does not serve.
    pub readiness_needs_backend: bool,
    /// The least level of the log.
    pub log_level: LevelFilter,
    /// The form of the log.
    pub log_format: Format,
    /// The destination of audit records.
    pub audit: Destination,
    /// The audit records that are kept, and what they hold.
    pub keeping: RecordSettings,
    /// The export of traces; `None` if there is no collector.
    pub tracing: Option<Tracing>,
    /// Worker threads, at least one.
    pub workers: usize,
    /// Time that a stopping server gives requests to finish.
    pub drain_timeout: Duration,
}

/// The bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Slots.
    pub max_connections: usize,
    /// Slots that one client may hold; 0: no bound for one client.
    pub max_connections_per_client: usize,
    /// The percentage of each bound that is kept for clients of high priority.
    pub reserved: usize,
    /// The bounds of the lobby.
    pub lobby: Bounds,
    /// The bounds of HTTP.
    pub http: HttpLimits,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The chain, leaf first.
    pub certificate: Located<PathBuf>,
    /// The leaf's key.
    pub key: Located<PathBuf>,
}

/// A value and the place where it is written, so that a problem that is found later can point there.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// The place.
    pub place: Place,
}

/// A value given beside the file: by a flag or in the environment.
#[derive(Clone, Debug)]
pub struct Override {
    /// The key, as `limits.max_connections`.
    pub key: &'static str,
    /// The flag or variable as the name, the value as the text.
    pub source: Arc<Source>,
}

impl Config {
    /// Reads a configuration. Relative paths are relative to `folder`; overrides win over the file.
    ///
    /// # Errors
    /// Every problem of the configuration, each with its place.
    pub fn build(
        source: &Arc<Source>,
        folder: &Path,
        overrides: &[Override],
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let overrides = draft::parse_overrides(overrides, &mut diagnostics);
        let root = match document::parse(source, Budget::CONFIGURATION) {
            Ok(root) => root,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                return Err(diagnostics);
            }
        };
        let mut draft = Draft { source, folder, root: root.as_ref(), overrides: &overrides, diagnostics };
        let config = Sections::read(&mut draft).and_then(|sections| sections.config(&mut draft));
        match config {
            Some(config) if draft.diagnostics.is_empty() => Ok(config),
            _ => Err(draft.diagnostics),
        }
    }

    /// The bounds of the whole process.
    #[must_use]
    pub const fn admission(&self) -> admission::Limits {
        let Limits { max_connections, max_connections_per_client, reserved, lobby, .. } = self.limits;
        admission::Limits {
            max_connections,
            max_connections_per_client,
            max_in_flight: self.max_in_flight,
            reserved_for_others: self.reserved_for_others,
            queue: self.queue,
            reserved,
            lobby,
        }
    }
}

impl Sections {
    /// The configuration; `None` if a key is missing, which is noted in the draft.
    fn config(self, draft: &mut Draft<'_>) -> Option<Config> {
        let Self { root, tls, mut backend, limits, lobby, http, paths, admin, log, .. } = self;
        let bounds = limits::limits(&limits, &lobby, &http);
        let client_timeouts = limits::client_timeouts(&limits, &lobby, &http);
        let queue = limits::queue(&backend);
        let paths = paths::rules(&paths, &http);
        let identity_headers = headers::settings(self.identity_headers, draft);
        let check = backend::check(self.health, draft);
        let url = backend.url.take();
        let settings = backend::settings(url, self.backend_tls, check, &self.breaker, draft);
        // All sections are read before the first error ends the build, so that every mistake is reported at once.
        let (settings, backend_tls) = settings?;
        Some(Config {
            listen: root.listen,
            certificates: tls::certificates(tls.certificate, tls.key, tls.certificates)?,
            client_ca: tls.client_ca?,
            crl: tls.crl,
            crl_grace: tls.crl_grace,
            crl_missing: tls.crl_missing,
            trust_domains: tls.trust_domains,
            usage: tls.require_client_auth_eku,
            backend: settings,
            backend_timeouts: backend::timeouts(&backend, &http),
            client_abort: backend.ignore_client_abort,
            answers: backend::answers(&backend),
            keep_idle: backend.keep_idle,
            backend_tls,
            max_in_flight: backend.max_in_flight,
            reserved_for_others: backend.reserved_for_others,
            queue,
            policies: root.policies?,
            shadow_policies: root.shadow_policies,
            mode: root.mode,
            mode_place: draft.place("mode"),
            paths,
            limits: bounds,
            client_timeouts,
            trusted_proxies: root.trusted_proxies,
            identity_headers,
            admin: Some(admin.listen),
            admin_token: admin.token_file,
            readiness_needs_backend: admin.readiness_needs_backend,
            log_level: log.level,
            log_format: log.format,
            audit: log.audit,
            keeping: RecordSettings { sample: log.audit_sample, query: log.audit_query },
            tracing: tracing::settings(self.tracing),
            workers: worker_threads(root.workers),
            drain_timeout: root.drain_timeout,
        })
    }
}

/// The number of worker threads; 0 stands for the CPUs that a container's quota and affinity leave.
fn worker_threads(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}
