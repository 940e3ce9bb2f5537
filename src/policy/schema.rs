//! The JSON Schema of policy files, with which editors complete and explain every key.
//!
//! `policies/policy.schema.json` is the output of [`schema`]; a test compares the two.

use serde_json::{Map, Value, json};

use crate::identity::Attribute;

/// Returns the schema (JSON Schema draft 2020-12).
pub(crate) fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sidegate policy",
        "description": "Who may do what. Everything that is not granted is denied; a deny rule beats every grant; order never matters.",
        "type": ["object", "null"],
        "required": ["version"],
        "additionalProperties": false,
        "properties": {
            "version": { "const": 1, "description": "The version of the policy language.", "examples": [1] },
            "permissions": permissions(),
            "roles": roles(),
            "clients": with_help(
                &json!({ "type": "array", "items": client() }),
                "Clients: which certificates get which roles and permissions.",
                &json!([{ "name": "order-service", "match": { "uri": "spiffe://shop.example/ns/orders/sa/*" }, "roles": ["producer"] }]),
            ),
            "deny": with_help(
                &json!({ "type": "array", "items": deny() }),
                "Requests that are always refused, even if a client entry grants them.",
                &json!([{ "name": "publishing-freeze", "permissions": ["events:publish"], "when": { "days": ["sat", "sun"] } }]),
            ),
            "tests": with_help(
                &json!({ "type": "array", "items": { "anyOf": [test(), matrix()] } }),
                "Test requests with the expected decision; run them with `sidegate policy test`.",
                &json!([{ "name": "readers only read", "client": { "common_name": "reader" }, "request": "POST /events", "expect": "deny" }]),
            ),
        },
        "$defs": {
            "name": { "type": "string", "pattern": "^[^\\s*{},()&|]+$" },
            "reference": { "type": "string", "description": "A declared name, or a pattern for several names: `events:*`." },
            "routes": one_or_more(&json!({ "$ref": "#/$defs/route" })),
            "route": route(),
            "when": when(),
            "match": alternative(),
            "values": one_or_more(&json!({ "type": ["string", "number", "boolean"] })),
        },
    })
}

fn permissions() -> Value {
    json!({
        "type": "object",
        "description": "Permissions: each has a name and a list of routes.",
        "propertyNames": { "$ref": "#/$defs/name" },
        "additionalProperties": { "$ref": "#/$defs/routes" },
        "examples": [{ "events:read": ["GET /events", "GET /events/{id}"] }],
    })
}

fn roles() -> Value {
    json!({
        "type": "object",
        "description": "Roles: each has a name and a list of permissions and other roles.",
        "propertyNames": { "$ref": "#/$defs/name" },
        "additionalProperties": one_or_more(&json!({ "$ref": "#/$defs/reference" })),
        "examples": [{ "producer": ["consumer", "events:publish"] }],
    })
}

fn client() -> Value {
    let number = json!({ "type": "integer", "minimum": 1 });
    json!({
        "type": "object",
        "required": ["name", "match"],
        "additionalProperties": false,
        "properties": {
            "name": with_help(&name(), "How audit records and tests name this entry.", &json!("order-service")),
            "match": with_help(
                &one_or_more(&json!({ "$ref": "#/$defs/match" })),
                "What the certificate must contain. All keys of one mapping must match; of a list of mappings, one must match.",
                &json!({ "organization": "Tenants", "common_name": "{tenant}-reader" }),
            ),
            "roles": with_help(&references(), "The roles that these clients have.", &json!(["producer"])),
            "permissions": with_help(&references(), "Further permissions for these clients, in addition to `roles`.", &json!(["events:*"])),
            "when": when_key(),
            "priority": with_help(
                &json!({ "enum": ["normal", "high"] }),
                "`high`: some connections and requests are reserved for these clients, and they go first in the queue.",
                &json!("high"),
            ),
            "limits": with_help(
                &json!({
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "requests_per_second": with_help(&number, "Requests per second, as a long-term average.", &json!(200)),
                        "burst": with_help(&number, "Requests at once, as a short peak. Default: as many as `requests_per_second`.", &json!(400)),
                        "connections": with_help(&number, "Connections at once.", &json!(20)),
                        "in_flight": with_help(&number, "Requests in progress or waiting, over all connections of one client.", &json!(50)),
                    },
                }),
                "How much of the service each of these clients may take.",
                &json!({ "requests_per_second": 200, "burst": 400 }),
            ),
        },
    })
}

