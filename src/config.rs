//! `sidegate.yaml` → [`Config`], in two steps like a policy: the document with its places, then what it means. Pure:
//! paths are only named here; [`crate::reload`] reads what they name.

mod backend;
mod change;
mod keys;
mod tracing;
mod trust;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::tracing::level_filters::LevelFilter;
use http::HeaderName;

use crate::admission::{self, Bounds};
use crate::client_headers::{self, StripPattern};
use crate::diagnostic::{Code, Diagnostic, Place, Source, did_you_mean};
use crate::document::{self, Budget, Fields, Node, Reader};
use crate::forward;
use crate::forward::headers::{Custom, IdentitySettings};
use crate::identity::{Attribute, EkuPolicy, MissingCrl, TrustDomainPin};
use crate::live::{HttpLimits, Patience};
use crate::policy::{Mode, Network};
use crate::secret;
use crate::target;
use crate::telemetry::{Destination, Format, Keeping, Share};

pub use backend::BackendTls;
pub use keys::{KEYS, Key};
pub use tracing::Tracing;

/// A configuration that makes sense. What it names may still not exist.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect to.
    pub listen: SocketAddr,
    /// The server's certificates: the first, and those that are chosen by the name that a client asks for.
    pub certificates: Vec<KeyPair>,
    /// The client CAs: a PEM file or a folder of them.
    pub client_ca: Located<PathBuf>,
    /// Their CRLs: a file or a folder of them; nothing where revocation is not checked.
    pub crl: Option<Located<PathBuf>>,
    /// How long a CRL is believed after its `nextUpdate`.
    pub crl_grace: Duration,
    /// What becomes of clients whose issuer has no CRL.
    pub crl_missing: MissingCrl,
    /// The trust domains of client CA files.
    pub trust_domains: Vec<TrustDomainPin>,
    /// What is asked of a client certificate's extended key usage.
    pub usage: EkuPolicy,
    /// Where requests go.
    pub backend: forward::Settings,
    /// How it is trusted, where it is spoken to by TLS.
    pub backend_tls: Option<BackendTls>,
    /// How many of them at once.
    pub max_in_flight: usize,
    /// Percent of them that only clients may take that hold none.
    pub reserved_for_others: usize,
    /// Those that wait for it.
    pub queue: admission::Queue,
    /// The policy: a file or a folder.
    pub policies: Located<PathBuf>,
    /// A policy that is judged beside it: a file or a folder.
    pub shadow_policies: Option<Located<PathBuf>>,
    /// What becomes of what the policy denies, where it is said.
    pub mode: Option<Located<Mode>>,
    /// What a path may hold.
    pub paths: target::TargetRules,
    /// The bounds on connections.
    pub limits: Limits,
    /// How long connections may do nothing.
    pub patience: Patience,
    /// Proxies that are believed what they say of their own peers.
    pub trusted_proxies: Box<[Network]>,
    /// How the backend is told who the client is.
    pub identity_headers: IdentitySettings,
    /// Where the admin listener is.
    pub admin: Option<SocketAddr>,
    /// The file of the token that whoever asks there must show.
    pub admin_token: Option<Located<PathBuf>>,
    /// Whether the readiness probe asks for a backend that serves, too.
    pub readiness_needs_backend: bool,
    /// The least level of the log.
    pub log_level: LevelFilter,
    /// The form of the log.
    pub log_format: Format,
    /// Where audit records go.
    pub audit: Destination,
    /// Which are kept, and what they tell.
    pub keeping: Keeping,
    /// Where traces go, if anywhere.
    pub tracing: Option<Tracing>,
    /// Worker threads, at least one.
    pub workers: usize,
    /// How long a stopping server waits for what runs.
    pub drain_timeout: Duration,
}

/// The bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Slots.
    pub max_connections: usize,
    /// Slots that one client may hold; 0: as many as there are.
    pub max_connections_per_client: usize,
    /// Percent of everything that is kept for clients of high priority.
    pub reserved: usize,
    /// Of the lobby.
    pub lobby: Bounds,
    /// Of HTTP itself.
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

/// A value, and where it was written, so that what is found out about it later can point there.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

/// A value given beside the file: by a flag or in the environment.
#[derive(Clone, Debug)]
pub struct Override {
    /// The key, as `limits.max_connections`.
    pub key: &'static str,
    /// The flag or variable as its name, the value as its text.
    pub source: Arc<Source>,
}

