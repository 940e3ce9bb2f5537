//! Checking and building: the content of a part becomes one whole piece of a snapshot, or the list of all its problems.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::contents::{BackendHeld, Held, KeyPairHeld, Material};
use super::part::Part;
use crate::client_headers::{StripPattern, StripPatterns};
use crate::config::{BackendTls, Config, KeyPair, Located};
use crate::diagnostic::{Code, Diagnostic, Source};
use crate::digest::sha256_of_value;
use crate::forward;
use crate::from_files::FromFiles;
use crate::handshake;
use crate::identity::{Expiry, ExpiryKind, NotAuthority, Trust, TrustFile, TrustSources, check_authority};
use crate::live::{Live, ShadowPolicy};
use crate::pem;
use crate::policy::{Mode, Policy, Shadow};
use crate::secret::Secret;
use crate::telemetry::Destination;
use crate::token::Token;

/// The snapshot being built, and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) generation: u64,
    pub(super) now: Timestamp,
}

/// The pieces of a snapshot beside the configuration: the last good one of each part. A part that has not changed is shared
/// between snapshots and not built again.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    server: Option<ServerSide>,
    trust: Option<Arc<Trust>>,
    policies: Option<Policies>,
    shadow_policy: Option<ShadowPolicy>,
    backend_tls: Option<FromFiles<ClientConfig>>,
    admin_token: Option<Token>,
}

#[derive(Clone, Debug)]
struct ServerSide {
    tls: FromFiles<ServerConfig>,
    expiries: Arc<[Expiry]>,
}

#[derive(Clone, Debug)]
struct Policies {
    policy: Arc<Policy>,
    sources: Arc<[Arc<Source>]>,
}

