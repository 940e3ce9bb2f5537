//! Every key of the configuration, once: what the file may hold, the flags and variables that override it, the
//! defaults, and the help all come from this table.

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path, as `limits.lobby.idle_timeout`.
    pub path: &'static str,
    /// What a value is called in help.
    pub value: &'static str,
    /// The default, as an author would write it; empty where there is none.
    pub default: &'static str,
    /// One line of explanation.
    pub help: &'static str,
}

const fn key(path: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { path, value, default, help }
}

/// All keys, in the order of the documentation.
pub const KEYS: &[Key] = &[
    key("listen", "ADDRESS", "0.0.0.0:8443", "Address and port for clients"),
    key("tls.certificate", "FILE", "", "The server's certificate chain (PEM)"),
    key("tls.key", "FILE", "", "The key of the server's certificate (PEM)"),
    key(
        "tls.certificates",
        "LIST",
        "[]",
        "Further server certificates, each for clients that ask for one of its names (SNI): [{certificate: b.crt, key: b.key}]",
    ),
    key(
        "tls.client_ca",
        "PATH",
        "",
        "The authorities that client certificates must come from: a PEM file, or a folder of them",
    ),
    key(
        "tls.crl",
        "PATH",
        "",
        "CRLs of the client CAs and of the intermediates below them: a file (PEM or DER), or a folder of them",
    ),
    key("tls.crl_grace", "DURATION", "0s", "How long a CRL is believed after its nextUpdate"),
    key(
        "tls.crl_missing",
        "WHAT",
        "refuse",
        "Clients with an issuer in their chain that has no CRL, where `tls.crl` is set: refuse or allow",
    ),
    key(
        "tls.trust_domains",
        "MAP",
        "",
        "Client CA files whose certificates must have a SPIFFE id of one domain: {shop-ca.pem: shop.example}",
    ),
    key(
        "tls.require_client_auth_eku",
        "BOOL",
        "false",
        "Refuse client certificates that do not say outright that they are for client authentication",
    ),
    key(
        "backend.url",
        "URL",
        "",
        "The backend: http://HOST:PORT, https://, h2c:// (HTTP/2), h2:// (HTTP/2 by TLS), or unix:PATH",
    ),
    key(
        "backend.tls.ca",
        "PATH",
        "",
        "The authorities that the backend's certificate must come from: a PEM file, or a folder of them",
    ),
    key(
        "backend.tls.server_name",
        "NAME",
        "",
        "The name that the backend's certificate must be for, where it is not the URL's host",
    ),
    key("backend.tls.certificate", "FILE", "", "A certificate chain to show to the backend (PEM)"),
    key("backend.tls.key", "FILE", "", "The key of that certificate (PEM)"),
    key("backend.connect_timeout", "DURATION", "1s", "Time to connect to the backend"),
    key("backend.response_timeout", "DURATION", "30s", "Time until the headers of the backend's response"),
    key(
        "backend.idle_timeout",
        "DURATION",
        "5m",
        "How long the backend may say nothing in the middle of an answer; then that is broken off",
    ),
    key("backend.max_in_flight", "N", "512", "Requests that the backend works on at once"),
    key(
        "backend.reserved_for_others",
        "PERCENT",
        "10",
        "Of requests in flight and of the queue, kept for clients that have none there (rounded down); 0: nothing",
    ),
    key(
        "backend.ignore_client_abort",
        "BOOL",
        "false",
        "Whether the backend is told nothing when a client takes its request back: for servers that close at once and work on",
    ),
    key(
        "backend.queue",
        "N",
        "64",
        "Requests that may wait for a place among these, first come, first served; 0: none",
    ),
    key(
        "backend.queue_timeout",
        "DURATION",
        "1s",
        "How long each of them may wait; then 504. 0s: not at all",
    ),
    key(
        "backend.breaker.failures",
        "N",
        "5",
        "Connections in a row that could not be made until requests are answered 504 at once; 0: never",
    ),
    key(
        "backend.breaker.pause",
        "DURATION",
        "100ms",
        "Then the longest time until one request tries again; each further pause is up to twice as long",
    ),
    key("backend.breaker.max_pause", "DURATION", "800ms", "The longest time between two such tries"),
    key(
        "backend.health.path",
        "PATH",
        "",
        "What the backend is asked for by GET, to see whether it is well (2xx or 3xx); it is not asked without this",
    ),
    key(
        "backend.health.interval",
        "DURATION",
        "5s",
        "How often it is asked, and how long it may take to answer",
    ),
    key("policies", "PATH", "", "The policy: a YAML file, or a folder of them"),
    key(
        "shadow_policies",
        "PATH",
        "",
        "A policy that is judged beside it: where the two differ is counted and recorded, and changes no answer",
    ),
    key(
        "mode",
        "MODE",
        "enforce",
        "enforce, or audit: what would be 403 is passed on and recorded, and no policy is enforced",
    ),
    key(
        "paths.allow",
        "LIST",
        "[]",
        "What is let through although others may read it differently: encoded_slash, backslash, double_encoding, empty_segments, semicolon, non_utf8",
    ),
    key(
        "limits.max_connections",
        "N",
        "1000",
        "Connection slots; a connection takes one with its first permitted request",
    ),
    key(
        "limits.max_connections_per_client",
        "N",
        "0",
        "Connection slots that one client may hold, whoever it is; 0: no bound of its own",
    ),
    key(
        "limits.reserved_for_high_priority",
        "PERCENT",
        "10",
        "Of slots, requests in flight and the queue, kept for client entries with `priority: high` if the policy has any",
    ),
    key("limits.idle_timeout", "DURATION", "75s", "How long a connection with a slot may be idle"),
    key(
        "limits.upgrade_idle_timeout",
        "DURATION",
        "5m",
        "How long a WebSocket may go without a byte in either direction",
    ),
    key(
        "limits.lobby.max_connections",
        "N",
        "1000",
        "Connections without a slot; the oldest of the source that has the most makes room for the newest",
    ),
    key("limits.lobby.max_per_source", "N", "100", "Connections without a slot from one address"),
    key("limits.lobby.connections_per_second", "N", "100", "New connections a second from one address"),
    key(
        "limits.lobby.handshakes",
        "N",
        "512",
        "Connections in the middle of their TLS handshake; the oldest of the source that has the most makes room",
    ),
    key("limits.lobby.handshake_timeout", "DURATION", "5s", "Time for the TLS handshake"),
    key(
        "limits.lobby.request_timeout",
        "DURATION",
        "10s",
        "Time for a request's headers, and for the first request",
    ),
    key("limits.lobby.idle_timeout", "DURATION", "10s", "How long a connection without a slot may be idle"),
    key(
        "limits.http.max_header_bytes",
        "BYTES",
        "65536",
        "Bytes of a request's headers; more are answered 431",
    ),
    key("limits.http.max_headers", "N", "100", "Headers of a request; more are answered 431"),
    key("limits.http.max_streams", "N", "250", "HTTP/2: requests at once on a connection"),
    key(
        "limits.http.max_pending_resets",
        "N",
        "32",
        "HTTP/2: streams that a client may have reset before they were seen to (rapid reset)",
    ),
    key(
        "limits.http.max_provoked_resets",
        "N",
        "256",
        "HTTP/2: resets that a client may provoke by protocol errors before its connection ends",
    ),
    key(
        "limits.http.body_timeout",
        "DURATION",
        "60s",
        "How long a client may send nothing of a body that is waited for; then 408",
    ),
    key(
        "limits.http.write_timeout",
        "DURATION",
        "60s",
        "How long a client may take nothing of an answer, whoever made it; then its connection is cut",
    ),
    key("limits.http.max_target_bytes", "BYTES", "16384", "Bytes of a request's path and query; more is 400"),
    key(
        "trusted_proxies",
        "LIST",
        "[]",
        "Networks of proxies that are believed X-Forwarded-*, Forwarded and X-Real-IP: [10.0.0.0/8]",
    ),
    key(
        "identity_headers.client_cert",
        "BOOL",
        "true",
        "Send the client's certificate to the backend in Client-Cert (RFC 9440)",
    ),
    key(
        "identity_headers.client_cert_chain",
        "BOOL",
        "false",
        "Send the rest of its chain in Client-Cert-Chain (RFC 9440): several KiB with every request",
    ),
    key("identity_headers.xfcc", "BOOL", "false", "Send X-Forwarded-Client-Cert, in Envoy's form"),
    key(
        "identity_headers.custom",
        "MAP",
        "",
        "Headers of your own, each with what it says of the client: {X-Client-Name: common_name}",
    ),
    key(
        "identity_headers.strip",
        "LIST",
        "[]",
        "Names that are taken off the client's requests beside the listed ones; `*` ends a family: [X-Acme-*]",
    ),
    key("admin.listen", "ADDRESS", "127.0.0.1:9901", "Address and port of the admin listener"),
    key(
        "admin.token_file",
        "FILE",
        "",
        "A file with the token that is wanted for all of it but /livez, /readyz and /metrics; read anew by each reload",
    ),
    key(
        "admin.readiness_needs_backend",
        "BOOL",
        "false",
        "Whether /readyz answers 503 also while the backend is down or unwell",
    ),
    key("log.level", "LEVEL", "info", "error, warn, info, debug or trace"),
    key("log.format", "FORMAT", "json", "json or text"),
    key("log.audit", "WHERE", "stdout", "Where audit records go: stdout, none, or a file"),
    key(
        "log.audit_sample",
        "SHARE",
        "1",
        "The share of allowed requests whose records are kept, 0 to 1; all others always are",
    ),
    key(
        "log.audit_query",
        "BOOL",
        "false",
        "Whether audit records tell the queries of requests, which may hold secrets",
    ),
    key("tracing.otlp", "URL", "", "Where traces go, by OTLP: http://127.0.0.1:4318"),
    key(
        "tracing.sample",
        "SHARE",
        "1",
        "The share of traces that begin here that is exported, 0 to 1; of others those that whoever began them records",
    ),
    key("workers", "N", "0", "Worker threads; 0: as many as the CPU quota gives"),
    key("drain_timeout", "DURATION", "25s", "How long a stopping server waits for requests to finish"),
];