fn deny() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "anyOf": [{ "required": ["permissions"] }, { "required": ["routes"] }],
        "additionalProperties": false,
        "properties": {
            "name": with_help(&name(), "How audit records and tests name this rule.", &json!("publishing-freeze")),
            "clients": with_help(&references(), "The client entries to which this rule applies. Default: every client.", &json!(["order-*"])),
            "permissions": with_help(&references(), "The permissions that this rule forbids.", &json!(["events:publish"])),
            "routes": with_help(&json!({ "$ref": "#/$defs/routes" }), "The routes that this rule forbids.", &json!(["DELETE /**"])),
            "when": when_key(),
        },
    })
}

fn route() -> Value {
    let values = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/values" } });
    let text = json!({
        "type": "string",
        "pattern": "^(\\*|[A-Z0-9!#$%&'+.^_`~-]+(\\|[A-Z0-9!#$%&'+.^_`~-]+)*) +/",
        "description": "METHODS PATH. `{name}` is any one segment, `*` matches within a segment, a last `/**` any number of segments, `{client.NAME}` what the certificate gives to NAME.",
        "examples": ["GET /events/{id}", "GET|PUT /files/*.txt", "* /tenants/{client.tenant}/**"],
    });
    json!({
        "anyOf": [
            text,
            {
                "type": "object",
                "required": ["route"],
                "additionalProperties": false,
                "properties": {
                    "route": text,
                    "hosts": with_help(&one_or_more(&host()), "Hosts that the request may name, in every protocol and without case. `*` matches within a label, `**` across labels; a host without a port means any port.", &json!(["shop.example", "*.shop.example:8443"])),
                    "query": with_help(&values, "Parameters that the request must have exactly once, each with one of these values (`*` for any).", &json!({ "format": ["csv", "json"] })),
                    "headers": with_help(&values, "Headers that the request must have exactly once, each with one of these values (`*` for any).", &json!({ "X-Mode": "batch" })),
                    "timeouts": with_help(&timeouts(), "Time limits of the requests that it grants, in place of those of the configuration; `none` for streams, long polls and exports, which then end with their client.", &json!({ "response": "10m", "idle": "none" })),
                    "upgrade": with_help(&json!({ "const": "websocket" }), "Also allows WebSocket. Messages inside a WebSocket are not checked.", &json!("websocket")),
                },
            },
        ],
    })
}

/// Returns the schema of the time limits of a route.
fn timeouts() -> Value {
    let limit = json!({ "type": "string", "pattern": "^(none|[0-9]+ *(ms|s|m|h|d))$" });
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "properties": {
            "response": with_help(&limit, "Time until the headers of the response, instead of `backend.response_timeout`.", &json!("none")),
            "idle": with_help(&limit, "Time for which nothing may come in the middle of an answer or of a WebSocket, instead of `backend.idle_timeout` and `limits.upgrade_idle_timeout`.", &json!("1h")),
        },
    })
}

/// Returns the schema of a host: a name with or without wildcards, or an IPv6 address, each with or without a port.
fn host() -> Value {
    json!({ "type": "string", "pattern": "^([A-Za-z0-9._~*-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$" })
}

/// Returns the schema of the key `when` of an entry.
fn when_key() -> Value {
    let example = json!({ "source": ["10.0.0.0/8"], "until": "2027-01-01T00:00:00Z" });
    with_help(
        &json!({ "$ref": "#/$defs/when" }),
        "The time and the client addresses for which this entry applies. All keys must match.",
        &example,
    )
}