impl Pieces {
    /// Checks the content of a part and takes it over as a whole, with the warnings about it. After a problem the piece stays
    /// as it was. (Warnings about expiry are not among these: see [`Pieces::expiring`].)
    ///
    /// # Errors
    /// Every problem of the part, each with its place.
    pub(super) fn take_over(
        &mut self,
        material: Material,
        config: &Config,
        moment: Moment,
    ) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        match material {
            Material::Configuration(source) => source.map(|_| enforces_nothing(config).into_iter().collect()),
            Material::ServerCertificates(held) => {
                let before = self.server.as_ref().map(|server| &server.tls);
                let tls = server_side(config, &held, before)?;
                self.server = Some(ServerSide { tls, expiries: server_expiries(config, &held) });
                Ok(Vec::new())
            }
            Material::ClientTrust { authorities, crls } => {
                let (trust, mut warnings) = trust(config, authorities, crls, moment)?;
                warnings.retain(|warning| !is_of_expiry(warning));
                self.trust = Some(Arc::new(trust));
                Ok(warnings)
            }
            Material::Policies(held) => self.take_over_policies(config, held?, moment),
            Material::ShadowPolicies(held) => self.take_over_shadow(config, held, moment),
            Material::BackendTls(held) => {
                let Some((tls, held)) = config.backend_tls.as_ref().zip(held) else {
                    self.backend_tls = None;
                    return Ok(Vec::new());
                };
                let warnings = held.ca.as_ref().map_or_else(|_| Vec::new(), |ca| own_anchors(tls, ca));
                self.backend_tls = Some(client_side(tls, held, self.backend_tls.as_ref())?);
                Ok(warnings)
            }
            Material::AdminToken(held) => {
                let held = config.admin_token.as_ref().zip(held);
                self.admin_token = held.map(|(named, held)| token(named, held)).transpose()?;
                Ok(Vec::new())
            }
        }
    }

    /// Compares the shadow policy with this policy from now on; earlier differences count no more.
    fn take_over_policies(
        &mut self,
        config: &Config,
        sources: Vec<Arc<Source>>,
        moment: Moment,
    ) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let (policy, warnings) = Policy::compile_for(&sources, &config.identity_headers.stripped)?;
        self.policies = Some(Policies { policy: Arc::new(policy), sources: sources.into() });
        if let Some(made) = self.shadow_policy.as_mut().and_then(|tried| tried.shadow.as_mut()) {
            made.value = Arc::new(Shadow { policy: Arc::clone(&made.value.policy), since: moment.now });
        }
        Ok(warnings)
    }

    /// Builds the shadow policy. A mistake leaves the last one in force and is counted.
    fn take_over_shadow(
        &mut self,
        config: &Config,
        held: Option<Held<Vec<Arc<Source>>>>,
        moment: Moment,
    ) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let before = self.shadow_policy.take().and_then(|tried| tried.shadow);
        let Some((named, held)) = config.shadow_policies.as_ref().zip(held) else { return Ok(Vec::new()) };
        let digest = sha256_of_value(&held);
        let stripped = &config.identity_headers.stripped;
        let compiled = held.and_then(|sources| Policy::compile_for(&sources, stripped));
        let problems = compiled.as_ref().map_or_else(Vec::len, |_| 0);
        let (shadow, told) = match compiled {
            Ok((policy, warnings)) => {
                let since =
                    before.filter(|made| made.digest == digest).map_or(moment.now, |made| made.value.since);
                (
                    Some(FromFiles { value: Arc::new(Shadow { policy: Arc::new(policy), since }), digest }),
                    Ok(warnings),
                )
            }
            Err(problems) => {
                let goes_on = shadow_problem(named, before.is_some());
                (before, Err(std::iter::once(goes_on).chain(problems).collect()))
            }
        };
        self.shadow_policy =
            Some(ShadowPolicy { named: named.value.display().to_string(), shadow, problems });
        told
    }

    /// Returns the snapshot; `None` while a piece is missing without which no request can be served.
    pub(super) fn live(&self, config: &Config, generation: u64) -> Option<Live> {
        let (server, policies) = (self.server.as_ref()?, self.policies.as_ref()?);
        // A configured token that could not be read yet must not be missing: every client of the admin listener would be let
        // in.
        let unknown = config.admin_token.as_ref().map(|_| Token::unmatchable());
        Some(Live {
            generation,
            policy: Arc::clone(&policies.policy),
            sources: Arc::clone(&policies.sources),
            mode: config.mode,
            shadow_policy: self.shadow_policy.clone(),
            trust: Arc::clone(self.trust.as_ref()?),
            tls: server.tls.clone(),
            server_expiries: Arc::clone(&server.expiries),
            backend: Arc::new(forward::Terms {
                timeouts: config.backend_timeouts,
                client_abort: config.client_abort,
                answers: config.answers,
                keep_idle: config.keep_idle,
                discard: config.limits.http.discard,
                tls: self.backend_tls.clone(),
            }),
            client_timeouts: config.client_timeouts,
            limits: config.limits.http,
            paths: config.paths,
            trusted_proxies: config.trusted_proxies.clone(),
            identity_headers: config.identity_headers.clone(),
            stripped_of_trailers: stripped_of_trailers(config, &policies.policy),
            keeps_records: config.audit != Destination::None,
            admin_token: self.admin_token.clone().or(unknown),
            drain_timeout: config.drain_timeout,
        })
    }

    /// Warnings about what has expired in a part, or is about to.
    pub(super) fn expiring(&self, part: Part, config: &Config, now: Timestamp) -> Vec<Diagnostic> {
        let placed = |warning: Diagnostic, file: &str| {
            let named = config.certificates.iter().map(|pair| &pair.certificate);
            let named = named.into_iter().find(|named| named.value.display().to_string() == file);
            named.into_iter().fold(warning, |warning, named| warning.at(named.place.clone()))
        };
        match part {
            Part::ServerCertificates => {
                let all = self.server.iter().flat_map(|server| server.expiries.iter());
                all.filter_map(|expiry| Some(placed(expiry.warning(now)?, &expiry.file))).collect()
            }
            Part::ClientTrust => {
                let all = self.trust.iter().flat_map(|trust| trust.expiries());
                all.filter_map(|expiry| expiry.warning(now)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn is_of_expiry(warning: &Diagnostic) -> bool {
    matches!(warning.code, Code::Expiry | Code::CrlExpired)
}

fn shadow_problem(named: &Located<PathBuf>, is_judged: bool) -> Diagnostic {
    let goes_on = if is_judged { "the one before it is still judged" } else { "it is not judged" };
    let message = format!("there is something wrong with the shadow policy, so {goes_on}");
    let help = "mend what is told next; the policy in force is not affected";
    Diagnostic::warning(Code::ShadowPolicy, message).at(named.place.clone()).help(help)
}

fn stripped_of_trailers(config: &Config, policy: &Policy) -> StripPatterns {
    let judged = policy.header_names().map(StripPattern::of);
    config.identity_headers.stripped.iter().cloned().chain(judged).collect()
}

fn token(named: &Located<PathBuf>, held: Held<Secret>) -> Result<Token, Vec<Diagnostic>> {
    held?.token().map_err(|because| {
        let message = format!("there is no token in `{}`: {because}", named.value.display());
        vec![at(named, message, "make one with `openssl rand -hex 32`, readable by this user alone")]
    })
}

fn keep<T>(result: Result<T, Vec<Diagnostic>>, problems: &mut Vec<Diagnostic>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

/// Adds the warning about `mode: audit`, wherever warnings are given.
fn enforces_nothing(config: &Config) -> Option<Diagnostic> {
    let place = config.mode_place.clone().filter(|_| config.mode == Mode::Audit)?;
    let message = "`mode: audit` enforces no policy: every client with a valid certificate may do everything";
    let help = "learn from the audit records what clients need (`sidegate policy suggest`), then set `mode: enforce`";
    Some(Diagnostic::warning(Code::AuditMode, message).at(place).help(help))
}

/// Builds the server's side of TLS. If no file has changed, the earlier value is kept, and its tickets stay good.
fn server_side(
    config: &Config,
    held: &[KeyPairHeld],
    before: Option<&FromFiles<ServerConfig>>,
) -> Result<FromFiles<ServerConfig>, Vec<Diagnostic>> {
    let digest = sha256_of_value(held);
    if let Some(same) = before.filter(|made| made.digest == digest) {
        return Ok(same.clone());
    }
    let mut problems = Vec::new();
    let pairs = config.certificates.iter().zip(held);
    let certified: Vec<_> =
        pairs.filter_map(|(named, held)| keep(certified(named, held), &mut problems)).collect();
    problems.extend(nameless(config, &certified));
    if !problems.is_empty() {
        return Err(problems);
    }
    let made = handshake::server_config(certified)
        .map_err(|error| vec![Diagnostic::error(Code::File, format!("TLS cannot be set up: {error}"))])?;
    Ok(FromFiles { value: Arc::new(made), digest })
}

fn certified(named: &KeyPair, held: &KeyPairHeld) -> Result<CertifiedKey, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let chain =
        keep(chain_of(&named.certificate, &held.certificate, "the server's certificate"), &mut problems);
    let key = keep(key_of(&named.key, &held.key), &mut problems);
    let (Some(chain), Some(key)) = (chain, key) else { return Err(problems) };
    handshake::certified_key(chain, key).map_err(|error| vec![unusable(named, &error)])
}

fn unusable(named: &KeyPair, error: &rustls::Error) -> Diagnostic {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let message =
                format!("the key `{}` does not belong to the certificate", named.key.value.display());
            let help = "name the key that the certificate was made with (`tls.certificate` and `tls.key` go together)";
            Diagnostic::error(Code::KeyMismatch, message).at(named.key.place.clone()).help(help)
        }
        rustls::Error::General(_) => at(
            &named.key,
            format!(
                "the key `{}` cannot be used: it is damaged, or of a kind that is not supported",
                named.key.value.display()
            ),
            "a P-256, P-384, P-521, Ed25519 or RSA (2048 bits or more) key is needed; write the file again from where it came",
        ),
        error => at(
            &named.certificate,
            format!("the server's certificate and key cannot be used: {error}"),
            "a P-256, P-384, Ed25519 or RSA (2048 bits or more) certificate of X.509 version 3 is needed",
        ),
    }
}

/// A further certificate is chosen by its names (SNI); without a name it would never be used.
fn nameless<'c>(config: &'c Config, certified: &'c [CertifiedKey]) -> impl Iterator<Item = Diagnostic> + 'c {
    let further = config.certificates.iter().zip(certified).skip(1);
    let nameless = further.filter(|(_, certified)| !certified.cert.first().is_some_and(handshake::has_name));
    nameless.map(|(named, _)| {
        at(
            &named.certificate,
            format!("the certificate `{}` has no DNS name", named.certificate.value.display()),
            "issue it with the names that clients ask for; the first certificate alone needs none",
        )
    })
}

fn server_expiries(config: &Config, held: &[KeyPairHeld]) -> Arc<[Expiry]> {
    let pairs = config.certificates.iter().zip(held);
    let expiries = pairs.filter_map(|(named, held)| {
        let leaf = pem::certificates(held.certificate.as_ref().ok()?).ok()?.into_iter().next()?;
        let file = named.certificate.value.display().to_string();
        Expiry::from_certificate(ExpiryKind::Server, &file, &leaf)
    });
    expiries.collect()
}

/// Builds the client's side of TLS to the backend.
fn client_side(
    settings: &BackendTls,
    held: BackendHeld,
    before: Option<&FromFiles<ClientConfig>>,
) -> Result<FromFiles<ClientConfig>, Vec<Diagnostic>> {
    let digest = sha256_of_value(&held);
    let BackendHeld { ca, own } = held;
    if let Some(same) = before.filter(|made| made.digest == digest) {
        return Ok(same.clone());
    }
    let mut problems = Vec::new();
    let roots = keep(ca.and_then(|files| roots_of(settings, &files)), &mut problems);
    let own = match settings.certificate.as_ref().zip(own.as_ref()) {
        None => Some(None),
        Some((named, held)) => {
            let chain =
                keep(chain_of(&named.certificate, &held.certificate, "our own certificate"), &mut problems);
            let key = keep(key_of(&named.key, &held.key), &mut problems);
            chain.zip(key).map(Some)
        }
    };
    let (Some(roots), Some(own)) = (roots, own) else { return Err(problems) };
    let made = forward::client_config(roots, own, settings.protocol).map_err(|error| {
        let named = settings.certificate.as_ref().map_or(&settings.ca, |named| &named.certificate);
        let code = match error {
            rustls::Error::InconsistentKeys(_) => Code::KeyMismatch,
            _ => Code::File,
        };
        let help = "`backend.tls.certificate` and `backend.tls.key` go together";
        let error = match error {
            rustls::Error::General(_) => "the key is damaged, or of a kind that is not supported".to_owned(),
            error => error.to_string(),
        };
        let message = format!("TLS to the backend cannot be set up: {error}");
        vec![Diagnostic::error(code, message).at(named.place.clone()).help(help)]
    })?;
    Ok(FromFiles { value: Arc::new(made), digest })
}

fn roots_of(settings: &BackendTls, files: &[TrustFile]) -> Result<RootCertStore, Vec<Diagnostic>> {
    let mut roots = RootCertStore::empty();
    for TrustFile { name, bytes, .. } in files {
        for certificate in certificates(&settings.ca, name, bytes, "the authorities of the backend")? {
            check_authority(&certificate)
                .or_else(|error| if error.is_self_signed { Ok(()) } else { Err(error) })
                .map_err(|error| vec![not_authority(settings, name, &error)])?;
            roots.add(certificate).map_err(|error| {
                let message = format!("`{name}` cannot be an authority: {error}");
                let help = "put the certificates there that the backend's certificate was issued by";
                vec![at(&settings.ca, message, help)]
            })?;
        }
    }
    Ok(roots)
}

fn not_authority(settings: &BackendTls, file: &str, error: &NotAuthority) -> Diagnostic {
    let message = format!("`{file}` cannot be an authority of the backend: {error}");
    let help = "take that certificate out of `backend.tls.ca`; put the certificates there that the backend's certificate was issued by";
    Diagnostic::error(Code::NoAuthority, message).at(settings.ca.place.clone()).help(help)
}

/// Self-signed certificates that the backend itself presents are trusted, because the operator named them. The holder of such
/// a key could speak for the backend anyway, but no further name should be accepted from it unnoticed.
fn own_anchors(settings: &BackendTls, files: &[TrustFile]) -> Vec<Diagnostic> {
    let certificates = files.iter().flat_map(|file| {
        let all = pem::certificates(&file.bytes).unwrap_or_default();
        all.into_iter().map(|certificate| (file.name.as_str(), certificate))
    });
    let doubts =
        certificates.filter_map(|(file, certificate)| Some((file, check_authority(&certificate).err()?)));
    let warning = |(file, error): (&str, NotAuthority)| {
        let message = format!(
            "`{file}` is trusted for the backend because it is self-signed, although {error}: anyone with its key can speak for the backend under any name"
        );
        let help =
            "issue the backend's certificate by a CA of its own, and name that one in `backend.tls.ca`";
        Diagnostic::warning(Code::SelfSignedAnchor, message).at(settings.ca.place.clone()).help(help)
    };
    doubts.map(warning).collect()
}

/// Builds the trust: client CAs and their CRLs.
fn trust(
    config: &Config,
    authorities: Held<Vec<TrustFile>>,
    crls: Option<Held<Vec<TrustFile>>>,
    moment: Moment,
) -> Result<(Trust, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let authorities = keep(authorities, &mut problems);
    let crls = keep(crls.transpose(), &mut problems);
    let (Some(authorities), Some(crls)) = (authorities, crls) else { return Err(problems) };
    let sources = TrustSources {
        authorities,
        crls,
        usage: config.usage,
        crl_grace: config.crl_grace,
        crl_missing: config.crl_missing,
        pins: config.trust_domains.clone(),
    };
    Trust::build(&sources, moment.now)
}

fn chain_of(
    named: &Located<PathBuf>,
    held: &Held<Vec<u8>>,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, Vec<Diagnostic>> {
    let bytes = held.as_ref().map_err(Clone::clone)?;
    certificates(named, &named.value.display().to_string(), bytes, what)
}

fn certificates(
    named: &Located<PathBuf>,
    file: &str,
    bytes: &[u8],
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, Vec<Diagnostic>> {
    pem::certificates(bytes).map_err(|flaw| {
        let message =
            format!("there is no certificate in `{file}` that can be read, where {what} is expected: {flaw}");
        vec![at(named, message, flaw.remedy())]
    })
}

fn key_of(named: &Located<PathBuf>, held: &Held<Secret>) -> Result<PrivateKeyDer<'static>, Vec<Diagnostic>> {
    held.as_ref().map_err(Clone::clone)?.private_key().map_err(|flaw| {
        let message = format!("there is no usable key in `{}`: {flaw}", named.value.display());
        vec![at(named, message, flaw.remedy())]
    })
}

fn at<T>(named: &Located<T>, message: String, help: &str) -> Diagnostic {
    Diagnostic::error(Code::File, message).at(named.place.clone()).help(help)
}
