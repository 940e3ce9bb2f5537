//! The JSON Schema of policy files, by which editors complete and explain every key.
//!
//! `policies/policy.schema.json` is what [`schema`] gives; a test holds the two equal.

use serde_json::{Map, Value, json};

use crate::identity::Attribute;

/// The schema, draft 2020-12.
pub(crate) fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sidegate policy",
        "description": "Who may do what. Everything that is not granted is denied; a deny rule beats every grant; order never matters.",
        "type": ["object", "null"],
        "required": ["version"],
        "additionalProperties": false,
        "properties": {
            "version": { "const": 1, "description": "The version of the policy language." },
            "permissions": permissions(),
            "roles": roles(),
            "clients": { "type": "array", "items": client(), "description": "Who: which certificates get which roles and permissions." },
            "deny": { "type": "array", "items": deny(), "description": "What is forbidden whatever is granted." },
            "tests": { "type": "array", "items": { "anyOf": [test(), matrix()] }, "description": "Questions with their expected answers, asked by `sidegate policy test`." },
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
    json!({
        "type": "object",
        "required": ["name", "match"],
        "additionalProperties": false,
        "properties": {
            "name": { "$ref": "#/$defs/name", "description": "How audit records and tests name this entry." },
            "match": described(&one_or_more(&json!({ "$ref": "#/$defs/match" })), "What the certificate says. All keys of one mapping must hold; a list of mappings means any of them."),
            "roles": described(&one_or_more(&json!({ "$ref": "#/$defs/reference" })), "The roles that these clients have."),
            "permissions": described(&one_or_more(&json!({ "$ref": "#/$defs/reference" })), "The permissions that they have besides."),
            "when": { "$ref": "#/$defs/when" },
            "priority": { "enum": ["normal", "high"], "description": "`high`: a part of what there is is kept for these clients, and they come first where others wait." },
            "limits": {
                "type": "object",
                "description": "How much of the service each of these clients may take.",
                "additionalProperties": false,
                "properties": {
                    "requests_per_second": { "type": "integer", "minimum": 1, "description": "Requests in a second, in the long run." },
                    "burst": { "type": "integer", "minimum": 1, "description": "Requests at once; as many as in a second where nothing is said." },
                    "connections": { "type": "integer", "minimum": 1, "description": "Connections at once." },
                },
            },
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
            "name": { "$ref": "#/$defs/name", "description": "How audit records and tests name this rule." },
            "clients": described(&one_or_more(&json!({ "$ref": "#/$defs/reference" })), "The client entries that it means; left out: every client."),
            "permissions": described(&one_or_more(&json!({ "$ref": "#/$defs/reference" })), "The permissions that it takes away."),
            "routes": described(&json!({ "$ref": "#/$defs/routes" }), "The routes that it forbids."),
            "when": { "$ref": "#/$defs/when" },
        },
    })
}

fn route() -> Value {
    let values = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/values" } });
    json!({
        "anyOf": [
            {
                "type": "string",
                "description": "METHODS PATH. `{name}` is any one segment, `*` matches within a segment, a last `/**` any number of segments, `{client.NAME}` what the certificate gives to NAME.",
                "pattern": "^(\\*|[A-Z0-9!#$%&'+.^_`~-]+(\\|[A-Z0-9!#$%&'+.^_`~-]+)*) +/",
                "examples": ["GET /events/{id}", "GET|PUT /files/*.txt", "* /tenants/{client.tenant}/**"],
            },
            {
                "type": "object",
                "required": ["route"],
                "additionalProperties": false,
                "properties": {
                    "route": { "type": "string", "description": "METHODS PATH." },
                    "query": described(&values, "Parameters that must be there exactly once, with one of these values (`*` for any)."),
                    "headers": described(&values, "Headers that must be there exactly once, with one of these values (`*` for any)."),
                    "upgrade": { "const": "websocket", "description": "Also permits the switch to WebSocket, after which no request is judged any more." },
                },
            },
        ],
    })
}

fn when() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "minProperties": 1,
        "description": "When and from where it holds; everything in it must hold.",
        "additionalProperties": false,
        "properties": {
            "source": described(&one_or_more(&text), "Networks of the client's address, such as `10.0.0.0/8`."),
            "from": { "type": "string", "format": "date-time", "description": "The instant from which on it holds." },
            "until": { "type": "string", "format": "date-time", "description": "The instant at which it ends." },
            "days": described(&one_or_more(&text), "Days of the week: `mon`, `tue`, …, or runs such as `mon-fri`."),
            "hours": described(&one_or_more(&text), "Windows of the day, such as `08:00-18:00`."),
            "zone": { "type": "string", "description": "The time zone of `days` and `hours`; `UTC` where nothing is said." },
        },
    })
}

