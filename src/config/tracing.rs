//! The keys below `tracing`: the destination of traces.

use http::Uri;
use http::uri::PathAndQuery;

use super::draft::Input;
use super::keys::TracingSection;
use crate::diagnostic::Code;
use crate::document::Node;
use crate::forward::{Collector, Location};
use crate::telemetry::Share;

/// The settings of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// The collector that traces are sent to.
    pub to: Collector,
    /// The share of exported traces among those that begin here.
    pub sample: Share,
}

/// The port on which collectors listen for OTLP by HTTP.
const PORT: u16 = 4318;

/// The settings of traces; `None` if there is no collector.
pub(super) fn settings(section: TracingSection) -> Option<Tracing> {
    Some(Tracing { to: section.otlp?.value, sample: section.sample })
}

/// Reads `tracing.otlp`.
pub(super) fn collector(input: &mut Input<'_>, node: &Node<'_>) -> Option<Collector> {
    let text = input.reader.text(node)?;
    let collector = of_url(text);
    if collector.is_none() {
        let help = "write it as `http://127.0.0.1:4318`: OTLP by HTTP, without TLS, to a collector beside this process";
        let message = format!("`{text}` is not a URL of a collector");
        input.reader.error(Code::BadUrl, node, message, Some(help.to_owned()));
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
