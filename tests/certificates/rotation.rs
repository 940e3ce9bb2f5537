//! Certificates, keys, authorities and CRLs that are replaced while connections are open: a revoked client loses its
//! connections at once, and other clients notice nothing (DESIGN §2.1, §2.2, §6).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::SanType;
use rustls::ClientConnection;
use serde_json::json;
use sidegate::demo::pki::{Authority, Credential, Leaf, pem};

use crate::support::certificates::producer;
use crate::support::http2::{Http2, request, wait};
use crate::support::tls::{TLS_12, TLS_13, Tls};
use crate::support::{Backend, Client, DEADLINE, Proxy, Setup, backend_listeners, eventually};

/// Open connections of every kind of one client.
struct OpenConnections {
    persistent: Tls,
    stream: Tls,
    socket: Tls,
    http2: Http2,
    http2_stream: h2::RecvStream,
}

const POLICY: &str = r#"version: 1
permissions:
  everything: ["* /**", { route: GET /live, upgrade: websocket }]
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [everything]
"#;

/// Returns a backend that streams, switches protocols, and answers `200 ok`.
fn backend() -> Backend {
    Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            connection.wire.send(match head.split(' ').nth(1) {
                Some("/live") => {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                }
                Some("/stream") => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            })?;
        }
        Ok(())
    })
}

impl OpenConnections {
    fn of(client: &Client, proxy: &Proxy) -> Self {
        let mut persistent = client.connect(proxy.address).unwrap();
        assert_eq!(persistent.get("/events").unwrap().verdict(), "200");
        let mut stream = client.connect(proxy.address).unwrap();
        stream.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream.read_until(b"data: 1\n\n").unwrap();
        let mut socket = client.connect(proxy.address).unwrap();
        socket
            .send(
                "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .unwrap();
        socket.read_until(b"\r\n\r\n").unwrap();
        let http2 = Http2::connect(client, proxy.address).unwrap();
        assert_eq!(http2.get("/events").unwrap().verdict(), "200");
        let (head, http2_stream, _) =
            http2.open(request("GET", "/stream", &[]), true).unwrap().head().unwrap();
        assert_eq!(head.status, 200);
        Self { persistent, stream, socket, http2, http2_stream }
    }

    /// Checks that every connection ends; DESIGN §2.2 allows one second.
    fn assert_end(mut self, what: &str) {
        let start = Instant::now();
        assert_eq!(self.http2.get("/events").unwrap().verdict(), "401 invalid_certificate", "{what}");
        let mut body = self.http2_stream;
        wait(async move { while body.data().await.is_some_and(|data| data.is_ok()) {} });
        self.http2.assert_ends_in_order();
        let rest = self.stream.read_to_end().unwrap_or_default();
        assert!(!String::from_utf8_lossy(&rest).contains("\r\n0\r\n"), "{what}: no end of the body");
        assert_eq!(self.socket.read_to_end().unwrap_or_default(), b"", "{what}");
        assert_eq!(self.persistent.get("/events").unwrap().verdict(), "401 invalid_certificate", "{what}");
        assert!(self.persistent.is_closed(), "{what}");
        // Five seconds allow for a busy machine, and are shorter than any timeout.
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: {:?}", start.elapsed());
    }

    fn assert_stay_open(&mut self, what: &str) {
        assert_eq!(self.persistent.get("/events").unwrap().verdict(), "200", "{what}");
        assert_eq!(self.http2.get("/events").unwrap().verdict(), "200", "{what}");
    }
}

fn write_crl(setup: &Setup, revoked: &[&Credential]) {
    let revoked: Vec<_> = revoked.iter().map(|credential| &credential.chain[0]).collect();
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&revoked, |_| {}).unwrap()).unwrap();
}

fn with_crl(backend: &Backend) -> Proxy {
    let setup = Setup::new(&backend.url()).policy(POLICY).set("tls.crl", "ca.crl");
    write_crl(&setup, &[]);
    setup.start()
}

/// Cases 6 and 23: open connections of every kind, and resumed sessions.
#[test]
fn a_revoked_client_loses_every_connection_at_once_and_other_clients_lose_none() {
    let backend = backend();
    let proxy = with_crl(&backend);
    let other = proxy.pki().issue(&producer());
    let (client, bystander) = (proxy.producer(), proxy.client(&other));
    let (revoked, mut others) =
        (OpenConnections::of(&client, &proxy), OpenConnections::of(&bystander, &proxy));
    write_crl(&proxy.setup, &[&proxy.pki().producer]);
    proxy.admin.reload();
    revoked.assert_end("revoked");
    others.assert_stay_open("another client");
    let mut again = client.connect(proxy.address).unwrap();
    assert!(again.is_resumed(), "the ticket is older than the revocation");
    assert_eq!(again.get("/events").unwrap().verdict(), "401 invalid_certificate");
    let answer = bystander.connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(answer.verdict(), "200");
}