fn alternative() -> Value {
    let mut properties = Map::new();
    properties.insert(
        "any".to_owned(),
        json!({ "const": true, "description": "Every client with a valid certificate." }),
    );
    for attribute in Attribute::ALL {
        properties.insert(
            attribute.name().to_owned(),
            described(&json!({ "$ref": "#/$defs/values" }), meaning(attribute)),
        );
    }
    json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "properties": properties })
}

fn test() -> Value {
    let mut properties = circumstances();
    properties.insert("client".to_owned(), attributes("Who asks, by what the certificate says."));
    properties.insert(
        "certificate".to_owned(),
        json!({ "type": "string", "description": "Who asks, by a certificate's file." }),
    );
    properties.insert(
        "request".to_owned(),
        described(&one_or_more(&json!({ "type": "string" })), "METHOD /path?query."),
    );
    properties.insert("expect".to_owned(), json!({ "enum": ["allow", "deny"] }));
    properties.insert(
        "because".to_owned(),
        json!({ "type": "string", "description": "The client entry or deny rule that must have decided." }),
    );
    json!({ "type": "object", "required": ["name", "request", "expect"], "additionalProperties": false, "properties": properties })
}

fn matrix() -> Value {
    let mut properties = circumstances();
    let clients = json!({ "type": "object", "additionalProperties": attributes("What this client's certificate says.") });
    properties
        .insert("clients".to_owned(), described(&clients, "Clients by a name that this test gives them."));
    properties.insert(
        "requests".to_owned(),
        described(&one_or_more(&json!({ "type": "string" })), "Requests, each asked by each client."),
    );
    let allow =
        json!({ "type": "object", "additionalProperties": one_or_more(&json!({ "type": "string" })) });
    properties.insert(
        "allow".to_owned(),
        described(&allow, "For each client the requests that must be allowed; all others must be denied."),
    );
    json!({ "type": "object", "required": ["name", "clients", "requests", "allow"], "additionalProperties": false, "properties": properties })
}

fn circumstances() -> Map<String, Value> {
    let mut properties = Map::new();
    let mut add = |name: &str, value: Value| drop(properties.insert(name.to_owned(), value));
    add("name", json!({ "type": "string" }));
    add("headers", json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/values" } }));
    add("upgrade", json!({ "const": "websocket" }));
    add(
        "at",
        json!({ "type": "string", "format": "date-time", "description": "When it is asked; now where nothing is said." }),
    );
    add(
        "source",
        json!({ "type": "string", "description": "The address that it is asked from; 192.0.2.1 where nothing is said." }),
    );
    properties
}

fn attributes(description: &str) -> Value {
    let properties: Map<String, Value> = Attribute::ALL
        .iter()
        .map(|attribute| (attribute.name().to_owned(), json!({ "$ref": "#/$defs/values" })))
        .collect();
    json!({ "type": "object", "description": description, "additionalProperties": false, "properties": properties })
}

fn one_or_more(item: &Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "minItems": 1, "items": item }] })
}

fn described(schema: &Value, description: &str) -> Value {
    let mut schema = schema.clone();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), json!(description));
    }
    schema
}

/// What an attribute is, for authors.
const fn meaning(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Subject => "The whole subject, as RFC 4514 writes it: `CN=order-producer,O=Shop`.",
        Attribute::CommonName => "CN of the subject. A certificate with several matches no rule on it.",
        Attribute::Organization => "O of the subject.",
        Attribute::OrganizationalUnit => "OU of the subject.",
        Attribute::Country => "C of the subject.",
        Attribute::Locality => "L of the subject.",
        Attribute::State => "ST of the subject.",
        Attribute::Serial => "The serial number, in hexadecimal.",
        Attribute::Dns => "A DNS name of the certificate; `*` matches one label, `**` several.",
        Attribute::Uri => {
            "A URI of the certificate, such as a SPIFFE id; `*` matches one segment, `**` several."
        }
        Attribute::Email => "An e-mail address of the certificate.",
        Attribute::Ip => "An IP address of the certificate, or a network that holds it.",
        Attribute::Issuer => "The issuer's common name, or its whole name.",
        Attribute::Fingerprint => "SHA-256 of the certificate, in hexadecimal.",
        Attribute::PublicKey => "SHA-256 of the public key (SubjectPublicKeyInfo), in hexadecimal.",
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
}
