//! Check and build: what was read becomes one whole snapshot, or every problem with it.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::contents::{Contents, Held, KeyPairHeld, digest_of};
use crate::client_headers::OwnName;
use crate::config::{BackendTls, Config, KeyPair, Located};
use crate::diagnostic::Diagnostic;
use crate::forward;
use crate::handshake;
use crate::identity::{Expiry, ExpiryKind, NoAuthority, Trust, TrustFile, TrustSources, assert_authority};
use crate::live::{Live, Made, Tried};
use crate::policy::{Mode, Policy, Shadow};
use crate::telemetry::Destination;
use crate::token::Token;

/// The code of the problem that solves itself while a key and its certificate are replaced one after the other.
pub(super) const KEY_MISMATCH: &str = "key-mismatch";

/// The instant of a snapshot, and what was in force before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'l> {
    pub(super) generation: u64,
    pub(super) now: Timestamp,
    pub(super) before: Option<&'l Live>,
}

/// Builds a snapshot of what was read. Warnings come with it.
///
/// # Errors
/// Every problem found, each with its place.
pub(super) fn build(
    config: &Config,
    contents: Contents,
    moment: Moment<'_>,
) -> Result<(Live, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let before = moment.before;
    let tried = tried(config, &contents, moment);
    let tls = keep(server_side(config, &contents.server, before), &mut problems);
    let held = contents.backend_ca.zip(config.backend_tls.as_ref());
    let of_backend = held.as_ref().and_then(|(ca, settings)| Some(own_anchors(settings, ca.as_ref().ok()?)));
    let backend_tls = held.map(|(ca, settings)| {
        client_side(
            settings,
            ca,
            contents.backend_own.as_ref(),
            before.and_then(|live| live.backend_tls.as_ref()),
        )
    });
    let backend_tls = keep(backend_tls.transpose(), &mut problems);
    let trust = keep(trust(config, contents.authorities, contents.crls, moment), &mut problems);
    let policy = contents.policies.and_then(|sources| Ok((Policy::compile(&sources)?, sources)));
    let policy = keep(policy, &mut problems);
    let admin_token = config.admin_token.as_ref().zip(contents.admin_token);
    let admin_token = admin_token.map(|(named, held)| token(named, held)).transpose();
    let admin_token = keep(admin_token, &mut problems);
    let (
        Some(tls),
        Some(backend_tls),
        Some((trust, mut warnings)),
        Some(((policy, of_policy), sources)),
        Some(admin_token),
    ) = (tls, backend_tls, trust, policy, admin_token)
    else {
        return Err(problems);
    };
    let server_expiries = server_expiries(config, &contents.server);
    warnings.extend(of_backend.into_iter().flatten());
    warnings.extend(of_policy);
    warnings.extend(enforces_nothing(config));
    let (tried, of_shadow) = tried.unzip();
    warnings.extend(of_shadow.into_iter().flatten());
    warnings.extend(server_expiries.iter().filter_map(|(expiry, named)| {
        expiry.warning(moment.now).map(|warning| warning.at(named.place.clone()))
    }));
    let stripped_of_trailers = stripped_of_trailers(config, &policy);
    let live = Live {
        generation: moment.generation,
        policy,
        sources: sources.into(),
        mode: config.mode(),
        tried,
        trust,
        tls,
        server_expiries: server_expiries.into_iter().map(|(expiry, _)| expiry).collect(),
        backend_tls,
        timeouts: config.backend.timeouts,
        patience: config.patience,
        limits: config.limits.http,
        paths: config.paths,
        trusted_proxies: config.trusted_proxies.clone(),
        identity_headers: config.identity_headers.clone(),
        stripped_of_trailers,
        keeps_records: config.audit != Destination::None,
        admin_token,
        drain_timeout: config.drain_timeout,
    };
    Ok((live, warnings))
}

fn stripped_of_trailers(config: &Config, policy: &Policy) -> Arc<[OwnName]> {
    let judged = policy.header_names().map(OwnName::of);
    config.identity_headers.stripped.iter().cloned().chain(judged).collect()
}

fn token(named: &Located<PathBuf>, held: Held<Vec<u8>>) -> Result<Token, Vec<Diagnostic>> {
    Token::read(&held?).map_err(|because| {
        let message = format!("there is no token in `{}`: {because}", named.value.display());
        vec![at(named, message, "make one with `openssl rand -hex 32`, readable by this user alone")]
    })
}

