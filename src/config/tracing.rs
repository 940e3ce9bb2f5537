//! `tracing`: where traces go.

use http::Uri;
use http::uri::PathAndQuery;

use super::{Draft, Section};
use crate::diagnostic::Code;
use crate::document::{Node, Reader};
use crate::forward::{Collector, Location};
use crate::telemetry::Share;

/// Traces, as they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Where they go.
    pub to: Collector,
    /// The share of those that begin here.
    pub sample: Share,
}

/// Where collectors listen for OTLP by HTTP.
const PORT: u16 = 4318;

impl Draft<'_> {
    pub(super) fn tracing(&mut self, section: &Section<'_>) -> Option<Tracing> {
        let sample = self.share(section, "sample");
        let to = self.read(section, "otlp", collector)?.value;
        Some(Tracing { to, sample })
    }
}

fn collector(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Collector> {
    let text = reader.text(node)?;
    let collector = of_url(text);
    if collector.is_none() {
        let help = "write it as `http://127.0.0.1:4318`: OTLP by HTTP, without TLS, to a collector beside this process";
        reader.error(Code::BadUrl, node, format!("`{text}` is no URL of a collector"), Some(help.to_owned()));
    }
    collector
}

fn of_url(text: &str) -> Option<Collector> {
    let uri: Uri = text.parse().ok()?;
    let is_bare = matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/"));
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => PORT,
        after => after.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
    };
    (is_bare && uri.scheme_str() == Some("http") && !host.is_empty()).then(|| Collector {
        authority: format!("{}:{port}", authority.host()),
        location: Location::Tcp { host, port, tls: None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_a_url_without_more() {
        for (text, authority) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318"),
            ("http://collector/", "collector:4318"),
            ("http://[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(of_url(text).unwrap().authority, authority, "{text}");
        }
        for text in
            ["", "127.0.0.1:4318", "https://collector", "http://a/v1/traces", "http://u@a", "http://a:0"]
        {
            assert_eq!(of_url(text), None, "{text}");
        }
    }
}