/// Case 6: a changed CRL file is noticed.
#[test]
fn a_new_crl_is_loaded_without_a_request_to_reload() {
    let backend = backend();
    let proxy = with_crl(&backend);
    let mut stream = proxy.producer().connect(proxy.address).unwrap();
    stream.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.read_until(b"data: 1\n\n").unwrap();
    write_crl(&proxy.setup, &[&proxy.pki().producer]);
    let _ = stream.read_to_end();
    let answer = proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(answer.verdict(), "401 invalid_certificate");
}

/// Case 7: a wrong CRL file changes nothing, and the `nextUpdate` of a CRL ends open connections.
#[test]
fn an_expired_crl_ends_open_connections_and_a_broken_one_changes_nothing() {
    let backend = backend();
    let proxy = with_crl(&backend);
    let client = proxy.producer();
    let mut connections = OpenConnections::of(&client, &proxy);
    fs::write(proxy.setup.path("ca.crl"), b"\x30\x82 cut off").unwrap();
    proxy.admin.refused_reload();
    connections.assert_stay_open("after a wrong CRL");
    let soon = std::time::SystemTime::now() + Duration::from_secs(2);
    let crl = proxy.pki().ca.crl(&[], |params| params.next_update = soon.into()).unwrap();
    fs::write(proxy.setup.path("ca.crl"), crl).unwrap();
    proxy.admin.reload();
    connections.assert_stay_open("until nextUpdate");
    let verdict = || proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap().verdict();
    eventually("the CRL's end", verdict, |verdict| verdict == "401 invalid_certificate");
    connections.assert_end("an expired CRL");
    write_crl(&proxy.setup, &[]);
    proxy.admin.reload();
    assert_eq!(verdict(), "200", "a new CRL allows the client again");
}

/// Case 22: tickets that are older than the removal or the addition of an authority.
#[test]
fn a_resumed_session_is_judged_by_the_current_authorities() {
    let backend = backend();
    let setup = Setup::new(&backend.url()).policy(POLICY).set("tls.client_ca", "ca/");
    let second = Authority::root("second").unwrap();
    let write = |setup: &Setup, authorities: &[&Authority]| {
        let _ = fs::remove_dir_all(setup.path("ca"));
        fs::create_dir(setup.path("ca")).unwrap();
        for (number, authority) in authorities.iter().enumerate() {
            fs::write(
                setup.path("ca").join(format!("{number}.crt")),
                pem("CERTIFICATE", authority.certificate()),
            )
            .unwrap();
        }
    };
    write(&setup, &[&setup.pki.ca]);
    let proxy = setup.start();
    let credential = second.issue(&producer()).unwrap();
    for version in [TLS_12, TLS_13] {
        write(&proxy.setup, &[&proxy.pki().ca]);
        proxy.admin.reload();
        let client = Client::new(proxy.pki(), Some(&credential), &[version]);
        let ask = |resumed: bool, what: &str| {
            let mut connection = client.connect(proxy.address).unwrap();
            let verdict = connection.get("/events").unwrap().verdict();
            assert_eq!(connection.is_resumed(), resumed, "{what}");
            (connection, verdict)
        };
        let (mut before, verdict) = ask(false, "the first");
        assert_eq!(verdict, "401 invalid_certificate");
        write(&proxy.setup, &[&proxy.pki().ca, &second]);
        proxy.admin.reload();
        // Possession of the key was proven in the handshake of the refused connection, so it is judged by the new authority.
        assert_eq!(before.get("/events").unwrap().verdict(), "200");
        let (mut during, verdict) = ask(true, "its authority was added");
        assert_eq!(verdict, "200");
        write(&proxy.setup, &[&proxy.pki().ca]);
        proxy.admin.reload();
        assert_eq!(during.get("/events").unwrap().verdict(), "401 invalid_certificate");
        assert_eq!(ask(true, "its authority was removed").1, "401 invalid_certificate");
    }
}