impl Config {
    /// Reads a configuration. `folder` is what relative paths are relative to; overrides win over the file.
    ///
    /// # Errors
    /// Every problem of the configuration, each with its place.
    pub fn build(
        source: &Arc<Source>,
        folder: &Path,
        overrides: &[Override],
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let given = parse_overrides(overrides, &mut diagnostics);
        let root = match document::parse(source, Budget::CONFIGURATION) {
            Ok(root) => root,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                return Err(diagnostics);
            }
        };
        let mut draft = Draft { source, folder, given: &given, diagnostics };
        let config = draft.config(root.as_ref());
        match config {
            Some(config) if draft.diagnostics.is_empty() => Ok(config),
            _ => Err(draft.diagnostics),
        }
    }

    /// What becomes of what the policy denies.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.as_ref().map(|mode| mode.value).unwrap_or_default()
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

/// An override as a document of its own.
struct Given<'o> {
    key: &'static str,
    source: &'o Arc<Source>,
    node: Node<'o>,
}

/// An override may be a whole mapping (`{X-Client-Name: common_name}`); a text is a document too.
fn parse_overrides<'o>(overrides: &'o [Override], diagnostics: &mut Vec<Diagnostic>) -> Vec<Given<'o>> {
    let mut given = Vec::new();
    for Override { key, source } in overrides {
        match document::parse(source, Budget::CONFIGURATION) {
            Ok(Some(node)) => given.push(Given { key, source, node }),
            Ok(None) => given.push(Given { key, source, node: Node::of_text(source) }),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    given
}

/// A configuration while it is read: every mistake is noted, and reading goes on.
struct Draft<'a> {
    source: &'a Arc<Source>,
    folder: &'a Path,
    given: &'a [Given<'a>],
    diagnostics: Vec<Diagnostic>,
}

/// A section of the file: its path with a final dot, and its fields if it was written.
struct Section<'n> {
    path: &'static str,
    fields: Option<Fields<'n, 'n>>,
}

impl<'a> Draft<'a> {
    fn config(&mut self, root: Option<&Node<'_>>) -> Option<Config> {
        let root = self.section_of("", "the configuration", root);
        let tls = self.section(&root, "tls.", "tls");
        let backend = self.section(&root, "backend.", "backend");
        let backend_tls = self.section(&backend, "backend.tls.", "tls");
        let breaker = self.section(&backend, "backend.breaker.", "breaker");
        let health = self.section(&backend, "backend.health.", "health");
        let limits = self.section(&root, "limits.", "limits");
        let lobby = self.section(&limits, "limits.lobby.", "lobby");
        let http = self.section(&limits, "limits.http.", "http");
        let paths = self.section(&root, "paths.", "paths");
        let identity = self.section(&root, "identity_headers.", "identity_headers");
        let admin = self.section(&root, "admin.", "admin");
        let log = self.section(&root, "log.", "log");
        let traces = self.section(&root, "tracing.", "tracing");

        let certificates = self.certificates(&tls);
        let client_ca = self.required_path(&tls, "client_ca");
        let policies = self.required_path(&root, "policies");
        let (settings, backend_tls) = {
            let health = (self.breaker(&breaker), self.check(&health));
            self.backend(&backend, &backend_tls, &http, health)
        };
        let crl = self.optional_path(&tls, "crl");
        let trust_domains = self.trust_domains(&tls);
        let require_eku = self.boolean(&tls, "require_client_auth_eku");
        let max_in_flight = self.count(&backend, "max_in_flight");
        let reserved_for_others = self.number(&backend, "reserved_for_others", 0..=90);
        let queue = self.queue(&backend);
        let limits_read = self.limits(&limits, &lobby, &http);
        let patience = Patience {
            handshake: self.duration(&lobby, "handshake_timeout"),
            request: self.duration(&lobby, "request_timeout"),
            lobby_idle: self.duration(&lobby, "idle_timeout"),
            idle: self.duration(&limits, "idle_timeout"),
            upgrade_idle: self.duration(&limits, "upgrade_idle_timeout"),
            write: self.duration(&http, "write_timeout"),
        };
        let paths = target::TargetRules {
            max_length: self.number(&http, "max_target_bytes", 1..=65_534),
            allowed: self.allowed_paths(&paths),
        };
        let log_level = self.choice(&log, "level", &LEVELS, LevelFilter::INFO);
        let log_format = self.choice(&log, "format", &FORMATS, Format::Json);
        // Nothing is given up before everything has been read: each mistake is worth a line.
        let config = Config {
            listen: self.address(&root, "listen"),
            trusted_proxies: self.networks(&root, "trusted_proxies"),
            identity_headers: self.identity_headers(&identity),
            admin: Some(self.address(&admin, "listen")),
            admin_token: self.optional_path(&admin, "token_file"),
            readiness_needs_backend: self.boolean(&admin, "readiness_needs_backend"),
            log_level,
            log_format,
            audit: self.audit(&log),
            tracing: self.tracing(&traces),
            keeping: Keeping {
                sample: self.share(&log, "audit_sample"),
                query: self.boolean(&log, "audit_query"),
            },
            workers: self.workers(&root),
            drain_timeout: self.duration(&root, "drain_timeout"),
            certificates: certificates?,
            client_ca: client_ca?,
            crl,
            crl_grace: self.crl_grace(&tls),
            crl_missing: self.crl_missing(&tls),
            trust_domains,
            usage: if require_eku { EkuPolicy::ClientAuthRequired } else { EkuPolicy::ClientAuthIfPresent },
            backend: settings?,
            backend_tls,
            max_in_flight,
            reserved_for_others,
            queue,
            policies: policies?,
            shadow_policies: self.optional_path(&root, "shadow_policies"),
            mode: self.read(&root, "mode", |reader, node| reader.choice(node, &Mode::ALL)),
            paths,
            limits: limits_read,
            patience,
        };
        Some(config)
    }