fn when() -> Value {
    let text = json!({ "type": "string" });
    let instant = json!({ "type": "string", "format": "date-time" });
    json!({
        "type": "object",
        "minProperties": 1,
        "description": "The time and the client addresses for which this entry applies. All keys must match.",
        "additionalProperties": false,
        "properties": {
            "source": with_help(&one_or_more(&text), "Networks of the client's address.", &json!(["10.0.0.0/8"])),
            "from": with_help(&instant, "Start time.", &json!("2026-12-24T00:00:00Z")),
            "until": with_help(&instant, "End time; the entry does not apply at or after it.", &json!("2027-01-01T00:00:00Z")),
            "days": with_help(&one_or_more(&text), "Days of the week: `mon`, `tue`, …, or ranges such as `mon-fri`.", &json!(["mon-fri"])),
            "hours": with_help(&one_or_more(&text), "Hours of the day. `22:00-06:00` continues into the next day.", &json!(["08:00-18:00"])),
            "zone": with_help(&text, "The time zone of `days` and `hours`. Default: `UTC`.", &json!("Europe/Berlin")),
        },
    })
}

fn alternative() -> Value {
    let any = with_help(&json!({ "const": true }), "Every client with a valid certificate.", &json!(true));
    let mut properties = Map::from_iter([("any".to_owned(), any)]);
    properties.extend(attribute_properties());
    json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "properties": properties })
}

fn test() -> Value {
    let mut properties = common_keys();
    let mut add = |key: &str, value: Value| drop(properties.insert(key.to_owned(), value));
    let text = json!({ "type": "string" });
    let who = json!({ "organization": "Shop", "common_name": "reader" });
    let answers = json!({ "enum": ["allow", "deny"] });
    add(
        "client",
        with_help(&attributes(), "The client of the test, described by its certificate's attributes.", &who),
    );
    add(
        "certificate",
        with_help(
            &text,
            "The client of the test, as a certificate file; the path is relative to this file.",
            &json!("reader.pem"),
        ),
    );
    add("request", with_help(&one_or_more(&text), "METHOD /path?query.", &json!("GET /events?after=17")));
    add("expect", with_help(&answers, "The expected decision.", &json!("deny")));
    add(
        "because",
        with_help(
            &text,
            "The client entry or deny rule that must be the reason for the decision.",
            &json!("order-service"),
        ),
    );
    json!({ "type": "object", "required": ["name", "request", "expect"], "additionalProperties": false, "properties": properties })
}

fn matrix() -> Value {
    let mut properties = common_keys();
    let mut add = |key: &str, value: Value| drop(properties.insert(key.to_owned(), value));
    let texts = one_or_more(&json!({ "type": "string" }));
    let who = json!({ "acme": { "common_name": "acme-reader" } });
    let clients = json!({ "type": "object", "additionalProperties": attributes() });
    let allow = json!({ "type": "object", "additionalProperties": texts });
    add("clients", with_help(&clients, "The clients of the test, each under a name that you choose.", &who));
    add(
        "requests",
        with_help(
            &texts,
            "The requests of the test; each client makes each of them.",
            &json!(["GET /events", "POST /events"]),
        ),
    );
    add(
        "allow",
        with_help(
            &allow,
            "For each client the requests that must be allowed, `*` for all; all others must be denied.",
            &json!({ "acme": ["GET /events"] }),
        ),
    );
    json!({ "type": "object", "required": ["name", "clients", "requests", "allow"], "additionalProperties": false, "properties": properties })
}

/// Returns the keys that single tests and matrices have in common.
fn common_keys() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let headers = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/values" } });
    let instant = json!({ "type": "string", "format": "date-time" });
    let websocket = json!({ "const": "websocket" });
    let properties = [
        ("name", with_help(&text, "What the test shows, in words.", &json!("readers only read"))),
        ("host", with_help(&text, "The host that the request names. Default: none.", &json!("shop.example"))),
        ("headers", with_help(&headers, "Headers of the request.", &json!({ "X-Mode": "batch" }))),
        (
            "upgrade",
            with_help(
                &websocket,
                "The request asks for WebSocket, and counts as allowed only if WebSocket is allowed too.",
                &json!("websocket"),
            ),
        ),
        ("at", with_help(&instant, "Time of the request. Default: now.", &json!("2026-11-15T12:00:00Z"))),
        ("source", with_help(&text, "Client address. Default: 192.0.2.1.", &json!("10.1.2.3"))),
    ];
    properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Returns the schema of the attributes of a test's client.