/// Cases 20 and 22: possession of the key is proven in the handshake, also for an authority that is trusted only later.
#[test]
fn a_stolen_certificate_stays_refused_after_its_authority_is_added() {
    let backend = backend();
    let setup = Setup::new(&backend.url()).policy(POLICY).set("tls.client_ca", "ca/");
    let second = Authority::root("second").unwrap();
    fs::create_dir(setup.path("ca")).unwrap();
    fs::rename(setup.path("client-ca.crt"), setup.path("ca/first.crt")).unwrap();
    let proxy = setup.start();
    let chain = second.issue(&producer()).unwrap().chain;
    let stolen = Credential { chain, key: proxy.pki().consumer.key.clone_key() };
    for version in [TLS_12, TLS_13] {
        let client = Client::new(proxy.pki(), Some(&stolen), &[version]);
        let ask = || client.connect(proxy.address).and_then(|mut connection| connection.get("/events"));
        assert!(ask().is_err());
        fs::write(proxy.setup.path("ca/second.crt"), pem("CERTIFICATE", second.certificate())).unwrap();
        proxy.admin.reload();
        assert!(ask().is_err());
        fs::remove_file(proxy.setup.path("ca/second.crt")).unwrap();
        proxy.admin.reload();
    }
    assert!(backend.start_lines().is_empty());
}

fn server(proxy: &Proxy) -> Credential {
    proxy.pki().issue(&Leaf::server().unwrap())
}

fn presented(proxy: &Proxy) -> Vec<u8> {
    proxy.producer().connect(proxy.address).unwrap().server()
}

#[test]
fn new_handshakes_get_the_new_certificate_and_open_connections_stay() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let client = proxy.producer();
    let mut connections = OpenConnections::of(&client, &proxy);
    let next = server(&proxy);
    next.write(proxy.setup.folder.path(), "server").unwrap();
    eventually("the new certificate", || presented(&proxy), |presented| *presented == *next.chain[0]);
    connections.assert_stay_open("connections with the old certificate");
    let mut again = client.connect(proxy.address).unwrap();
    assert!(!again.is_resumed(), "a ticket of the old key is not accepted with the new key");
    assert_eq!(again.get("/events").unwrap().verdict(), "200");
}

#[test]
fn tickets_stay_valid_as_long_as_the_server_certificate() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let client = proxy.producer();
    assert_eq!(client.connect(proxy.address).unwrap().get("/events").unwrap().verdict(), "200");
    fs::write(proxy.setup.path("policy.yaml"), format!("{POLICY}# another\n")).unwrap();
    proxy.admin.reload();
    let mut again = client.connect(proxy.address).unwrap();
    assert_eq!((again.get("/events").unwrap().verdict().as_str(), again.is_resumed()), ("200", true));
}

/// Case 29: key and certificate may be written one after another; the state between is not an error at once.
#[test]
fn a_key_without_its_certificate_is_an_error_only_if_it_lasts() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let (before, next) = (presented(&proxy), server(&proxy));
    fs::write(proxy.setup.path("server.key"), pem("PRIVATE KEY", next.key.secret_der())).unwrap();
    // A change of the policy does not wait for the certificate.
    fs::write(proxy.setup.path("policy.yaml"), "version: 1\n").unwrap();
    let verdict = || proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap().verdict();
    eventually("the policy", verdict, |verdict| verdict == "403 insufficient_permissions");
    let refused = eventually(
        "the error is reported",
        || proxy.admin.status()["reload"].clone(),
        |reload| reload["refused"] != 0,
    );
    assert_eq!(
        (&refused["refused"], &refused["recent"][0]["diagnostics"][0]["code"]),
        (&json!(1), &json!("key-mismatch"))
    );
    assert_eq!(presented(&proxy), before);
    assert_eq!(proxy.admin.get("/readyz").status, 200);
    fs::write(proxy.setup.path("server.crt"), pem("CERTIFICATE", &next.chain[0])).unwrap();
    eventually("the new certificate", || presented(&proxy), |presented| *presented == *next.chain[0]);
    assert_eq!(proxy.admin.status()["reload"]["success"], true);
    // In the other order, the certificate comes first, and a reload refuses it until the key comes.
    let third = server(&proxy);
    fs::write(proxy.setup.path("server.crt"), pem("CERTIFICATE", &third.chain[0])).unwrap();
    proxy.admin.refused_reload();
    fs::write(proxy.setup.path("server.key"), pem("PRIVATE KEY", third.key.secret_der())).unwrap();
    proxy.admin.reload();
    assert_eq!(presented(&proxy), third.chain[0].to_vec());
}

