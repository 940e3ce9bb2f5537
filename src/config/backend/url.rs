//! The URL of the backend: its location, its protocol, and its name in `Host`.

use http::Uri;
use http::uri::{Authority, PathAndQuery};
use rustls::pki_types::ServerName;

use crate::config::draft::Input;
use crate::diagnostic::Code;
use crate::document::{Node, Reader};
use crate::forward::Location;
use crate::protocol::Protocol;

/// A URL of a backend.
pub(in crate::config) struct Url {
    pub(super) location: Location,
    pub(super) protocol: Protocol,
    pub(super) authority: String,
}

/// The meaning of a scheme.
struct Scheme {
    name: &'static str,
    protocol: Protocol,
    security: Security,
    default_port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Security {
    Plain,
    Tls,
}

const SCHEMES: [Scheme; 4] = [
    scheme("http", Protocol::Http1, Security::Plain, 80),
    scheme("https", Protocol::Http1, Security::Tls, 443),
    scheme("h2c", Protocol::Http2, Security::Plain, 80),
    scheme("h2", Protocol::Http2, Security::Tls, 443),
];

const fn scheme(name: &'static str, protocol: Protocol, security: Security, default_port: u16) -> Scheme {
    Scheme { name, protocol, security, default_port }
}

/// The starts of URLs of Unix sockets.
const UNIX: [(&str, Protocol); 2] = [("unix:", Protocol::Http1), ("unix+h2c:", Protocol::Http2)];

/// A URL that cannot be used: the message and the remedy.
struct Malformed {
    message: String,
    help: &'static str,
}

const USUAL: &str = "write it as `http://127.0.0.1:8080`";

fn malformed(message: impl Into<String>, help: &'static str) -> Malformed {
    Malformed { message: message.into(), help }
}

/// Reads `backend.url`.
pub(in crate::config) fn read_url(input: &mut Input<'_>, node: &Node<'_>) -> Option<Url> {
    let text = input.reader.text(node)?;
    let unix = UNIX.iter().find_map(|(start, protocol)| Some((text.strip_prefix(start)?, *protocol)));
    let url = match unix {
        Some((path, protocol)) => unix_url(input, path, protocol),
        None => tcp_url(text),
    };
    url.map_err(|wrong| report(wrong, node, &mut input.reader)).ok()
}

fn report(Malformed { message, help }: Malformed, node: &Node<'_>, reader: &mut Reader<'_>) {
    reader.error(Code::BadUrl, node, message, Some(help.to_owned()));
}

/// `unix:/run/app.sock`, also with an empty host before the path.
fn unix_url(input: &Input<'_>, path: &str, protocol: Protocol) -> Result<Url, Malformed> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        return Err(malformed("the path of the socket is missing", "write it as `unix:/run/app.sock`"));
    }
    // curl and browsers give a server without a name the same one.
    let authority = "localhost".to_owned();
    Ok(Url { location: Location::Unix(input.folder.join(path)), protocol, authority })
}

fn tcp_url(text: &str) -> Result<Url, Malformed> {
    let uri: Uri = text.parse().map_err(|_| malformed(format!("`{text}` is not a URL"), USUAL))?;
    let scheme = SCHEMES.iter().find(|scheme| uri.scheme_str() == Some(scheme.name)).ok_or_else(|| {
        malformed("the backend's URL starts with `http://`, `https://`, `h2c://`, `h2://` or `unix:`", USUAL)
    })?;
    if !matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/")) {
        let help = "requests are forwarded with the path that they came with; remove it here";
        return Err(malformed("the backend's URL has no path", help));
    }
    let is_bare = |authority: &&Authority| !authority.as_str().contains('@') && !authority.host().is_empty();
    let authority = uri
        .authority()
        .filter(is_bare)
        .ok_or_else(|| malformed(format!("`{text}` names no host, or a user beside it"), USUAL))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port(authority, scheme)
        .ok_or_else(|| malformed(format!("the port of `{text}` is not from 1 to 65535"), USUAL))?;
    let authority = host_header(&host, port, scheme);
    let location = Location::Tcp { tls: tls_name(&host, scheme)?, host, port };
    Ok(Url { location, protocol: scheme.protocol, authority })
}

fn port(authority: &Authority, scheme: &Scheme) -> Option<u16> {
    match authority.as_str().strip_prefix(authority.host())? {
        "" => Some(scheme.default_port),
        after => after.strip_prefix(':')?.parse().ok().filter(|port| *port > 0),
    }
}

/// The name that the backend's certificate must be for; `None` without TLS.
fn tls_name(host: &str, scheme: &Scheme) -> Result<Option<ServerName<'static>>, Malformed> {
    if scheme.security == Security::Plain {
        return Ok(None);
    }
    let name = ServerName::try_from(host.to_owned());
    name.map(Some)
        .map_err(|_| malformed(format!("`{host}` is not a name that a certificate can be for"), USUAL))
}

/// The value of `Host`: an IPv6 address in brackets, and no default port.
fn host_header(host: &str, port: u16, scheme: &Scheme) -> String {
    match (host.contains(':'), port == scheme.default_port) {
        (true, false) => format!("[{host}]:{port}"),
        (true, true) => format!("[{host}]"),
        (false, true) => host.to_owned(),
        (false, false) => format!("{host}:{port}"),
    }
}