    fn limits(&mut self, limits: &Section<'_>, lobby: &Section<'_>, http: &Section<'_>) -> Limits {
        let per_second = self.count(lobby, "connections_per_second");
        Limits {
            max_connections: self.count(limits, "max_connections"),
            max_connections_per_client: self.number(limits, "max_connections_per_client", 0..=10_000_000),
            reserved: self.number(limits, "reserved_for_high_priority", 0..=90),
            lobby: Bounds {
                max_connections: self.count(lobby, "max_connections"),
                max_per_source: self.count(lobby, "max_per_source"),
                connections_per_second: u32::try_from(per_second)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .unwrap_or(NonZeroU32::MAX),
                handshakes: self.count(lobby, "handshakes"),
            },
            http: self.http_limits(http),
        }
    }

    fn http_limits(&mut self, http: &Section<'_>) -> HttpLimits {
        HttpLimits {
            // hyper needs a buffer of 8 KiB.
            header_bytes: self.number(http, "max_header_bytes", 8192..=1_048_576),
            headers: self.number(http, "max_headers", 1..=10_000),
            streams: u32::try_from(self.number(http, "max_streams", 1..=100_000)).unwrap_or(1),
            pending_resets: self.number(http, "max_pending_resets", 1..=10_000),
            provoked_resets: self.number(http, "max_provoked_resets", 1..=100_000),
        }
    }

    /// A section below another, where it was written.
    fn section<'n>(&mut self, parent: &Section<'n>, path: &'static str, key: &str) -> Section<'n> {
        let node = parent.fields.as_ref().and_then(|fields| fields.optional(key));
        let what = SECTION_NAMES.iter().find(|(section, _)| *section == path).map_or("it", |(_, what)| what);
        self.section_of(path, what, node)
    }