impl Key {
    /// The flag that overrides it, without its dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// The environment variable that overrides it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("SIDEGATE_{}", self.path.replace('.', "_").to_ascii_uppercase())
    }
}

/// The keys and sections directly below a path that ends in a dot (or is empty).
pub(super) fn below(path: &str) -> Vec<&'static str> {
    let mut below: Vec<&'static str> = KEYS
        .iter()
        .filter_map(|key| key.path.strip_prefix(path))
        .filter_map(|rest| rest.split('.').next())
        .collect();
    below.dedup();
    below
}

/// The default of the key at that path.
pub(super) fn default_of(path: &str, name: &str) -> &'static str {
    KEYS.iter().find(|key| key.path.strip_prefix(path) == Some(name)).map_or("", |key| key.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_by_their_path() {
        assert_eq!(
            below("limits."),
            [
                "max_connections",
                "max_connections_per_client",
                "reserved_for_high_priority",
                "idle_timeout",
                "upgrade_idle_timeout",
                "lobby",
                "http"
            ]
        );
        assert!(below("").contains(&"workers") && below("").contains(&"tls"));
        assert_eq!(default_of("limits.", "idle_timeout"), "75s");
        assert_eq!(default_of("limits.lobby.", "idle_timeout"), "10s");
    }

    #[test]
    fn no_two_keys_share_a_flag_or_a_variable() {
        let flags: std::collections::HashSet<_> = KEYS.iter().map(Key::flag).collect();
        let variables: std::collections::HashSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!((flags.len(), variables.len()), (KEYS.len(), KEYS.len()));
    }
}
