//! Routes as they are written, short or with conditions.

use http::HeaderName;

use super::super::condition::{HeaderCondition, QueryCondition};
use super::super::route::{self, Route};
use super::{not_empty, report, values};
use crate::document::{Kind, Node, Reader};

/// One route, or a list of them.
pub(super) fn routes(node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<Route> {
    not_empty(node, reader, "write at least one route, such as `GET /events`");
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
            query: Box::default(),
            headers: Box::default(),
            upgrade: false,
        }),
        Err(malformed) => {
            report(malformed, "bad-route", node, reader);
            None
        }
    }
}

fn long_route(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Route> {
    let fields = reader.fields(node, "a route", &["route", "query", "headers", "upgrade"])?;
    let route = fields.required("route", reader).and_then(|node| short_route(node, reader));
    let query = fields.optional("query").map(|node| query(node, reader)).unwrap_or_default();
    let headers = fields.optional("headers").map(|node| headers(node, reader)).unwrap_or_default();
    let upgrade = fields.optional("upgrade").and_then(|node| reader.choice(node, &[("websocket", true)]));
    Some(Route { query, headers, upgrade: upgrade.unwrap_or(false), ..route? })
}

fn query(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[QueryCondition]> {
    let entries = reader.entries(node, "`query`").unwrap_or_default();
    entries
        .into_iter()
        .map(|(name, _, value)| QueryCondition { name: name.into(), values: values(value, reader) })
        .collect()
}

fn headers(node: &Node<'_>, reader: &mut Reader<'_>) -> Box<[HeaderCondition]> {
    let mut conditions = Vec::new();
    for (name, key, value) in reader.entries(node, "`headers`").unwrap_or_default() {
        let values = values(value, reader);
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if NEVER_BELIEVED.contains(&name.as_str()) => {
                let help =
                    "the proxy removes it; use `match` for who the client is, and the path of the route"
                        .to_owned();
                reader.error("bad-header", key, format!("no decision is ever made by `{name}`"), Some(help));
            }
            Ok(name) => conditions.push(HeaderCondition { name, values }),
            Err(_) => reader.error("bad-header", key, format!("`{name}` is not the name of a header"), None),
        }
    }
    conditions.into()
}

/// Headers by which a client would say of itself what only its certificate says, or rewrite what was judged.
const NEVER_BELIEVED: [&str; 14] = [
    "client-cert",
    "client-cert-chain",
    "connection",
    "forwarded",
    "x-envoy-original-path",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];