fn attributes() -> Value {
    let properties: Map<String, Value> = attribute_properties().collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn attribute_properties() -> impl Iterator<Item = (String, Value)> {
    Attribute::ALL.into_iter().map(|attribute| {
        let (meaning, example) = meaning(attribute);
        let values = json!({ "$ref": "#/$defs/values" });
        (attribute.name().to_owned(), with_help(&values, meaning, &json!(example)))
    })
}

fn name() -> Value {
    json!({ "$ref": "#/$defs/name" })
}

fn references() -> Value {
    one_or_more(&json!({ "$ref": "#/$defs/reference" }))
}

fn one_or_more(item: &Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "minItems": 1, "items": item }] })
}

/// Returns a schema with a description and an example, which editors show.
fn with_help(schema: &Value, description: &str, example: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), json!(description));
        schema.insert("examples".to_owned(), json!([example]));
    }
    schema
}

/// Returns the meaning of an attribute and an example.
const fn meaning(attribute: Attribute) -> (&'static str, &'static str) {
    match attribute {
        Attribute::Subject => ("The whole subject, as RFC 4514 writes it.", "CN=order-producer,O=Shop"),
        Attribute::CommonName => (
            "CN of the subject. A certificate with several common names never matches this key.",
            "{tenant}-reader",
        ),
        Attribute::Organization => ("O of the subject.", "Shop"),
        Attribute::OrganizationalUnit => ("OU of the subject.", "Release"),
        Attribute::Country => ("C of the subject.", "DE"),
        Attribute::Locality => ("L of the subject.", "Berlin"),
        Attribute::State => ("ST of the subject.", "Berlin"),
        Attribute::Serial => ("The serial number, in hexadecimal.", "4a:5b:6c"),
        Attribute::Dns => {
            ("A DNS name of the certificate; `*` matches one label, `**` several.", "*.shop.example")
        }
        Attribute::Uri => (
            "A URI of the certificate, such as a SPIFFE id; `*` matches one segment, `**` several.",
            "spiffe://shop.example/ns/orders/sa/*",
        ),
        Attribute::Email => ("An e-mail address of the certificate.", "*@ops.shop.example"),
        Attribute::Ip => ("An IP address of the certificate, or a network that contains it.", "10.0.0.0/8"),
        Attribute::Issuer => ("The issuer's common name, or its whole name.", "Shop Client CA"),
        Attribute::Fingerprint => (
            "SHA-256 of the certificate, in hexadecimal.",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        Attribute::PublicKey => (
            "SHA-256 of the public key (SubjectPublicKeyInfo), in hexadecimal.",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/policy.schema.json");
        let current = format!("{:#}\n", schema());
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == current, "{path} is out of date; run the tests with UPDATE_SNAPSHOTS=1");
    }
    /// Calls `seen` with each property of each object in the schema.
    fn properties(value: &Value, seen: &mut impl FnMut(&str, &Value)) {
        let Some(object) = value.as_object() else {
            return value.as_array().into_iter().flatten().for_each(|item| properties(item, seen));
        };
        for (key, value) in object {
            match value.as_object().filter(|_| key == "properties") {
                Some(own) => own.iter().for_each(|(name, property)| {
                    seen(name, property);
                    properties(property, seen);
                }),
                None if key != "examples" => properties(value, seen),
                None => {}
            }
        }
    }

    #[test]
    fn every_key_is_explained_and_has_an_example() {
        let mut count = 0;
        properties(&schema(), &mut |name, property| {
            count += 1;
            assert!(
                property["description"].as_str().is_some_and(|text| text.len() > 5),
                "{name}: {property}"
            );
            assert!(property["examples"].as_array().is_some_and(|all| !all.is_empty()), "{name}: {property}");
        });
        assert!(count > 60, "{count}");
    }
}
