//! The `backend` section: where the backend is, what is spoken there, and by which certificates it is trusted.

use std::path::{Path, PathBuf};

use http::Uri;
use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;

use super::{Draft, KeyPair, Located, Section};
use crate::admission::Queue;
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::document::{Node, Reader};
use crate::forward::{BreakerRules, Check, ClientAbort, Location, Settings, Timeouts};
use crate::protocol::Protocol;

/// TLS to the backend.
#[derive(Clone, Debug)]
pub struct BackendTls {
    /// The authorities that its certificate must come from: a PEM file or a folder of them.
    pub ca: Located<PathBuf>,
    /// Our own certificate and its key, PEM, where the backend asks for one.
    pub certificate: Option<KeyPair>,
    /// What is agreed on by ALPN.
    pub protocol: Protocol,
}

/// What a URL says.
struct Url {
    location: Location,
    protocol: Protocol,
    authority: String,
}

/// Scheme, what is spoken, whether by TLS, and the port where none is given.
const SCHEMES: [(&str, Protocol, bool, u16); 4] = [
    ("http", Protocol::Http1, false, 80),
    ("https", Protocol::Http1, true, 443),
    ("h2c", Protocol::Http2, false, 80),
    ("h2", Protocol::Http2, true, 443),
];
const UNIX: [(&str, Protocol); 2] = [("unix:", Protocol::Http1), ("unix+h2c:", Protocol::Http2)];

impl Draft<'_> {
    pub(super) fn backend(
        &mut self,
        section: &Section<'_>,
        tls: &Section<'_>,
        http: &Section<'_>,
        (breaker, check): (BreakerRules, Option<Check>),
    ) -> (Option<Settings>, Option<BackendTls>) {
        let before = self.diagnostics.len();
        let folder = self.folder;
        let url = self.read(section, "url", |reader, node| url(reader, node, folder));
        if url.is_none() && self.diagnostics.len() == before {
            self.missing(section, "url");
        }
        let timeouts = Timeouts {
            connect: self.duration(section, "connect_timeout"),
            response: self.duration(section, "response_timeout"),
            body: self.duration(http, "body_timeout"),
            idle: self.duration(section, "idle_timeout"),
        };
        let client_abort = match self.boolean(section, "ignore_client_abort") {
            true => ClientAbort::Ignore,
            false => ClientAbort::Tell,
        };
        let server_name = self.read(tls, "server_name", server_name);
        let ca = self.optional_path(tls, "ca");
        let certificate = self.optional_path(tls, "certificate");
        let key = self.optional_path(tls, "key");
        let Some(url) = url else { return (None, None) };
        let mut location = url.value.location;
        let spoken = match &mut location {
            Location::Tcp { tls: Some(name), .. } => {
                if let Some(server_name) = server_name {
                    *name = server_name.value;
                }
                Some(self.backend_tls(tls, ca, certificate, key, url.value.protocol))
            }
            _ => {
                let given = [&ca, &certificate, &key].into_iter().flatten().map(|given| &given.place);
                self.no_tls_is_spoken(given.chain(server_name.iter().map(|given| &given.place)));
                None
            }
        };
        let settings = Settings {
            location,
            protocol: url.value.protocol,
            authority: url.value.authority,
            timeouts,
            client_abort,
            breaker,
            check,
        };
        match spoken {
            // What is wrong with it has been said.
            Some(None) => (None, None),
            spoken => (Some(settings), spoken.flatten()),
        }
    }

    fn no_tls_is_spoken<'p>(&mut self, given: impl Iterator<Item = &'p Place>) {
        for place in given {
            let message = "`backend.tls` has no effect: no TLS is spoken to this backend";
            let help = "let `backend.url` start with `https://` (or `h2://`), or remove it here";
            self.diagnostics.push(Diagnostic::error(Code::NoEffect, message).at(place.clone()).help(help));
        }
    }

    pub(super) fn breaker(&mut self, section: &Section<'_>) -> BreakerRules {
        BreakerRules {
            failures: u32::try_from(self.number(section, "failures", 0..=1_000_000)).unwrap_or(u32::MAX),
            pause: self.duration(section, "pause"),
            max_pause: self.duration(section, "max_pause"),
        }
    }

    pub(super) fn check(&mut self, section: &Section<'_>) -> Option<Check> {
        let interval = self.duration(section, "interval");
        let path = self.read(section, "path", check_path);
        let given = self.read(section, "interval", |_, _| Some(()));
        if let (None, Some(given)) = (&path, given) {
            let message = "`backend.health.interval` has no effect: there is no path to ask for";
            let help = "add `path: /healthz`, or remove it here";
            self.diagnostics.push(Diagnostic::error(Code::NoEffect, message).at(given.place).help(help));
        }
        Some(Check { path: path?.value, interval })
    }

    /// Those that wait for a place in flight; nothing at all, where either is nothing.
    pub(super) fn queue(&mut self, section: &Section<'_>) -> Queue {
        Queue {
            length: self.number(section, "queue", 0..=100_000),
            timeout: self.duration_or_none(section, "queue_timeout"),
        }
    }

    /// The backend is trusted by its own authorities alone: nothing that the system trusts is meant by that.
    fn backend_tls(
        &mut self,
        section: &Section<'_>,
        ca: Option<Located<PathBuf>>,
        certificate: Option<Located<PathBuf>>,
        key: Option<Located<PathBuf>>,
        protocol: Protocol,
    ) -> Option<BackendTls> {
        let certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(KeyPair { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                self.missing(section, "key");
                None
            }
            (None, Some(_)) => {
                self.missing(section, "certificate");
                None
            }
        };
        if ca.is_none() {
            self.missing(section, "ca");
        }
        Some(BackendTls { ca: ca?, certificate, protocol })
    }
}

