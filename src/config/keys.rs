//! The table of keys. The reading of the file, the flags and variables that override it, `--help` and the table of the
//! operators' page are made from it or held equal to it; no default stands anywhere else.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ::tracing::level_filters::LevelFilter;
use http::HeaderName;
use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;

use super::draft::Draft;
use super::key::{Effect, Key, Presence, keys};
use super::readers::{
    address, boolean, choice, count, duration, duration_or_zero, either, list, network, number, path, rate,
    share,
};
use super::{KeyPair, Located, backend, headers, log, paths, tls, tracing};
use crate::forward::{ClientAbort, Collector};
use crate::identity::{Attribute, EkuPolicy, MissingCrl, TrustDomainPin};
use crate::policy::{Mode, Network};
use crate::target::AllowedForms;
use crate::telemetry::{Destination, Format, Share};

keys! {
    root: RootSection = "", "the configuration" {
        listen: SocketAddr = address, Default("0.0.0.0:8443"), "ADDRESS", AtStart,
            "Address and port for clients";
        policies: Option<Located<PathBuf>> = path, Required, "PATH", AtReload,
            "The policy: a YAML file, or a folder of them";
        shadow_policies: Option<Located<PathBuf>> = path, Optional, "PATH", AtReload,
            "A second policy that is judged beside the policy in force; differences are counted and recorded, and change no answer";
        mode: Mode = choice(&Mode::ALL), Default("enforce"), "MODE", AtReload,
            "enforce, or audit: a request that would be answered 403 is forwarded and recorded, and no policy is enforced";
        trusted_proxies: Box<[Network]> = list(network), Default("[]"), "LIST", AtReload,
            "Networks of proxies whose X-Forwarded-*, Forwarded and X-Real-IP are trusted: [10.0.0.0/8]";
        workers: usize = number(0..=1024), Default("0"), "N", AtStart,
            "Worker threads; 0: as many as the CPU quota gives";
        drain_timeout: Duration = duration, Default("25s"), "DURATION", AtReload,
            "Time that a stopping server gives requests to finish";
    }
    tls: TlsSection = "tls.", "`tls`" {
        certificate: Option<Located<PathBuf>> = path, Required, "FILE", AtReload,
            "The server's certificate chain (PEM)";
        key: Option<Located<PathBuf>> = path, Required, "FILE", AtReload,
            "The key of the server's certificate (PEM)";
        certificates: Vec<KeyPair> = list(tls::key_pair), Default("[]"), "LIST", AtReload,
            "Further server certificates, each for clients that ask for one of its names (SNI): [{certificate: b.crt, key: b.key}]";
        client_ca: Option<Located<PathBuf>> = path, Required, "PATH", AtReload,
            "The authorities that client certificates must come from: a PEM file, or a folder of them";
        crl: Option<Located<PathBuf>> = path, Optional, "PATH", AtReload,
            "CRLs of the client CAs and of the intermediates below them: a file (PEM or DER), or a folder of them";
        crl_grace: Duration = duration_or_zero, Default("0s"), "DURATION", AtReload,
            "Time for which a CRL is accepted after its nextUpdate";
        crl_missing: MissingCrl = choice(&tls::MISSING), Default("refuse"), "WHAT", AtReload,
            "Treatment of clients with an issuer in their chain that has no CRL, if `tls.crl` is set: refuse or allow";
        trust_domains: Vec<TrustDomainPin> = tls::pins, Default("{}"), "MAP", AtReload,
            "Client CA files whose certificates must have a SPIFFE id of one domain: {shop-ca.pem: shop.example}";
        require_client_auth_eku: EkuPolicy = either(EkuPolicy::ClientAuthRequired, EkuPolicy::ClientAuthIfPresent), Default("false"), "BOOL", AtReload,
            "Refuse client certificates whose extended key usage does not name client authentication";
    }
    backend: BackendSection = "backend.", "`backend`" {
        url: Option<Located<backend::Url>> = backend::read_url, Required, "URL", AtStart,
            "The backend: http://HOST:PORT, https://, h2c:// (HTTP/2), h2:// (HTTP/2 by TLS), or unix:PATH";
        connect_timeout: Duration = duration, Default("1s"), "DURATION", AtReload,
            "Time to connect to the backend";
        response_timeout: Duration = duration, Default("30s"), "DURATION", AtReload,
            "Time until the headers of the backend's response";
        idle_timeout: Duration = duration, Default("5m"), "DURATION", AtReload,
            "Time for which the backend may send nothing in the middle of an answer; then the answer is broken off";
        keep_idle: Duration = duration_or_zero, Default("55s"), "DURATION", AtReload,
            "Time for which an idle connection to the backend is kept, or less if the backend says so in Keep-Alive; 0s: not at all";
        max_response_headers: usize = number(1..=10_000), Default("1000"), "N", AtReload,
            "Headers of an answer; one with more is answered 504";
        // hyper needs a buffer of 8 KiB.
        max_response_header_bytes: usize = number(8192..=1_048_576), Default("262144"), "BYTES", AtReload,
            "Bytes of an answer's headers; one with more is answered 504";
        ignore_client_abort: ClientAbort = either(ClientAbort::Ignore, ClientAbort::Tell), Default("false"), "BOOL", AtReload,
            "Do not tell the backend when a client cancels its request: for servers that close at once and work on";
        max_in_flight: usize = count, Default("512"), "N", AtReload,
            "Requests that the backend works on at once";
        reserved_for_others: usize = number(0..=90), Default("10"), "PERCENT", AtReload,
            "Part of the requests in flight and of the queue that is kept for clients that have none there (rounded down); 0: nothing";
        queue: usize = number(0..=100_000), Default("64"), "N", AtReload,
            "Requests that may wait for a place among these, first come, first served; 0: none";
        queue_timeout: Duration = duration_or_zero, Default("1s"), "DURATION", AtReload,
            "Time that each of them may wait; then 504. 0s: they do not wait";
    }
    backend_tls: BackendTlsSection = "backend.tls.", "`backend.tls`" {
        ca: Option<Located<PathBuf>> = path, Optional, "PATH", AtReload,
            "The authorities that the backend's certificate must come from: a PEM file, or a folder of them";
        server_name: Option<Located<ServerName<'static>>> = backend::server_name, Optional, "NAME", AtStart,
            "The name that the backend's certificate must be for, if it is not the URL's host";
        certificate: Option<Located<PathBuf>> = path, Optional, "FILE", AtReload,
            "A certificate chain to show to the backend (PEM)";
        key: Option<Located<PathBuf>> = path, Optional, "FILE", AtReload,
            "The key of that certificate (PEM)";
    }
    breaker: BreakerSection = "backend.breaker.", "`backend.breaker`" {
        failures: u32 = number(0..=1_000_000), Default("5"), "N", AtStart,
            "Failed connections in a row after which requests are answered 504 at once; 0: never";
        pause: Duration = duration, Default("100ms"), "DURATION", AtStart,
            "The longest time until one request tries again; each further pause is up to twice as long";
        max_pause: Duration = duration, Default("800ms"), "DURATION", AtStart,
            "The longest time between two such tries";
    }
    health: HealthSection = "backend.health.", "`backend.health`" {
        path: Option<Located<PathAndQuery>> = backend::check_path, Optional, "PATH", AtStart,
            "The path that the backend is asked for by GET, to see whether it is healthy (2xx or 3xx); without it the backend is not asked";
        interval: Duration = duration, Default("5s"), "DURATION", AtStart,
            "Time between two such checks, and time that the backend has to answer one";
    }
    paths: PathsSection = "paths.", "`paths`" {
        allow: AllowedForms = paths::allowed, Default("[]"), "LIST", AtReload,
            "Forms of targets that are forwarded although others may read them differently: encoded_slash, backslash, double_encoding, empty_segments, semicolon, non_utf8, raw_query";
    }
    limits: LimitsSection = "limits.", "`limits`" {
        max_connections: usize = count, Default("1000"), "N", AtReload,
            "Connection slots; a connection takes one with its first permitted request";
        max_connections_per_client: usize = number(0..=10_000_000), Default("0"), "N", AtReload,
            "Connection slots that one client may hold; 0: no bound for one client";
        reserved_for_high_priority: usize = number(0..=90), Default("10"), "PERCENT", AtReload,
            "Part of the slots, of the requests in flight and of the queue that is kept for client entries with `priority: high`, if the policy has any";
        idle_timeout: Duration = duration, Default("75s"), "DURATION", AtReload,
            "Time for which a connection with a slot may be idle";
        connection_age: Duration = duration_or_zero, Default("0s"), "DURATION", AtReload,
            "Age at which a connection ends with its next answer, give or take a tenth, so that clients spread over new replicas; 0s: no bound";
        upgrade_idle_timeout: Duration = duration, Default("5m"), "DURATION", AtReload,
            "Time for which a WebSocket may go without a byte in either direction";
    }
    lobby: LobbySection = "limits.lobby.", "`limits.lobby`" {
        max_connections: usize = count, Default("1000"), "N", AtReload,
            "Connections without a slot; the oldest of the source that has the most makes room for the newest";
        max_per_source: usize = count, Default("100"), "N", AtReload,
            "Connections without a slot from one address";
        connections_per_second: NonZeroU32 = rate, Default("100"), "N", AtReload,
            "New connections a second from one address";
        handshakes: usize = count, Default("512"), "N", AtReload,
            "Connections in the middle of their TLS handshake; the oldest of the source that has the most makes room";
        handshake_timeout: Duration = duration, Default("5s"), "DURATION", AtReload,
            "Time for the TLS handshake";
        request_timeout: Duration = duration, Default("10s"), "DURATION", AtReload,
            "Time for a request's headers, and for the first request";
        idle_timeout: Duration = duration, Default("10s"), "DURATION", AtReload,
            "Time for which a connection without a slot may be idle";
    }
    http: HttpSection = "limits.http.", "`limits.http`" {
        // hyper needs a buffer of 8 KiB.
        max_header_bytes: usize = number(8192..=1_048_576), Default("65536"), "BYTES", AtReload,
            "Bytes of a request's headers; more are answered 431";
        max_headers: usize = number(1..=10_000), Default("100"), "N", AtReload,
            "Headers of a request; more are answered 431";
        max_streams: u32 = number(1..=100_000), Default("250"), "N", AtReload,
            "HTTP/2: requests at once on a connection";
        max_pending_resets: usize = number(1..=10_000), Default("32"), "N", AtReload,
            "HTTP/2: streams that a client may have reset before they were accepted (rapid reset)";
        max_provoked_resets: usize = number(1..=100_000), Default("256"), "N", AtReload,
            "HTTP/2: resets that a client may provoke by protocol errors within a minute; then its connection ends";
        body_timeout: Duration = duration, Default("60s"), "DURATION", AtReload,
            "Time for which a client may send nothing of a body that is waited for; then 408";
        write_timeout: Duration = duration, Default("60s"), "DURATION", AtReload,
            "Time for which a client may read nothing of an answer; then its connection is cut";
        discard: u64 = number(0..=1_073_741_824), Default("16777216"), "BYTES", AtReload,
            "Bytes of a request's body that are read and discarded after an early answer, so that its client reads the answer and not a reset";
        discard_timeout: Duration = duration, Default("10s"), "DURATION", AtReload,
            "Time in which a client may send these bytes";
        max_target_bytes: usize = number(1..=65_534), Default("16384"), "BYTES", AtReload,
            "Bytes of a request's path and query; more is answered 400";
    }
    identity_headers: IdentityHeadersSection = "identity_headers.", "`identity_headers`" {
        client_cert: bool = boolean, Default("true"), "BOOL", AtReload,
            "Send the client's certificate to the backend in Client-Cert (RFC 9440)";
        client_cert_chain: bool = boolean, Default("false"), "BOOL", AtReload,
            "Send the rest of its chain in Client-Cert-Chain (RFC 9440): several KiB with every request";
        xfcc: bool = boolean, Default("false"), "BOOL", AtReload,
            "Send X-Forwarded-Client-Cert, in Envoy's form";
        custom: Vec<(HeaderName, Attribute)> = headers::custom, Default("{}"), "MAP", AtReload,
            "Further headers, each with the attribute of the client that it carries: {X-Client-Name: common_name}";
        strip: Vec<headers::Stripped> = list(headers::stripped), Default("[]"), "LIST", AtReload,
            "Further names of headers that are removed from requests of clients; `*` ends a family: [X-Acme-*]";
    }
    admin: AdminSection = "admin.", "`admin`" {
        listen: SocketAddr = address, Default("127.0.0.1:9901"), "ADDRESS", AtStart,
            "Address and port of the admin listener";
        token_file: Option<Located<PathBuf>> = path, Optional, "FILE", AtReload,
            "A file with the token that requests to the admin listener must have, but for /livez, /readyz and /metrics; each reload reads it again";
        readiness_needs_backend: bool = boolean, Default("false"), "BOOL", AtStart,
            "Let /readyz answer 503 also while the backend is down or unhealthy";
    }
    log: LogSection = "log.", "`log`" {
        level: LevelFilter = choice(&log::LEVELS), Default("info"), "LEVEL", AtStart,
            "error, warn, info, debug or trace";
        format: Format = choice(&log::FORMATS), Default("json"), "FORMAT", AtStart,
            "json or text";
        audit: Destination = log::destination, Default("stdout"), "WHERE", AtStart,
            "Destination of audit records: stdout, none, or a file";
        audit_sample: Share = share, Default("1"), "SHARE", AtReload,
            "The share of allowed requests whose records are kept, 0 to 1; all other records are always kept";
        audit_query: bool = boolean, Default("false"), "BOOL", AtReload,
            "Write the queries of requests, which may hold secrets, into audit records";
    }
    tracing: TracingSection = "tracing.", "`tracing`" {
        otlp: Option<Located<Collector>> = tracing::collector, Optional, "URL", AtStart,
            "Destination of traces, by OTLP: http://127.0.0.1:4318";
        sample: Share = share, Default("1"), "SHARE", AtStart,
            "The share of traces that begin here that is exported, 0 to 1; a trace that began elsewhere is exported if its beginner records it";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_keys_share_a_flag_or_a_variable() {
        let flags: HashSet<_> = KEYS.iter().map(Key::flag).collect();
        let variables: HashSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!((flags.len(), variables.len()), (KEYS.len(), KEYS.len()));
    }
}
