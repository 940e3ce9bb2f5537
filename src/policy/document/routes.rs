//! Routes, in the short form `METHODS PATH` or in the long form with conditions.

use http::HeaderName;

use super::super::condition::{HeaderCondition, QueryCondition};
use super::super::host::HostPattern;
use super::super::route::{self, Route};
use super::super::{RouteTimeouts, TimeLimit};
use super::{conditions, reject_empty, report, values};
use crate::client_headers::{self, RemovalReason};
use crate::diagnostic::Code;
use crate::document::{Kind, Node, Reader};

/// Reads one route, or a list of routes.
pub(super) fn routes(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<Route> {
    reject_empty(node, reader, "write at least one route, such as `GET /events`");
    let items = reader.one_or_more(node);
    let mut routes = Vec::with_capacity(items.len());
    for item in items {
        routes.extend(match item.kind() {
            Kind::Map(_) => long_route(item, reader),
            _ => short_route(item, reader),
        });
    }
    routes
}

fn short_route(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Route> {
    let text = reader.name(node)?;
    match route::parse(text) {
        Ok((methods, path)) => Some(Route {
            text: text.into(),
            place: reader.place(node),
            methods,
            path,
            hosts: Box::default(),
            query: Box::default(),
            headers: Box::default(),
            upgrade: false,
            timeouts: RouteTimeouts::default(),
        }),
        Err(error) => {
            report(error, Code::BadRoute, node, reader);
            None
        }
    }
}

fn long_route(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Route> {
    let fields =
        reader.fields(node, "a route", &["route", "hosts", "query", "headers", "timeouts", "upgrade"])?;
    let route = fields.required("route", reader).and_then(|node| short_route(node, reader));
    let hosts = fields.optional("hosts").map(|node| hosts(node, reader)).unwrap_or_default();
    let query = fields.optional("query").map(|node| query(node, reader)).unwrap_or_default();
    let headers = fields.optional("headers").map(|node| headers(node, reader)).unwrap_or_default();
    let upgrade = fields.optional("upgrade").and_then(|node| reader.choice(node, &[("websocket", true)]));
    let timeouts = fields.optional("timeouts").map(|node| timeouts(node, reader)).unwrap_or_default();
    Some(Route { hosts, query, headers, upgrade: upgrade.unwrap_or(false), timeouts, ..route? })
}

fn timeouts(node: &Node<'_>, reader: &mut Reader<'_>) -> RouteTimeouts {
    let Some(fields) = reader.fields(node, "`timeouts`", &["response", "idle"]) else {
        return RouteTimeouts::default();
    };
    if fields.is_empty() {
        let help =
            "write `response`, `idle` or both, as in `timeouts: { response: 10m, idle: none }`".to_owned();
        reader.error(Code::EmptyList, node, "an empty `timeouts` has no effect", Some(help));
    }
    let response = fields.optional("response").and_then(|node| time_limit(node, reader));
    let idle = fields.optional("idle").and_then(|node| time_limit(node, reader));
    RouteTimeouts { response, idle }
}

/// Reads a length of time, or `none`.
fn time_limit(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<TimeLimit> {
    if node.text() == Some("none") {
        return Some(TimeLimit::NONE);
    }
    let limit = TimeLimit::of(reader.duration(node)?);
    if limit.is_none() {
        let message = "a length of time longer than nothing and shorter than 49 days is expected";
        let help = "write `none` for no time limit: the request then ends with its client".to_owned();
        reader.error(Code::BadDuration, node, message, Some(help));
    }
    limit
}

fn hosts(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[HostPattern]> {
    reject_empty(
        node,
        reader,
        "write at least one host, such as `shop.example`, or leave `hosts` out for any",
    );
    let mut hosts = Vec::new();
    for item in reader.one_or_more(node) {
        let Some(text) = reader.name(item) else { continue };
        match HostPattern::parse(text) {
            Ok(host) => hosts.push(host),
            Err(error) => report(error, Code::BadHost, item, reader),
        }
    }
    hosts.into()
}

fn query(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[QueryCondition]> {
    if let Some(help) = node.text().and_then(conditions::query_help) {
        let expected = "`query` is a mapping of parameters to values";
        reader.wrong_type(node, expected, Some(help));
        return Box::default();
    }
    let entries = reader.entries(node, "`query`").unwrap_or_default();
    conditions::report_twin_parameters(&entries, reader);
    let mut read = Vec::with_capacity(entries.len());
    for (name, key, value) in entries {
        conditions::check_parameter((name, key, value), reader);
        read.push(QueryCondition { name: name.into(), values: values(value, reader) });
    }
    read.into()
}

fn headers(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[HeaderCondition]> {
    if let Some(help) = node.text().and_then(conditions::header_help) {
        let expected = "`headers` is a mapping of names to values";
        reader.wrong_type(node, expected, Some(help));
        return Box::default();
    }
    let entries = reader.entries(node, "`headers`").unwrap_or_default();
    conditions::report_twin_headers(&entries, reader);
    let mut read = Vec::with_capacity(entries.len());
    for (name, key, value) in entries {
        if let Some(help) = conditions::header_help(name) {
            reader.error(Code::BadHeader, key, format!("`{name}` is not the name of a header"), Some(help));
            continue;
        }
        let values = values(value, reader);
        if let Some((message, help)) = unusable_header(name) {
            reader.error(Code::BadHeader, key, message, Some(help.to_owned()));
            continue;
        }
        conditions::check_header(name, value, reader);
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => read.push(HeaderCondition { name, values }),
            Err(_) => {
                reader.error(Code::BadHeader, key, format!("`{name}` is not the name of a header"), None)
            }
        }
    }
    read.into()
}

const USE_HOSTS: &str = "use `hosts: [shop.example]`, which works for every client";

/// Returns a message and a help for a header that never reaches the backend as the client sent the header. A condition on
/// such a header would never hold, or would judge another value than the backend gets.
pub(super) fn unusable_header(name: &str) -> Option<(String, &'static str)> {
    if name == ":authority" {
        let message = "`:authority` cannot be used here, because only HTTP/2 has it";
        return Some((message.to_owned(), USE_HOSTS));
    }
    let removal = client_headers::removal_reason(name)?;
    let name = name.to_ascii_lowercase();
    Some(match removal {
        RemovalReason::Host => {
            (format!("`{name}` cannot be used here: HTTP/2 clients do not send this header"), USE_HOSTS)
        }
        RemovalReason::Identity | RemovalReason::Override | RemovalReason::Proxies => (
            format!("Sidegate removes the header `{name}` from requests, so this condition can never be met"),
            "to test who the client is, use `match`; for its address, use `source`; for the host, use `hosts`; for the path, use `route`",
        ),
        RemovalReason::Connection | RemovalReason::Framing => (
            format!("the header `{name}` is not passed to the backend, so it cannot be a condition"),
            "use a header that Sidegate forwards unchanged",
        ),
        RemovalReason::Set => (
            format!(
                "Sidegate writes the header `{name}` itself, so the client's value is lost and cannot be a condition"
            ),
            "use a header that Sidegate forwards unchanged",
        ),
    })
}