    fn section_of<'n>(
        &mut self,
        path: &'static str,
        what: &'static str,
        node: Option<&'n Node<'n>>,
    ) -> Section<'n> {
        let known = keys::below(path);
        let fields = node.and_then(|node| self.reader().fields(node, what, &known));
        Section { path, fields }
    }

    fn reader(&mut self) -> Reader<'_> {
        Reader::new(self.source, &mut self.diagnostics)
    }

    /// Reads the value of a key from wherever it was given; `None` where it was given nowhere, or is wrong.
    fn read<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        read: impl FnOnce(&mut Reader<'_>, &Node<'_>) -> Option<T>,
    ) -> Option<Located<T>> {
        let given = self.given;
        let is_it = |given: &&Given<'_>| given.key.strip_prefix(section.path) == Some(key);
        let (source, node) = match given.iter().rev().find(is_it) {
            Some(given) => (given.source, &given.node),
            None => (self.source, section.fields.as_ref()?.optional(key)?),
        };
        let mut reader = Reader::new(source, &mut self.diagnostics);
        let value = read(&mut reader, node)?;
        Some(Located { value, place: reader.place(node) })
    }

    /// Reads a key that has a default, which is written as an author would write it.
    fn read_or_default<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        read: impl Fn(&mut Reader<'_>, &Node<'_>) -> Option<T>,
        fallback: T,
    ) -> T {
        if let Some(located) = self.read(section, key, &read) {
            return located.value;
        }
        let default = keys::default_of(section.path, key);
        let source = Source::new("default", default);
        read(&mut Reader::new(&source, &mut Vec::new()), &Node::of_text(&source)).unwrap_or(fallback)
    }

    fn count(&mut self, section: &Section<'_>, key: &str) -> usize {
        self.number(section, key, 1..=10_000_000)
    }

    fn number(&mut self, section: &Section<'_>, key: &str, bounds: RangeInclusive<u64>) -> usize {
        let read = |reader: &mut Reader<'_>, node: &Node<'_>| reader.integer(node, bounds.clone());
        let number = self.read_or_default(section, key, read, *bounds.start());
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn allowed_paths(&mut self, section: &Section<'_>) -> target::AllowedForms {
        let allowed = self.read(section, "allow", |reader, node| {
            let forms =
                reader.list(node)?.iter().filter_map(|item| reader.choice(item, &target::PathForm::ALL));
            Some(forms.fold(target::AllowedForms::NONE, target::AllowedForms::with))
        });
        allowed.map(|allowed| allowed.value).unwrap_or_default()
    }

    fn duration(&mut self, section: &Section<'_>, key: &str) -> Duration {
        let read = |reader: &mut Reader<'_>, node: &Node<'_>| {
            let duration = reader.duration(node)?;
            if duration.is_zero() {
                let help = "there is no way to wait for ever, or not at all".to_owned();
                reader.error(
                    Code::BadDuration,
                    node,
                    "a length of time longer than nothing is expected",
                    Some(help),
                );
                return None;
            }
            Some(duration)
        };
        self.read_or_default(section, key, read, Duration::from_secs(10))
    }

    /// A length of time that may be nothing at all.
    fn duration_or_none(&mut self, section: &Section<'_>, key: &str) -> Duration {
        self.read_or_default(section, key, |reader, node| reader.duration(node), Duration::ZERO)
    }

    /// A share of all requests.
    fn share(&mut self, section: &Section<'_>, key: &str) -> Share {
        let read = |reader: &mut Reader<'_>, node: &Node<'_>| {
            let text = reader.text(node)?;
            let share = text.parse().ok().and_then(Share::of);
            if share.is_none() {
                let help = Some("write 0.1 for one in ten".to_owned());
                reader.error(
                    Code::BadNumber,
                    node,
                    format!("a number from 0 to 1 is expected, not `{text}`"),
                    help,
                );
            }
            share
        };
        self.read_or_default(section, key, read, Share::ALL)
    }

    fn boolean(&mut self, section: &Section<'_>, key: &str) -> bool {
        self.read_or_default(section, key, |reader, node| reader.boolean(node), false)
    }

    fn choice<T: Copy>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        choices: &[(&'static str, T)],
        fallback: T,
    ) -> T {
        self.read_or_default(section, key, |reader, node| reader.choice(node, choices), fallback)
    }

    fn workers(&mut self, root: &Section<'_>) -> usize {
        let workers = self.read_or_default(root, "workers", |reader, node| reader.integer(node, 0..=1024), 0);
        match usize::try_from(workers).unwrap_or(0) {
            // Counts the CPUs that a container's quota and affinity leave.
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        }
    }

    fn address(&mut self, section: &Section<'_>, key: &str) -> SocketAddr {
        let read = |reader: &mut Reader<'_>, node: &Node<'_>| {
            let text = reader.text(node)?;
            let address = text.parse().ok();
            if address.is_none() {
                let help = "write an IP address and a port, as in `0.0.0.0:8443` or `[::]:8443`".to_owned();
                reader.error(
                    Code::BadAddress,
                    node,
                    format!("`{text}` is no address to listen on"),
                    Some(help),
                );
            }
            address
        };
        self.read_or_default(section, key, read, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn required_path(&mut self, section: &Section<'_>, key: &str) -> Option<Located<PathBuf>> {
        let before = self.diagnostics.len();
        let located = self.optional_path(section, key);
        if located.is_none() && self.diagnostics.len() == before {
            self.missing(section, key);
        }
        located
    }

    fn optional_path(&mut self, section: &Section<'_>, key: &str) -> Option<Located<PathBuf>> {
        let folder = self.folder;
        self.read(section, key, |reader, node| path_of(reader, node).map(|path| folder.join(path)))
    }

    fn missing(&mut self, section: &Section<'_>, key: &str) {
        let path = format!("{}{key}", section.path);
        let span = section.fields.as_ref().map(Fields::span).unwrap_or_default();
        let place = Place::new(self.source, span);
        let help = match section.path.trim_end_matches('.') {
            "" => format!("add `{key}: …`"),
            section => format!("add `{key}: …` below `{section}:`"),
        };
        self.diagnostics
            .push(Diagnostic::error(Code::MissingKey, format!("`{path}` is missing")).at(place).help(help));
    }

    fn identity_headers(&mut self, section: &Section<'_>) -> IdentitySettings {
        let custom = self.read(section, "custom", |reader, node| {
            let entries = reader.entries(node, "`custom`")?;
            Some(
                entries
                    .into_iter()
                    .filter_map(|(name, key, value)| custom_header(reader, name, key, value))
                    .collect(),
            )
        });
        let custom: Arc<Custom> = custom.map_or_else(|| Vec::new().into(), |custom| custom.value);
        let stripped = self.read(section, "strip", |reader, node| {
            let items = reader.list(node)?.iter();
            Some(items.filter_map(|item| stripped_header(reader, item, &custom)).collect::<Vec<_>>())
        });
        let named = stripped.map(|stripped| stripped.value).unwrap_or_default();
        let stripped = custom.iter().map(|(name, _)| StripPattern::of(name)).chain(named).collect();
        IdentitySettings {
            client_cert: self.boolean(section, "client_cert"),
            client_cert_chain: self.boolean(section, "client_cert_chain"),
            xfcc: self.boolean(section, "xfcc"),
            custom,
            stripped,
        }
    }

    fn networks(&mut self, section: &Section<'_>, key: &str) -> Box<[Network]> {
        let networks = self.read(section, key, |reader, node| {
            let items = reader.list(node)?.iter();
            Some(items.filter_map(|item| network(reader, item)).collect())
        });
        networks.map(|networks| networks.value).unwrap_or_default()
    }

    fn audit(&mut self, section: &Section<'_>) -> Destination {
        let folder = self.folder;
        let read = |reader: &mut Reader<'_>, node: &Node<'_>| {
            Some(match reader.name(node)? {
                "stdout" => Destination::Stdout,
                "none" => Destination::None,
                _ => Destination::File(folder.join(path_of(reader, node)?)),
            })
        };
        self.read_or_default(section, "audit", read, Destination::Stdout)
    }
}

const SECTION_NAMES: [(&str, &str); 13] = [
    ("tls.", "`tls`"),
    ("backend.", "`backend`"),
    ("backend.tls.", "`backend.tls`"),
    ("backend.breaker.", "`backend.breaker`"),
    ("backend.health.", "`backend.health`"),
    ("limits.", "`limits`"),
    ("limits.lobby.", "`limits.lobby`"),
    ("limits.http.", "`limits.http`"),
    ("paths.", "`paths`"),
    ("identity_headers.", "`identity_headers`"),
    ("admin.", "`admin`"),
    ("log.", "`log`"),
    ("tracing.", "`tracing`"),
];

const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("text", Format::Text)];

/// The path of a file, which is no key that was given in place of it.
fn path_of<'n>(reader: &mut Reader<'_>, node: &'n Node<'_>) -> Option<&'n str> {
    let path = reader.name(node)?;
    let checked = secret::refuse_key_as_path(path, reader.place(node));
    checked.map_err(|problem| reader.report(problem)).ok().map(|()| path)
}