#[test]
fn a_handshake_that_began_before_a_reload_completes() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let before = presented(&proxy);
    let client = proxy.producer();
    let mut tls = ClientConnection::new(Arc::clone(&client.config), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut socket = TcpStream::connect_timeout(&proxy.address, DEADLINE).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let (first, second) = hello.split_at(hello.len() / 2);
    socket.write_all(first).unwrap();
    let lobby = || proxy.admin.metrics().labelled("sidegate_connections", &[("state", "lobby")]);
    eventually("its connection", lobby, |lobby| *lobby == 1.0);
    server(&proxy).write(proxy.setup.folder.path(), "server").unwrap();
    proxy.admin.reload();
    socket.write_all(second).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    // Either certificate is right. The handshake must complete, and the request must be answered.
    assert!(tls.peer_certificates().is_some());
    tls.writer().write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    rustls::Stream::new(&mut tls, &mut socket).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_ne!(presented(&proxy), before);
}

/// Replaces a file atomically.
fn replace(setup: &Setup, name: &str, content: impl AsRef<[u8]>) {
    fs::write(setup.path("next"), content).unwrap();
    fs::rename(setup.path("next"), setup.path(name)).unwrap();
}

/// Runs `work` while clients send requests on persistent and on new connections; panics if a request fails. Returns the
/// number of requests.
fn serving_throughout(proxy: &Proxy, work: impl FnOnce()) -> usize {
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = proxy.address;
    let serve = |client: &Client, reconnects: bool| {
        let mut connection = client.connect(address).unwrap();
        while !done.load(Ordering::Relaxed) {
            assert_eq!(connection.get("/events").unwrap().verdict(), "200");
            served.fetch_add(1, Ordering::Relaxed);
            if reconnects {
                connection = client.connect(address).unwrap();
            }
        }
    };
    thread::scope(|scope| {
        let serve = &serve;
        let threads = [true, true, false, false].map(|reconnects| {
            let client = proxy.client(&proxy.pki().issue(&producer()));
            scope.spawn(move || serve(&client, reconnects))
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let failed = threads.into_iter().find_map(|thread| thread.join().err());
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if let Some(panic) = failed {
            std::panic::resume_unwind(panic);
        }
    });
    served.into_inner()
}

#[test]
fn a_thousand_reloads_fail_no_request() {
    let backend = backend();
    let setup = Setup::new(&backend.url()).policy(POLICY).set("tls.crl", "ca.crl");
    write_crl(&setup, &[]);
    let proxy = setup.start();
    let first = pem("CERTIFICATE", proxy.pki().ca.certificate());
    let second = pem("CERTIFICATE", Authority::root("second").unwrap().certificate());
    let servers = [server(&proxy), server(&proxy)];
    let served = serving_throughout(&proxy, || {
        for round in 0..1_000 {
            match round % 4 {
                0 => servers[round / 4 % 2].write(proxy.setup.folder.path(), "server").unwrap(),
                1 => replace(&proxy.setup, "policy.yaml", format!("{POLICY}# {round}\n")),
                2 if round % 8 == 2 => write_crl(&proxy.setup, &[]),
                2 => write_crl(&proxy.setup, &[&proxy.pki().consumer]),
                _ if round % 8 == 3 => replace(&proxy.setup, "client-ca.crt", &first),
                _ => replace(&proxy.setup, "client-ca.crt", format!("{first}{second}")),
            }
            proxy.admin.reload();
        }
    });
    assert!(served > 100, "{served}");
    assert!(proxy.admin.status()["generation"].as_u64().unwrap() > 1_000);
}

/// spiffe-helper writes certificate, key and bundle one after another, each in place.
#[test]
fn files_that_are_rewritten_in_place_fail_no_request() {
    let backend = backend();
    let setup = Setup::new(&backend.url())
        .policy(POLICY)
        .set("tls.certificate", "svid.pem")
        .set("tls.key", "svid_key.pem")
        .set("tls.client_ca", "svid_bundle.pem");
    let next = setup.pki.issue(&Leaf::server().unwrap());
    let bundle = pem("CERTIFICATE", setup.pki.ca.certificate());
    let write = |setup: &Setup, credential: &Credential, more: &str| {
        let chain = pem("CERTIFICATE", &credential.chain[0]);
        let key = pem("PRIVATE KEY", credential.key.secret_der());
        for (name, text) in
            [("svid.pem", &chain), ("svid_key.pem", &key), ("svid_bundle.pem", &format!("{bundle}{more}"))]
        {
            let mut file = fs::File::create(setup.path(name)).unwrap();
            for part in text.as_bytes().chunks(100) {
                file.write_all(part).unwrap();
            }
        }
    };
    write(&setup, &setup.pki.server, "");
    let proxy = setup.start();
    let second = pem("CERTIFICATE", Authority::root("second").unwrap().certificate());
    let served = serving_throughout(&proxy, || {
        for (credential, more) in [(&next, &*second), (&proxy.pki().server, ""), (&next, "")] {
            write(&proxy.setup, credential, more);
            eventually(
                "the new certificate",
                || presented(&proxy),
                |presented| *presented == *credential.chain[0],
            );
        }
    });
    assert!(served > 100, "{served}");
    assert_eq!(proxy.admin.status()["reload"]["refused"], 0);
}

/// Case 27: the server name (SNI) selects the certificate of the proxy, and does not change the authentication of
/// clients.
#[test]
fn the_server_name_selects_the_server_certificate() {
    let backend = backend();
    let setup = Setup::new(&backend.url()).policy(POLICY);
    let issue = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        setup.pki.issue(&Leaf::server().unwrap().with(|params| params.subject_alt_names = names))
    };
    let (events, wild) = (issue(&["events.shop.example"]), issue(&["*.shop.example"]));
    events.write(setup.folder.path(), "events").unwrap();
    wild.write(setup.folder.path(), "wild").unwrap();
    let proxy = setup
        .set(
            "tls.certificates",
            json!([
                { "certificate": "wild.crt", "key": "wild.key" },
                { "certificate": "events.crt", "key": "events.key" },
            ]),
        )
        .start();
    let first = proxy.pki().server.chain[0].to_vec();
    for (name, expected) in [
        ("events.shop.example", &*events.chain[0]),
        ("other.shop.example", &*wild.chain[0]),
        ("localhost", &*first),
        ("127.0.0.1", &*first),
    ] {
        let mut connection = proxy.producer().connect_as(proxy.address, name).unwrap();
        assert_eq!(connection.server(), expected, "{name}");
        assert_eq!(connection.get("/events").unwrap().verdict(), "200");
        let mut stranger = proxy.anonymous().connect_as(proxy.address, name).unwrap();
        assert_eq!(stranger.get("/events").unwrap().verdict(), "401 not_authenticated");
    }
    let next = proxy.pki().issue(&Leaf::server().unwrap().with(|params| {
        params.subject_alt_names = vec![SanType::DnsName("events.shop.example".try_into().unwrap())];
    }));
    next.write(proxy.setup.folder.path(), "events").unwrap();
    proxy.admin.reload();
    let connection = proxy.producer().connect_as(proxy.address, "events.shop.example").unwrap();
    assert_eq!(connection.server(), next.chain[0].to_vec());
    let files: Vec<_> =
        proxy.admin.status()["expires"].as_array().unwrap().iter().map(|e| e["file"].to_string()).collect();
    assert_eq!(
        files.iter().filter(|file| file.contains("events.crt") || file.contains("wild.crt")).count(),
        2
    );

    // A certificate without a DNS name can never be chosen, so it is refused.
    proxy.pki().issue(&Leaf::client("Shop", "nameless")).write(proxy.setup.folder.path(), "events").unwrap();
    assert!(proxy.admin.refused_reload().to_string().contains("has no DNS name"));
}

/// A backend is trusted by the current authorities: connections that were opened under other ones are not used again.
#[test]
fn connections_to_a_backend_that_is_no_longer_trusted_are_not_used_again() {
    let (backend, authority) = (Backend::ok(), Authority::root("backends").unwrap());
    let credential = authority.issue(&Leaf::server().unwrap()).unwrap();
    let address = backend_listeners::listen_tls(
        backend_listeners::server_config(&credential, None, "http/1.1"),
        backend.address,
    );
    let mut setup = Setup::new(&format!("https://localhost:{}", address.port()));
    setup.config["backend"]["tls"] = json!({ "ca": "backend-ca.crt" });
    let write = |setup: &Setup, authority: &Authority| {
        fs::write(setup.path("backend-ca.crt"), pem("CERTIFICATE", authority.certificate())).unwrap();
    };
    write(&setup, &authority);
    let proxy = setup.start();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    assert_eq!(backend.connections(), 1);
    write(&proxy.setup, &Authority::root("others").unwrap());
    proxy.admin.reload();
    assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable");
    write(&proxy.setup, &authority);
    proxy.admin.reload();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    assert_eq!(backend.received().len(), 3);
}