fn keep<T>(result: Result<T, Vec<Diagnostic>>, problems: &mut Vec<Diagnostic>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

/// What `mode: audit` means is said wherever warnings are.
fn enforces_nothing(config: &Config) -> Option<Diagnostic> {
    let named = config.mode.as_ref().filter(|mode| mode.value == Mode::Audit)?;
    let message = "`mode: audit` enforces no policy: every client with a valid certificate may do everything";
    let help = "learn from the audit records what clients need (`sidegate policy suggest`), then set `mode: enforce`";
    Some(Diagnostic::warning("audit-mode", message).at(named.place.clone()).help(help))
}

/// The policy that is tried beside the real one, with what is wrong with it: which is told like a mistake in the real one,
/// and changes nothing else.
fn tried(config: &Config, contents: &Contents, moment: Moment<'_>) -> Option<(Tried, Vec<Diagnostic>)> {
    let (named, held) = config.shadow_policies.as_ref().zip(contents.shadow.as_ref())?;
    let before = moment.before.and_then(|live| live.tried.as_ref()).and_then(|tried| tried.shadow.as_ref());
    let of = digest_of(&(held, &contents.policies));
    let compiled = held.as_ref().map_err(Clone::clone).and_then(|sources| Policy::compile(sources));
    let (shadow, mut diagnostics, problems) = match compiled {
        Ok((policy, warnings)) => {
            let since = before.filter(|made| made.of == of).map_or(moment.now, |made| made.value.since);
            let made = Made { value: Arc::new(Shadow { policy, since }), of };
            (Some(made), warnings, 0)
        }
        Err(problems) => {
            let count = problems.len();
            (before.cloned(), problems, count)
        }
    };
    if problems > 0 {
        let goes_on = if shadow.is_some() { "the one before it is still judged" } else { "it is not judged" };
        let message = format!("there is something wrong with the shadow policy, so {goes_on}");
        let help = "mend what is told next; the policy in force is not affected";
        let told = Diagnostic::warning("shadow-policy", message).at(named.place.clone()).help(help);
        diagnostics.insert(0, told);
    }
    Some((Tried { named: named.value.display().to_string(), shadow, problems }, diagnostics))
}

/// Our certificates and keys. Where no file of them has changed, it is the same as before, and so are its tickets.
fn server_side(
    config: &Config,
    held: &[KeyPairHeld],
    before: Option<&Live>,
) -> Result<Made<ServerConfig>, Vec<Diagnostic>> {
    let of = digest_of(held);
    if let Some(same) = before.map(|live| &live.tls).filter(|made| made.of == of) {
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
        .map_err(|error| vec![Diagnostic::error("file", format!("TLS cannot be set up: {error}"))])?;
    Ok(Made { value: Arc::new(made), of })
}

fn certified(named: &KeyPair, held: &KeyPairHeld) -> Result<CertifiedKey, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let chain =
        keep(chain_of(&named.certificate, &held.certificate, "the server's certificate"), &mut problems);
    let key = keep(key_of(&named.key, &held.key), &mut problems);
    let (Some(chain), Some(key)) = (chain, key) else { return Err(problems) };
    handshake::certified(chain, key).map_err(|error| vec![unusable(named, &error)])
}

fn unusable(named: &KeyPair, error: &rustls::Error) -> Diagnostic {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let message =
                format!("the key `{}` does not belong to the certificate", named.key.value.display());
            let help = "name the key that the certificate was made with (`tls.certificate` and `tls.key` go together)";
            Diagnostic::error(KEY_MISMATCH, message).at(named.key.place.clone()).help(help)
        }
        error => at(
            &named.certificate,
            format!("the server's certificate and key cannot be used: {error}"),
            "a P-256, P-384, Ed25519 or RSA (2048 bits or more) certificate of X.509 version 3 is needed",
        ),
    }
}

/// A further certificate is chosen by its names; without one nobody would ever see it.
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

fn server_expiries<'c>(config: &'c Config, held: &[KeyPairHeld]) -> Vec<(Expiry, &'c Located<PathBuf>)> {
    let pairs = config.certificates.iter().zip(held);
    let expiries = pairs.filter_map(|(named, held)| {
        let leaf = CertificateDer::from_pem_slice(held.certificate.as_ref().ok()?).ok()?;
        let file = named.certificate.value.display().to_string();
        Some((Expiry::of_certificate(ExpiryKind::Server, &file, &leaf)?, &named.certificate))
    });
    expiries.collect()
}