fn network(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Network> {
    let network = Network::parse(reader.name(node)?);
    network.map_err(|(message, help)| reader.error(Code::BadNetwork, node, message, help)).ok()
}

/// One entry of `identity_headers.custom`.
fn custom_header(
    reader: &mut Reader<'_>,
    name: &str,
    key: &Node<'_>,
    value: &Node<'_>,
) -> Option<(HeaderName, Attribute)> {
    let text = reader.text(value)?;
    let attribute = Attribute::from_name(text);
    if attribute.is_none() {
        let help = did_you_mean(text, Attribute::ALL.iter().map(|attribute| attribute.name()));
        reader.error(
            Code::UnknownAttribute,
            value,
            format!("`{text}` is nothing that a certificate says"),
            help,
        );
    }
    let header = HeaderName::from_bytes(name.as_bytes()).ok();
    match &header {
        None => reader.error(Code::BadHeader, key, format!("`{name}` is no name of a header"), None),
        Some(header) if client_headers::is_reserved(header) => {
            let help = "choose a name of its own, such as `X-Client-Name`".to_owned();
            reader.error(
                Code::BadHeader,
                key,
                format!("`{name}` has a meaning of its own in HTTP"),
                Some(help),
            );
            return None;
        }
        Some(_) => {}
    }
    header.zip(attribute)
}

/// One entry of `identity_headers.strip`.
fn stripped_header(reader: &mut Reader<'_>, node: &Node<'_>, custom: &Custom) -> Option<StripPattern> {
    let text = reader.text(node)?;
    let wrong = match StripPattern::parse(text) {
        Ok(own) if custom.iter().any(|(name, _)| own.matches(name.as_str()) && !text.ends_with('*')) => {
            let help =
                "a name of `custom` is stripped already, before it is set; leave it out here".to_owned();
            (format!("`{text}` is a header of `custom`"), help)
        }
        Ok(own) => return Some(own),
        Err(wrong) => wrong,
    };
    reader.error(Code::BadHeader, node, wrong.0, Some(wrong.1));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    fn built(text: &str, overrides: &[(&'static str, &str, &str)]) -> Result<Config, Vec<String>> {
        let source = Source::new("sidegate.yaml", text);
        let overrides: Vec<_> = overrides
            .iter()
            .map(|(key, name, text)| Override { key, source: Source::new(*name, *text) })
            .collect();
        Config::build(&source, Path::new("/etc/sidegate"), &overrides)
            .map_err(|diagnostics| diagnostics.iter().map(|diagnostic| diagnostic.human(false)).collect())
    }

    const LEAST: &str = "
tls: { certificate: a.crt, key: /k, client_ca: ca/ }
backend: { url: http://127.0.0.1:8080 }
policies: policies
";

    #[test]
    fn the_least_configuration_has_safe_defaults() {
        let config = built(LEAST, &[]).unwrap();
        assert_eq!(config.listen.to_string(), "0.0.0.0:8443");
        let KeyPair { certificate, key } = &config.certificates[0];
        assert_eq!((&*certificate.value, &*key.value), (Path::new("/etc/sidegate/a.crt"), Path::new("/k")));
        assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:9901");
        assert_eq!((config.limits.max_connections, config.max_in_flight), (1000, 512));
        assert_eq!(config.limits.lobby.max_per_source, 100);
        assert_eq!(config.patience.idle, Duration::from_secs(75));
        assert_eq!(config.drain_timeout, Duration::from_secs(25));
        assert_eq!(config.audit, Destination::Stdout);
        assert!(config.identity_headers.client_cert && !config.identity_headers.xfcc);
        assert!(config.workers >= 1);
    }

    #[test]
    fn a_flag_or_variable_wins_over_the_file_and_is_named_where_it_is_wrong() {
        let config =
            built(LEAST, &[("limits.lobby.max_connections", "SIDEGATE_LIMITS_LOBBY_MAX_CONNECTIONS", "7")]);
        assert_eq!(config.unwrap().limits.lobby.max_connections, 7);
        let custom = ("identity_headers.custom", "--identity-headers-custom", "{X-Who: common_name}");
        assert_eq!(built(LEAST, &[custom]).unwrap().identity_headers.custom.len(), 1);
        let wrong = built(LEAST, &[("workers", "--workers", "many")]).unwrap_err();
        assert!(wrong[0].contains("--workers") && wrong[0].contains("`many`"), "{wrong:?}");
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let wrong = built(
            "listen: nowhere\ntls: { certificate: a, kee: b }\nbackend: { url: ftp://x, max_in_flight: 0 }\nlimits: { idle_timeout: 5, http: { max_target_bytes: 70000 } }\nlog: { level: loud }\nidentity_headers: { custom: { Host: common_name, X-A: comon_name } }\npaths: { allow: [encoded_slash, semicolons] }\ntrusted_proxies: [10.1.0.0/8]\n",
            &[],
        )
        .unwrap_err()
        .join("\n");
        for expected in [
            "`nowhere` is no address",
            "unknown key `kee`",
            "`tls.key` is missing",
            "`tls.client_ca` is missing",
            "`policies` is missing",
            "starts with `http://`",
            "a whole number from 1",
            "such as `500ms`, `5s` or `2m`",
            "not `loud`",
            "`Host` has a meaning of its own",
            "`comon_name` is nothing that a certificate says",
            "did you mean `semicolon`?",
            "a whole number from 1 to 65534",
            "write `10.0.0.0/8` for that network",
        ] {
            assert!(wrong.contains(expected), "{expected}\n--\n{wrong}");
        }
    }

    #[test]
    fn a_part_of_the_places_is_a_percentage_and_never_all() {
        let with = |percent: &str| {
            built(
                &LEAST.replace(
                    "http://127.0.0.1:8080",
                    &format!("http://127.0.0.1:8080, reserved_for_others: {percent}"),
                ),
                &[],
            )
        };
        assert_eq!(built(LEAST, &[]).unwrap().reserved_for_others, 10);
        for (percent, kept) in [("0", 0), ("1", 5), ("90", 460)] {
            assert_eq!(with(percent).unwrap().admission().kept_for_others(), kept, "{percent}");
        }
        for percent in ["91", "100", "-1", "10%", "0.5", "some"] {
            let wrong = with(percent).unwrap_err().join("\n");
            assert!(wrong.contains("a whole number from 0 to 90 is expected"), "{percent}: {wrong}");
        }
    }

    #[test]
    fn backend_urls() {
        let url = |url: &str| built(&LEAST.replace("http://127.0.0.1:8080", url), &[]);
        for (written, location, authority, protocol) in [
            ("http://events.internal", "events.internal:80", "events.internal", Protocol::Http1),
            ("'http://[::1]:8080/'", "[::1]:8080", "[::1]:8080", Protocol::Http1),
            ("h2c://10.0.0.1:50051", "10.0.0.1:50051", "10.0.0.1:50051", Protocol::Http2),
            ("'unix:/run/app.sock'", "/run/app.sock", "localhost", Protocol::Http1),
            ("'unix:///run/app.sock'", "/run/app.sock", "localhost", Protocol::Http1),
            ("'unix:app.sock'", "/etc/sidegate/app.sock", "localhost", Protocol::Http1),
            ("'unix+h2c:/run/app.sock'", "/run/app.sock", "localhost", Protocol::Http2),
            ("'https://events:443', tls: { ca: ca.pem }", "events:443", "events", Protocol::Http1),
            (
                "'h2://events', tls: { ca: c, certificate: a, key: b }",
                "events:443",
                "events",
                Protocol::Http2,
            ),
        ] {
            let settings = url(written).unwrap_or_else(|wrong| panic!("{written}: {wrong:?}")).backend;
            assert_eq!(
                (settings.location.to_string().as_str(), settings.authority.as_str(), settings.protocol),
                (location, authority, protocol)
            );
        }
        for (bad, expected) in [
            ("127.0.0.1:8080", "starts with `http://`"),
            ("ftp://h", "starts with `http://`"),
            ("http://", "no URL"),
            ("http://u@h", "a user beside it"),
            ("http://h/api", "has no path"),
            ("http://h:0", "from 1 to 65535"),
            ("http://h:99999", "from 1 to 65535"),
            ("'unix:'", "the path of the socket is missing"),
            ("https://h", "`backend.tls.ca` is missing"),
            ("'https://h', tls: { ca: a, key: b }", "`backend.tls.certificate` is missing"),
            ("'https://h', tls: { ca: a, certificate: b }", "`backend.tls.key` is missing"),
            ("'https://h', tls: { ca: a, server_name: 'a b' }", "is no name of a server"),
            ("'http://h', tls: { ca: a }", "has no effect"),
            ("'http://h', health: { interval: 1s }", "`backend.health.interval` has no effect"),
            ("'http://h', health: { path: healthz }", "`healthz` is no path to ask for"),
            ("'http://h', breaker: { failures: -1 }", "a whole number from 0"),
            ("'http://h', breaker: { pause: 0s }", "a length of time longer than nothing"),
        ] {
            let wrong = url(bad).map(|_| ()).unwrap_err().join("\n");
            assert!(wrong.contains(expected), "{bad}: {wrong}");
        }
    }
}
