//! The keys below `backend`: its location, its protocol, its certificates, and the judgement of its health.

mod url;

use std::path::PathBuf;

use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;

use super::draft::{Draft, Input};
use super::keys::{BackendSection, BackendTlsSection, BreakerSection, HealthSection, HttpSection};
use super::{KeyPair, Located};
use crate::diagnostic::Code;
use crate::document::Node;
use crate::forward::{AnswerLimits, BreakerRules, Check, Location, Settings, Timeouts};
use crate::protocol::Protocol;

pub(super) use url::{Url, read_url};

/// TLS to the backend.
#[derive(Clone, Debug)]
pub struct BackendTls {
    /// The authorities that the backend's certificate must come from: a PEM file or a folder of them.
    pub ca: Located<PathBuf>,
    /// Our own certificate and its key, PEM, for a backend that asks for one.
    pub certificate: Option<KeyPair>,
    /// The protocol that ALPN offers.
    pub protocol: Protocol,
}

/// The settings of the connection to the backend, and of TLS to it; `None` if a key is missing or has no effect.
pub(super) fn settings(
    url: Option<Located<Url>>,
    tls: BackendTlsSection,
    check: Option<Check>,
    breaker: &BreakerSection,
    draft: &mut Draft<'_>,
) -> Option<(Settings, Option<BackendTls>)> {
    let Url { mut location, protocol, authority } = url?.value;
    let tls = match &mut location {
        Location::Tcp { tls: Some(name), .. } => {
            if let Some(given) = &tls.server_name {
                name.clone_from(&given.value);
            }
            Some(backend_tls(tls, protocol, draft)?)
        }
        _ => {
            report_unused_tls(draft);
            None
        }
    };
    let BreakerSection { failures, pause, max_pause } = *breaker;
    let breaker = BreakerRules { failures, pause, max_pause };
    Some((Settings { location, protocol, authority, breaker, check }, tls))
}

/// The time limits of exchanges with the backend.
pub(super) const fn timeouts(backend: &BackendSection, http: &HttpSection) -> Timeouts {
    Timeouts {
        connect: backend.connect_timeout,
        response: backend.response_timeout,
        body: http.body_timeout,
        idle: backend.idle_timeout,
    }
}

/// The bounds on the headers of answers.
pub(super) const fn answers(backend: &BackendSection) -> AnswerLimits {
    AnswerLimits { headers: backend.max_response_headers, header_bytes: backend.max_response_header_bytes }
}

fn report_unused_tls(draft: &mut Draft<'_>) {
    for name in ["ca", "certificate", "key", "server_name"] {
        if let Some(place) = draft.place(&format!("backend.tls.{name}")) {
            let message = "`backend.tls` has no effect: no TLS is spoken to this backend";
            let help = "let `backend.url` start with `https://` (or `h2://`), or remove it here";
            draft.report_no_effect(place, message, help);
        }
    }
}

/// The backend is trusted by its own authorities alone, and never by those of the system.
fn backend_tls(tls: BackendTlsSection, protocol: Protocol, draft: &mut Draft<'_>) -> Option<BackendTls> {
    let certificate = match (tls.certificate, tls.key) {
        (Some(certificate), Some(key)) => Some(KeyPair { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            draft.report_missing("backend.tls.key");
            None
        }
        (None, Some(_)) => {
            draft.report_missing("backend.tls.certificate");
            None
        }
    };
    if tls.ca.is_none() {
        draft.report_missing("backend.tls.ca");
    }
    Some(BackendTls { ca: tls.ca?, certificate, protocol })
}

/// The check of the backend's health; `None` without a path to ask for.
pub(super) fn check(HealthSection { path, interval }: HealthSection, draft: &mut Draft<'_>) -> Option<Check> {
    if let (None, Some(place)) = (&path, draft.place("backend.health.interval")) {
        let message = "`backend.health.interval` has no effect: there is no path to ask for";
        draft.report_no_effect(place, message, "add `path: /healthz`, or remove it here");
    }
    Some(Check { path: path?.value, interval })
}

/// Reads `backend.health.path`.
pub(super) fn check_path(input: &mut Input<'_>, node: &Node<'_>) -> Option<PathAndQuery> {
    let text = input.reader.text(node)?;
    let path = text.parse().ok().filter(|_| text.starts_with('/'));
    if path.is_none() {
        let help = "write it as `/healthz`".to_owned();
        let message = format!("`{text}` is not a path to ask for");
        input.reader.error(Code::BadPath, node, message, Some(help));
    }
    path
}

/// Reads `backend.tls.server_name`.
pub(super) fn server_name(input: &mut Input<'_>, node: &Node<'_>) -> Option<ServerName<'static>> {
    let text = input.reader.name(node)?;
    let name = ServerName::try_from(text.to_owned()).ok();
    if name.is_none() {
        let help = "write the name that the backend's certificate is for".to_owned();
        input.reader.error(Code::BadName, node, format!("`{text}` is not a name of a server"), Some(help));
    }
    name
}