/// Our side of TLS to the backend.
fn client_side(
    settings: &BackendTls,
    ca: Held<Vec<TrustFile>>,
    own: Option<&KeyPairHeld>,
    before: Option<&Made<ClientConfig>>,
) -> Result<Made<ClientConfig>, Vec<Diagnostic>> {
    let of = digest_of(&(&ca, own));
    if let Some(same) = before.filter(|made| made.of == of) {
        return Ok(same.clone());
    }
    let mut problems = Vec::new();
    let roots = keep(ca.and_then(|files| roots_of(settings, &files)), &mut problems);
    let own = match settings.certificate.as_ref().zip(own) {
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
            rustls::Error::InconsistentKeys(_) => KEY_MISMATCH,
            _ => "file",
        };
        let help = "`backend.tls.certificate` and `backend.tls.key` go together";
        let message = format!("TLS to the backend cannot be set up: {error}");
        vec![Diagnostic::error(code, message).at(named.place.clone()).help(help)]
    })?;
    Ok(Made { value: Arc::new(made), of })
}

fn roots_of(settings: &BackendTls, files: &[TrustFile]) -> Result<RootCertStore, Vec<Diagnostic>> {
    let mut roots = RootCertStore::empty();
    for TrustFile { name, bytes, .. } in files {
        for certificate in certificates(&settings.ca, name, bytes, "the authorities of the backend")? {
            assert_authority(&certificate)
                .or_else(|lack| if lack.is_self_signed { Ok(()) } else { Err(lack) })
                .map_err(|lack| vec![not_authority(settings, name, &lack)])?;
            roots.add(certificate).map_err(|error| {
                let message = format!("`{name}` cannot be an authority: {error}");
                let help = "put the certificates there that the backend's certificate was issued by";
                vec![at(&settings.ca, message, help)]
            })?;
        }
    }
    Ok(roots)
}

fn not_authority(settings: &BackendTls, file: &str, lack: &NoAuthority) -> Diagnostic {
    let message = format!("`{file}` cannot be an authority of the backend: {lack}");
    let help = "take that certificate out of `backend.tls.ca`; put the certificates there that the backend's certificate was issued by";
    Diagnostic::error("no-authority", message).at(settings.ca.place.clone()).help(help)
}

/// Self-signed certificates that the backend itself shows are trusted, because their operator named them. The holder of such a key
/// could speak for the backend anyway, but no further name should come from it unnoticed.
fn own_anchors(settings: &BackendTls, files: &[TrustFile]) -> Vec<Diagnostic> {
    let certificates = files.iter().flat_map(|file| {
        let all = CertificateDer::pem_slice_iter(&file.bytes).filter_map(Result::ok);
        all.map(|certificate| (file.name.as_str(), certificate))
    });
    let doubts =
        certificates.filter_map(|(file, certificate)| Some((file, assert_authority(&certificate).err()?)));
    let warning = |(file, lack): (&str, NoAuthority)| {
        let message = format!(
            "`{file}` is trusted for the backend because it is self-signed, although {lack}: whoever holds its key can speak for the backend under any name"
        );
        let help =
            "issue the backend's certificate by a CA of its own, and name that one in `backend.tls.ca`";
        Diagnostic::warning("self-signed-anchor", message).at(settings.ca.place.clone()).help(help)
    };
    doubts.map(warning).collect()
}

/// The client CAs and their CRLs.
fn trust(
    config: &Config,
    authorities: Held<Vec<TrustFile>>,
    crls: Option<Held<Vec<TrustFile>>>,
    moment: Moment<'_>,
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
    Trust::build(&sources, moment.generation, moment.now)
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
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|error| {
            let help = "a certificate starts with -----BEGIN CERTIFICATE----- and ends with -----END CERTIFICATE-----";
            vec![at(named, format!("`{file}` is no PEM file: {error}"), help)]
        })?;
    if certificates.is_empty() {
        let help = format!(
            "{what} are expected there in PEM, between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
        );
        return Err(vec![at(named, format!("there is no certificate in `{file}`"), &help)]);
    }
    Ok(certificates)
}

fn key_of(named: &Located<PathBuf>, held: &Held<Vec<u8>>) -> Result<PrivateKeyDer<'static>, Vec<Diagnostic>> {
    let bytes = held.as_ref().map_err(Clone::clone)?;
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        let encrypted = String::from_utf8_lossy(bytes).contains("ENCRYPTED");
        let help = if encrypted {
            "the key is protected by a password; write it without one, readable by this user alone"
        } else {
            "a key starts with -----BEGIN PRIVATE KEY-----"
        };
        vec![at(named, format!("there is no usable key in `{}`: {error}", named.value.display()), help)]
    })
}

fn at<T>(named: &Located<T>, message: String, help: &str) -> Diagnostic {
    Diagnostic::error("file", message).at(named.place.clone()).help(help)
}
