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
                "Who: which certificates get which roles and permissions.",
                &json!([{ "name": "order-service", "match": { "uri": "spiffe://shop.example/ns/orders/sa/*" }, "roles": ["producer"] }]),
            ),
            "deny": with_help(
                &json!({ "type": "array", "items": deny() }),
                "What is forbidden whatever is granted.",
                &json!([{ "name": "publishing-freeze", "permissions": ["events:publish"], "when": { "days": ["sat", "sun"] } }]),
            ),
            "tests": with_help(
                &json!({ "type": "array", "items": { "anyOf": [test(), matrix()] } }),
                "Questions with their expected answers, asked by `sidegate policy test`.",
                &json!([{ "name": "readers only read", "client": { "common_name": "reader" }, "request": "POST /events", "expect": "deny" }]),
            ),
        },
        "$defs": {
            "name": { "type": "string", "pattern": "^[^\\s*{},()&|]+$" },
            "reference": { "type": "string", "description": "A declared name, or a pattern over them: `events:*`." },
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
        "description": "What: a name, and the routes that it stands for.",
        "propertyNames": { "$ref": "#/$defs/name" },
        "additionalProperties": { "$ref": "#/$defs/routes" },
        "examples": [{ "events:read": ["GET /events", "GET /events/{id}"] }],
    })
}

fn roles() -> Value {
    json!({
        "type": "object",
        "description": "A name, and the permissions and other roles that it stands for.",
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
                "What the certificate says. All keys of one mapping must hold; a list of mappings means any of them.",
                &json!({ "organization": "Tenants", "common_name": "{tenant}-reader" }),
            ),
            "roles": with_help(&references(), "The roles that these clients have.", &json!(["producer"])),
            "permissions": with_help(&references(), "The permissions that they have besides.", &json!(["events:*"])),
            "when": when_key(),
            "priority": with_help(
                &json!({ "enum": ["normal", "high"] }),
                "`high`: a part of what there is is kept for these clients, and they come first where others wait.",
                &json!("high"),
            ),
            "limits": with_help(
                &json!({
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "requests_per_second": with_help(&number, "Requests in a second, in the long run.", &json!(200)),
                        "burst": with_help(&number, "Requests at once; as many as in a second where nothing is said.", &json!(400)),
                        "connections": with_help(&number, "Connections at once.", &json!(20)),
                        "in_flight": with_help(&number, "Requests at once that the backend works on or that wait for it, over all connections.", &json!(50)),
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
            "clients": with_help(&references(), "The client entries that it means; left out: every client.", &json!(["order-*"])),
            "permissions": with_help(&references(), "The permissions that it takes away.", &json!(["events:publish"])),
            "routes": with_help(&json!({ "$ref": "#/$defs/routes" }), "The routes that it forbids.", &json!(["DELETE /**"])),
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
                    "query": with_help(&values, "Parameters that must be there exactly once, with one of these values (`*` for any).", &json!({ "format": ["csv", "json"] })),
                    "headers": with_help(&values, "Headers that must be there exactly once, with one of these values (`*` for any).", &json!({ "X-Mode": "batch" })),
                    "timeouts": with_help(&timeouts(), "Time limits of the requests that it grants, in place of those of the configuration; `none` for streams, long polls and exports, which then end with their client.", &json!({ "response": "10m", "idle": "none" })),
                    "upgrade": with_help(&json!({ "const": "websocket" }), "Also permits the switch to WebSocket, after which no request is judged any more.", &json!("websocket")),
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
        "When and from where it holds; everything in it must hold.",
        &example,
    )
}

fn when() -> Value {
    let text = json!({ "type": "string" });
    let instant = json!({ "type": "string", "format": "date-time" });
    json!({
        "type": "object",
        "minProperties": 1,
        "description": "When and from where it holds; everything in it must hold.",
        "additionalProperties": false,
        "properties": {
            "source": with_help(&one_or_more(&text), "Networks of the client's address.", &json!(["10.0.0.0/8"])),
            "from": with_help(&instant, "The instant from which on it holds.", &json!("2026-12-24T00:00:00Z")),
            "until": with_help(&instant, "The first instant at which it is over.", &json!("2027-01-01T00:00:00Z")),
            "days": with_help(&one_or_more(&text), "Days of the week: `mon`, `tue`, …, or runs such as `mon-fri`.", &json!(["mon-fri"])),
            "hours": with_help(&one_or_more(&text), "Windows of these days. One that ends before it starts goes on into the next day.", &json!(["08:00-18:00"])),
            "zone": with_help(&text, "The time zone of `days` and `hours`; `UTC` where nothing is said.", &json!("Europe/Berlin")),
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
    add("client", with_help(&attributes(), "Who asks, by what the certificate says.", &who));
    add(
        "certificate",
        with_help(&text, "Who asks, by a certificate's file, relative to this one.", &json!("reader.pem")),
    );
    add("request", with_help(&one_or_more(&text), "METHOD /path?query.", &json!("GET /events?after=17")));
    add("expect", with_help(&answers, "The answer.", &json!("deny")));
    add(
        "because",
        with_help(&text, "The client entry or deny rule that must have decided.", &json!("order-service")),
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
    add("clients", with_help(&clients, "Clients by a name that this test gives them.", &who));
    add(
        "requests",
        with_help(&texts, "Requests, each asked by each client.", &json!(["GET /events", "POST /events"])),
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
        (
            "host",
            with_help(
                &text,
                "The host that the request names; none where nothing is said.",
                &json!("shop.example"),
            ),
        ),
        ("headers", with_help(&headers, "Headers of the request.", &json!({ "X-Mode": "batch" }))),
        (
            "upgrade",
            with_help(
                &websocket,
                "The switch that the request asks for; it must be permitted too.",
                &json!("websocket"),
            ),
        ),
        (
            "at",
            with_help(
                &instant,
                "When it is asked; now where nothing is said.",
                &json!("2026-11-15T12:00:00Z"),
            ),
        ),
        (
            "source",
            with_help(
                &text,
                "The address that it is asked from; 192.0.2.1 where nothing is said.",
                &json!("10.1.2.3"),
            ),
        ),
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
        Attribute::CommonName => {
            ("CN of the subject. A certificate with several matches no rule on it.", "{tenant}-reader")
        }
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
        Attribute::Ip => ("An IP address of the certificate, or a network that holds it.", "10.0.0.0/8"),
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
