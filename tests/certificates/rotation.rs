//! Certificates, keys, authorities and CRLs are replaced while connections are open: who was revoked is out at once, who
//! was not notices nothing (DESIGN §2.1, §2.2, §6).

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

/// Connections that go on, of every kind; each ends as soon as its client is nobody.
struct GoingOn {
    kept_alive: Tls,
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

/// Streams, switches, and answers.
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

impl GoingOn {
    fn of(client: &Client, proxy: &Proxy) -> Self {
        let mut kept_alive = client.connect(proxy.address).unwrap();
        assert_eq!(kept_alive.get("/events").unwrap().verdict(), "200");
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
        Self { kept_alive, stream, socket, http2, http2_stream }
    }

    /// All of it ends, the sooner the better: DESIGN §2.2 gives it a second.
    fn assert_ends(mut self, what: &str) {
        let start = Instant::now();
        assert_eq!(self.http2.get("/events").unwrap().verdict(), "401 invalid_certificate", "{what}");
        let mut body = self.http2_stream;
        wait(async move { while body.data().await.is_some_and(|data| data.is_ok()) {} });
        self.http2.assert_ends_in_order();
        let rest = self.stream.read_to_end().unwrap_or_default();
        assert!(!String::from_utf8_lossy(&rest).contains("\r\n0\r\n"), "{what}: no end of the body");
        assert_eq!(self.socket.read_to_end().unwrap_or_default(), b"", "{what}");
        assert_eq!(self.kept_alive.get("/events").unwrap().verdict(), "401 invalid_certificate", "{what}");
        assert!(self.kept_alive.is_closed(), "{what}");
        // Generous: the machine may be busy. What matters is that none of it waits for a time limit.
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: {:?}", start.elapsed());
    }