fn check_path(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<PathAndQuery> {
    let text = reader.text(node)?;
    let path = text.parse().ok().filter(|_| text.starts_with('/'));
    if path.is_none() {
        let help = "write it as `/healthz`".to_owned();
        reader.error(Code::BadPath, node, format!("`{text}` is no path to ask for"), Some(help));
    }
    path
}

fn server_name(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<ServerName<'static>> {
    let text = reader.name(node)?;
    let name = ServerName::try_from(text.to_owned()).ok();
    if name.is_none() {
        let help = "write the name that the backend's certificate is for".to_owned();
        reader.error(Code::BadName, node, format!("`{text}` is no name of a server"), Some(help));
    }
    name
}

fn url(reader: &mut Reader<'_>, node: &Node<'_>, folder: &Path) -> Option<Url> {
    let text = reader.text(node)?;
    match UNIX.iter().find_map(|(start, protocol)| Some((text.strip_prefix(start)?, *protocol))) {
        Some((path, protocol)) => unix_url(reader, node, path, protocol, folder),
        None => tcp_url(reader, node, text),
    }
}

/// `unix:/run/app.sock`, also with an empty host before the path.
fn unix_url(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    path: &str,
    protocol: Protocol,
    folder: &Path,
) -> Option<Url> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        let help = "write it as `unix:/run/app.sock`".to_owned();
        reader.error(Code::BadUrl, node, "the path of the socket is missing", Some(help));
        return None;
    }
    // As curl and browsers name a server that has no name.
    let authority = "localhost".to_owned();
    Some(Url { location: Location::Unix(folder.join(path)), protocol, authority })
}

fn tcp_url(reader: &mut Reader<'_>, node: &Node<'_>, text: &str) -> Option<Url> {
    let help = || Some("write it as `http://127.0.0.1:8080`".to_owned());
    let Ok(uri) = text.parse::<Uri>() else {
        reader.error(Code::BadUrl, node, format!("`{text}` is no URL"), help());
        return None;
    };
    let scheme = SCHEMES.iter().find(|(scheme, ..)| uri.scheme_str() == Some(scheme));
    let Some((_, protocol, is_tls, default_port)) = scheme else {
        let message = "the backend's URL starts with `http://`, `https://`, `h2c://`, `h2://` or `unix:`";
        reader.error(Code::BadUrl, node, message, help());
        return None;
    };
    if !matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/")) {
        let help = "requests are forwarded with the path that they came with; remove it here".to_owned();
        reader.error(Code::BadUrl, node, "the backend's URL has no path", Some(help));
        return None;
    }
    let authority =
        uri.authority().filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    let Some(authority) = authority else {
        reader.error(Code::BadUrl, node, format!("`{text}` names no host, or a user beside it"), help());
        return None;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => Some(*default_port),
        after => after.and_then(|after| after.strip_prefix(':')?.parse().ok()).filter(|port| *port > 0),
    };
    let Some(port) = port else {
        reader.error(Code::BadUrl, node, format!("the port of `{text}` is not from 1 to 65535"), help());
        return None;
    };
    let tls = if *is_tls {
        let name = ServerName::try_from(host.clone()).ok();
        if name.is_none() {
            reader.error(
                Code::BadUrl,
                node,
                format!("`{host}` is no name that a certificate can be for"),
                help(),
            );
        }
        Some(name?)
    } else {
        None
    };
    let authority = match (host.contains(':'), port == *default_port) {
        (true, false) => format!("[{host}]:{port}"),
        (true, true) => format!("[{host}]"),
        (false, true) => host.clone(),
        (false, false) => format!("{host}:{port}"),
    };
    Some(Url { location: Location::Tcp { host, port, tls }, protocol: *protocol, authority })
}
