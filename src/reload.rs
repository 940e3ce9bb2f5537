//! Look, read, check, build: what the configuration names becomes one whole snapshot, or every problem with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{BackendTls, Config, Located};
use crate::diagnostic::{Diagnostic, Source};
use crate::forward;
use crate::handshake;
use crate::identity::{Trust, TrustSources};
use crate::live::Live;
use crate::policy::Policy;
use crate::policy_files;
use crate::telemetry::Destination;
use crate::trust_files::{self, Kind};

/// Reads everything that a configuration names. Warnings come with the snapshot.
///
/// # Errors
/// Every problem found, each with its place.
pub fn snapshot(config: &Config, generation: u64) -> Result<(Live, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let tls = keep(server_side(config), &mut problems);
    let trust = keep(trust(config, generation, Timestamp::now()), &mut problems);
    let backend_tls = keep(config.backend_tls.as_ref().map(client_side).transpose(), &mut problems);
    let policy = keep(policy(&config.policies), &mut problems);
    match (tls, trust, backend_tls, policy) {
        (Some(tls), Some((trust, mut warnings)), Some(backend_tls), Some((policy, of_policy))) => {
            warnings.extend(of_policy);
            let identity_headers = config.identity_headers.clone();
            let keeps_records = config.audit != Destination::None;
            let (tls, backend_tls) = (Arc::new(tls), backend_tls.map(Arc::new));
            let live = Live {
                generation,
                policy,
                trust,
                tls,
                backend_tls,
                paths: config.paths,
                trusted_proxies: config.trusted_proxies.clone(),
                identity_headers,
                keeps_records,
            };
            Ok((live, warnings))
        }
        _ => Err(problems),
    }
}

fn keep<T>(result: Result<T, Vec<Diagnostic>>, problems: &mut Vec<Diagnostic>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

fn policy(path: &Located<PathBuf>) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let sources = policy_files::read(std::slice::from_ref(&path.value)).map_err(|mut problems| {
        for problem in &mut problems {
            problem.place.get_or_insert_with(|| path.place.clone());
        }
        problems
    })?;
    Policy::compile(&sources)
}

fn server_side(config: &Config) -> Result<ServerConfig, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let chain = keep(certificates(&config.certificate, "the server's certificate"), &mut problems);
    let key = keep(private_key(&config.key), &mut problems);
    let (Some(chain), Some(key)) = (chain, key) else { return Err(problems) };
    handshake::server_config(chain, key).map_err(|error| {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => at(
                &config.key,
                format!("the key `{}` does not belong to the certificate", config.key.value.display()),
                "name the key that the certificate was made with (`tls.certificate` and `tls.key` go together)",
            ),
            error => at(
                &config.certificate,
                format!("the server's certificate and key cannot be used: {error}"),
                "a P-256, P-384, Ed25519 or RSA (2048 bits or more) certificate of X.509 version 3 is needed",
            ),
        };
        vec![problem]
    })
}

/// Our side of TLS to the backend.
fn client_side(settings: &BackendTls) -> Result<ClientConfig, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let roots = keep(backend_authorities(&settings.ca), &mut problems);
    let own = match &settings.certificate {
        None => Some(None),
        Some((certificate, key)) => {
            let chain = keep(certificates(certificate, "our own certificate"), &mut problems);
            let private = keep(private_key(key), &mut problems);
            chain.zip(private).map(Some)
        }
    };
    let (Some(roots), Some(own)) = (roots, own) else { return Err(problems) };
    forward::client_config(roots, own, settings.protocol).map_err(|error| {
        let named = settings.certificate.as_ref().map_or(&settings.ca, |(certificate, _)| certificate);
        vec![at(
            named,
            format!("TLS to the backend cannot be set up: {error}"),
            "`backend.tls.certificate` and `backend.tls.key` go together",
        )]
    })
}

fn backend_authorities(path: &Located<PathBuf>) -> Result<RootCertStore, Vec<Diagnostic>> {
    let mut roots = RootCertStore::empty();
    for file in trust_files::list(&path.value, Kind::Certificates)
        .map_err(|problem| vec![problem.at(path.place.clone())])?
    {
        let located = Located { value: file, place: path.place.clone() };
        for certificate in certificates(&located, "the authorities of the backend")? {
            roots.add(certificate).map_err(|error| {
                let message = format!("`{}` cannot be an authority: {error}", located.value.display());
                vec![at(
                    path,
                    message,
                    "put the certificates there that the backend's certificate was issued by",
                )]
            })?;
        }
    }
    Ok(roots)
}

/// The client CAs and their CRLs.
fn trust(
    config: &Config,
    generation: u64,
    now: Timestamp,
) -> Result<(Trust, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let read = |path: &Located<PathBuf>, kind| trust_files::read(&path.value, kind, Some(&path.place));
    let authorities = keep(read(&config.client_ca, Kind::Certificates), &mut problems);
    let crls = config.crl.as_ref().map(|path| read(path, Kind::Crls)).transpose();
    let crls = keep(crls, &mut problems);
    let (Some(authorities), Some(crls)) = (authorities, crls) else { return Err(problems) };
    let sources = TrustSources {
        authorities,
        crls,
        usage: config.usage,
        crl_grace: config.crl_grace,
        crl_missing: config.crl_missing,
        pins: config.trust_domains.clone(),
    };
    Trust::build(&sources, generation, now)
}

fn certificates(
    path: &Located<PathBuf>,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, Vec<Diagnostic>> {
    let bytes = fs::read(&path.value).map_err(|error| vec![unreadable(path, &path.value, &error)])?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|error| {
        vec![at(
            path,
            format!("`{}` is no PEM file: {error}", path.value.display()),
            "a certificate starts with -----BEGIN CERTIFICATE----- and ends with -----END CERTIFICATE-----",
        )]
    })?;
    if certificates.is_empty() {
        return Err(vec![at(
            path,
            format!("there is no certificate in `{}`", path.value.display()),
            &format!(
                "{what} are expected there in PEM, between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
            ),
        )]);
    }
    Ok(certificates)
}

fn private_key(path: &Located<PathBuf>) -> Result<PrivateKeyDer<'static>, Vec<Diagnostic>> {
    let bytes = fs::read(&path.value).map_err(|error| vec![unreadable(path, &path.value, &error)])?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
        let help = if encrypted {
            "the key is protected by a password; write it without one, readable by this user alone"
        } else {
            "a key starts with -----BEGIN PRIVATE KEY-----"
        };
        vec![at(path, format!("there is no usable key in `{}`: {error}", path.value.display()), help)]
    })
}

fn unreadable(named: &Located<PathBuf>, file: &Path, error: &io::Error) -> Diagnostic {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; relative ones are relative to the configuration file",
        io::ErrorKind::PermissionDenied => "let the user that runs sidegate read it",
        _ => "check the path",
    };
    at(named, format!("cannot read `{}`: {error}", file.display()), help)
}

fn at<T>(named: &Located<T>, message: String, help: &str) -> Diagnostic {
    Diagnostic::error("file", message).at(named.place.clone()).help(help)
}

/// The configuration file itself.
///
/// # Errors
/// It cannot be read.
pub fn configuration(path: &Path) -> Result<Arc<Source>, Diagnostic> {
    let text = fs::read_to_string(path).map_err(|error| {
        Diagnostic::error("file", format!("cannot read the configuration `{}`: {error}", path.display()))
            .help("name it with --config FILE; README.md has one to start from")
    })?;
    Ok(Source::new(path.display().to_string(), text))
}