    fn assert_goes_on(&mut self, what: &str) {
        assert_eq!(self.kept_alive.get("/events").unwrap().verdict(), "200", "{what}");
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

/// Cases 6 and 23: open connections of every kind, and sessions that were left.
#[test]
fn who_is_revoked_is_out_at_once_and_nobody_else() {
    let backend = backend();
    let proxy = with_crl(&backend);
    let other = proxy.pki().issue(&producer());
    let (client, bystander) = (proxy.producer(), proxy.client(&other));
    let (theirs, mut others) = (GoingOn::of(&client, &proxy), GoingOn::of(&bystander, &proxy));
    write_crl(&proxy.setup, &[&proxy.pki().producer]);
    proxy.admin.reload();
    theirs.assert_ends("revoked");
    others.assert_goes_on("somebody else");
    let mut again = client.connect(proxy.address).unwrap();
    assert!(again.is_resumed(), "its ticket is from before");
    assert_eq!(again.get("/events").unwrap().verdict(), "401 invalid_certificate");
    let answer = bystander.connect(proxy.address).unwrap().get("/events").unwrap();
    assert_eq!(answer.verdict(), "200");
}

/// Case 6, without anybody's asking.
#[test]
fn a_crl_that_arrives_is_seen_by_itself() {
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

/// Case 7, while it runs: a mistake in a CRL changes nothing, and its `nextUpdate` ends what goes on.
#[test]
fn a_crl_that_grows_old_ends_what_goes_on_and_a_broken_one_changes_nothing() {
    let backend = backend();
    let proxy = with_crl(&backend);
    let client = proxy.producer();
    let mut going_on = GoingOn::of(&client, &proxy);
    fs::write(proxy.setup.path("ca.crl"), b"\x30\x82 cut off").unwrap();
    proxy.admin.refused_reload();
    going_on.assert_goes_on("after a mistake");
    let soon = std::time::SystemTime::now() + Duration::from_secs(2);
    let crl = proxy.pki().ca.crl(&[], |params| params.next_update = soon.into()).unwrap();
    fs::write(proxy.setup.path("ca.crl"), crl).unwrap();
    proxy.admin.reload();
    going_on.assert_goes_on("until nextUpdate");
    let verdict = || proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap().verdict();
    eventually("the CRL's end", verdict, |verdict| verdict == "401 invalid_certificate");
    going_on.assert_ends("too old");
    write_crl(&proxy.setup, &[]);
    proxy.admin.reload();
    assert_eq!(verdict(), "200", "the next one brings them back");
}

/// Case 22: tickets from before an authority was removed, and from before it was added.
#[test]
fn a_ticket_is_worth_what_its_chain_is_worth_now() {
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
        // On that connection nobody was known; only a new handshake makes them somebody.
        assert_eq!(before.get("/events").unwrap().verdict(), "401 invalid_certificate");
        let (mut during, verdict) = ask(true, "its authority was added");
        assert_eq!(verdict, "200");
        write(&proxy.setup, &[&proxy.pki().ca]);
        proxy.admin.reload();
        assert_eq!(during.get("/events").unwrap().verdict(), "401 invalid_certificate");
        assert_eq!(ask(true, "its authority was removed").1, "401 invalid_certificate");
    }
}

/// Cases 20 and 22: the proof of possession is asked for before anybody could know that the authority will be trusted.
#[test]
fn an_authority_that_is_added_later_makes_nobody_of_a_thief() {
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

fn shown(proxy: &Proxy) -> Vec<u8> {
    proxy.producer().connect(proxy.address).unwrap().server()
}

#[test]
fn new_handshakes_get_the_new_certificate_and_open_connections_go_on() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let client = proxy.producer();
    let mut going_on = GoingOn::of(&client, &proxy);
    let next = server(&proxy);
    next.write(proxy.setup.folder.path(), "server").unwrap();
    eventually("the new certificate", || shown(&proxy), |shown| *shown == *next.chain[0]);
    going_on.assert_goes_on("the old certificate was theirs");
    let mut again = client.connect(proxy.address).unwrap();
    assert!(!again.is_resumed(), "a ticket of the old key is no good under the new one");
    assert_eq!(again.get("/events").unwrap().verdict(), "200");
}

#[test]
fn tickets_stay_good_while_the_server_s_certificate_stays() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let client = proxy.producer();
    assert_eq!(client.connect(proxy.address).unwrap().get("/events").unwrap().verdict(), "200");
    fs::write(proxy.setup.path("policy.yaml"), format!("{POLICY}# another\n")).unwrap();
    proxy.admin.reload();
    let mut again = client.connect(proxy.address).unwrap();
    assert_eq!((again.get("/events").unwrap().verdict().as_str(), again.is_resumed()), ("200", true));
}

/// Case 29: of a key and a certificate that are written one after the other, the middle is no mistake, until it lasts.
#[test]
fn a_key_that_does_not_fit_yet_is_waited_for() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let (before, next) = (shown(&proxy), server(&proxy));
    fs::write(proxy.setup.path("server.key"), pem("PRIVATE KEY", next.key.secret_der())).unwrap();
    // What else changes meanwhile does not wait for it.
    fs::write(proxy.setup.path("policy.yaml"), "version: 1\n").unwrap();
    let verdict = || proxy.producer().connect(proxy.address).unwrap().get("/events").unwrap().verdict();
    eventually("the policy", verdict, |verdict| verdict == "403 insufficient_permissions");
    let refused = eventually(
        "the mistake that lasts",
        || proxy.admin.status()["reload"].clone(),
        |reload| reload["refused"] != 0,
    );
    assert_eq!(
        (&refused["refused"], &refused["recent"][0]["diagnostics"][0]["code"]),
        (&json!(1), &json!("key-mismatch"))
    );
    assert_eq!(shown(&proxy), before);
    assert_eq!(proxy.admin.get("/readyz").status, 200);
    fs::write(proxy.setup.path("server.crt"), pem("CERTIFICATE", &next.chain[0])).unwrap();
    eventually("the new certificate", || shown(&proxy), |shown| *shown == *next.chain[0]);
    assert_eq!(proxy.admin.status()["reload"]["success"], true);
    // And the other way round, this time completed before it counts as a mistake.
    let third = server(&proxy);
    fs::write(proxy.setup.path("server.crt"), pem("CERTIFICATE", &third.chain[0])).unwrap();
    proxy.admin.refused_reload();
    fs::write(proxy.setup.path("server.key"), pem("PRIVATE KEY", third.key.secret_der())).unwrap();
    proxy.admin.reload();
    assert_eq!(shown(&proxy), third.chain[0].to_vec());
}

#[test]
fn a_handshake_that_began_before_a_reload_ends_as_it_began() {
    let backend = backend();
    let proxy = Setup::new(&backend.url()).policy(POLICY).start();
    let before = shown(&proxy);
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
    // Which of the two it is does not matter; that it is one of them whole does, and so does the answer.
    assert!(tls.peer_certificates().is_some());
    tls.writer().write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    rustls::Stream::new(&mut tls, &mut socket).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_ne!(shown(&proxy), before);
}

/// Writes a file as one change, whatever else the machine does meanwhile.
fn replace(setup: &Setup, name: &str, content: impl AsRef<[u8]>) {
    fs::write(setup.path("next"), content).unwrap();
    fs::rename(setup.path("next"), setup.path(name)).unwrap();
}

/// Clients that come and go and others that stay, while something is done to the proxy: not one of their requests fails.
fn without_a_failed_request(proxy: &Proxy, work: impl FnOnce()) -> usize {
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
fn a_thousand_reloads_cost_nobody_a_request() {
    let backend = backend();
    let setup = Setup::new(&backend.url()).policy(POLICY).set("tls.crl", "ca.crl");
    write_crl(&setup, &[]);
    let proxy = setup.start();
    let first = pem("CERTIFICATE", proxy.pki().ca.certificate());
    let second = pem("CERTIFICATE", Authority::root("second").unwrap().certificate());
    let servers = [server(&proxy), server(&proxy)];
    let served = without_a_failed_request(&proxy, || {
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

/// As spiffe-helper does it: certificate, key and bundle one after the other, each written in place.
#[test]
fn files_that_are_rewritten_in_place_one_after_the_other_cost_nobody_a_request() {
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
    let served = without_a_failed_request(&proxy, || {
        for (credential, more) in [(&next, &*second), (&proxy.pki().server, ""), (&next, "")] {
            write(&proxy.setup, credential, more);
            eventually("the new certificate", || shown(&proxy), |shown| *shown == *credential.chain[0]);
        }
    });
    assert!(served > 100, "{served}");
    assert_eq!(proxy.admin.status()["reload"]["refused"], 0);
}

/// Case 27: the name that is asked for chooses the certificate that is shown, and nothing that is asked of the client.
#[test]
fn the_name_that_is_asked_for_chooses_the_server_s_certificate() {
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

    // One that nobody could ask for is a mistake.
    proxy.pki().issue(&Leaf::client("Shop", "nameless")).write(proxy.setup.folder.path(), "events").unwrap();
    assert!(proxy.admin.refused_reload().to_string().contains("has no DNS name"));
}

/// The backend is trusted by the certificates of now: what was made by those before is not used again.
#[test]
fn connections_to_a_backend_that_is_not_trusted_any_more_are_not_used_again() {
    let (backend, theirs) = (Backend::ok(), Authority::root("backends").unwrap());
    let credential = theirs.issue(&Leaf::server().unwrap()).unwrap();
    let address = backend_listeners::listen_tls(
        backend_listeners::server_config(&credential, None, "http/1.1"),
        backend.address,
    );
    let mut setup = Setup::new(&format!("https://localhost:{}", address.port()));
    setup.config["backend"]["tls"] = json!({ "ca": "backend-ca.crt" });
    let write = |setup: &Setup, authority: &Authority| {
        fs::write(setup.path("backend-ca.crt"), pem("CERTIFICATE", authority.certificate())).unwrap();
    };
    write(&setup, &theirs);
    let proxy = setup.start();
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    assert_eq!(backend.connections(), 1);
    write(&proxy.setup, &Authority::root("others").unwrap());
    proxy.admin.reload();
    assert_eq!(connection.get("/events").unwrap().verdict(), "504 backend_unavailable");
    write(&proxy.setup, &theirs);
    proxy.admin.reload();
    assert_eq!(connection.get("/events").unwrap().verdict(), "200");
    assert_eq!(backend.received().len(), 3);
}
