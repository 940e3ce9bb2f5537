//! Slots: 0 <= used <= limit at any moment. A connection holds a slot if and only if a request on it was permitted, and every
//! slot comes back (DESIGN §2.3).

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use socket2::SockRef;

use crate::support::admin::SLOTS_USED;
use crate::support::backend::OK;
use crate::support::generated::interleave;
use crate::support::http2::{Exchange, Http2, request};
use crate::support::tls::Tls;
use crate::support::{Backend, Client, Proxy, Setup, eventually};

const LIMIT: usize = 3;

/// A step of a client. A number means one of the connections that are open.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open(Version),
    AskPermitted(usize),
    AskDenied(usize),
    /// Sends a request that stays open.
    AskHanging(usize, Hanging),
    /// Takes back the requests that are open: over HTTP/2 by resets, over HTTP/1.1 with the connection.
    TakeBack(usize),
    Close(usize),
    /// Closes with a TCP reset.
    Abort(usize),
}

#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

/// The reason why a request stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hanging {
    UnendedUpload,
    UnansweredRequest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let connection = 0..8_usize;
    let version = prop_oneof![Just(Version::Http1), Just(Version::Http2)];
    let hanging = prop_oneof![Just(Hanging::UnendedUpload), Just(Hanging::UnansweredRequest)];
    let step = prop_oneof![
        3 => version.prop_map(Step::Open),
        4 => connection.clone().prop_map(Step::AskPermitted),
        2 => connection.clone().prop_map(Step::AskDenied),
        3 => (connection.clone(), hanging).prop_map(|(number, hanging)| Step::AskHanging(number, hanging)),
        1 => connection.clone().prop_map(Step::TakeBack),
        1 => connection.clone().prop_map(Step::Close),
        1 => connection.prop_map(Step::Abort),
    ];
    proptest::collection::vec(step, 1..30)
}

#[test]
fn any_interleaving_keeps_the_slots_within_their_limit_and_gives_all_back() {
    let backend = Backend::scripted(|connection| {
        while let Some(request) = connection.request()? {
            if !request.start_line().contains("/may/wait") {
                connection.wire.send(OK)?;
            }
        }
        Ok(())
    });
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", LIMIT).policy(POLICY).start();
    interleave(200, &steps(), |steps: Vec<Step>| {
        SlotModel::new(&proxy).run(&steps);
        proxy.admin.wait_for(SLOTS_USED, 0.0);
    });
}

/// The policy of one client, which may use the paths below `/may`.
const POLICY: &str = r#"version: 1
permissions:
  some: ["* /may/**"]
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [some]
"#;

/// A model of the open connections, which says for each whether it holds a slot. Every answer of the proxy is compared with the
/// model: a connection without a slot is refused while all slots are used, and no other is. After every step, the metric of
/// used slots is within the limit, and becomes the number of connections that hold a slot in the model.
struct SlotModel<'a> {
    proxy: &'a Proxy,
    client: Client,
    connections: Vec<OpenConnection>,
}

struct OpenConnection {
    connection: Connection,
    has_slot: bool,
}

enum Connection {
    Http1 { wire: Box<Tls>, is_waiting: bool },
    Http2 { connection: Http2, waiting: Vec<Exchange> },
}

impl<'a> SlotModel<'a> {
    fn new(proxy: &'a Proxy) -> Self {
        Self { proxy, client: proxy.producer(), connections: Vec::new() }
    }

    fn run(mut self, steps: &[Step]) {
        for step in steps {
            self.take(*step);
            self.assert_slots(step);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open(version) => self.open(version),
            Step::AskPermitted(number) => self.ask_permitted(number),
            Step::AskDenied(number) => self.ask_denied(number),
            Step::AskHanging(number, hanging) => self.ask_hanging(number, hanging),
            Step::TakeBack(number) => self.take_back(number),
            Step::Close(number) => drop(self.remove(number)),
            Step::Abort(number) => self.abort(number),
        }
    }

    fn used(&self) -> usize {
        self.connections.iter().filter(|open| open.has_slot).count()
    }

    fn open(&mut self, version: Version) {
        let connection = match version {
            Version::Http1 => {
                let wire = Box::new(self.client.connect(self.proxy.address).unwrap());
                Connection::Http1 { wire, is_waiting: false }
            }
            Version::Http2 => {
                let connection = Http2::connect(&self.client, self.proxy.address).unwrap();
                Connection::Http2 { connection, waiting: Vec::new() }
            }
        };
        self.connections.push(OpenConnection { connection, has_slot: false });
    }

    fn ask_permitted(&mut self, number: usize) {
        let is_full = self.used() == LIMIT;
        let Some(index) = self.index(number) else { return };
        let open = &mut self.connections[index];
        let Some(verdict) = open.connection.get("/may/read") else { return };
        if open.has_slot || !is_full {
            assert_eq!(verdict, "200");
            open.has_slot = true;
        } else {
            assert_eq!(verdict, "504 server_full");
            // The proxy closes the connection after this answer.
            self.connections.remove(index);
        }
    }

    fn ask_denied(&mut self, number: usize) {
        let Some(index) = self.index(number) else { return };
        if let Some(verdict) = self.connections[index].connection.get("/may-not") {
            assert_eq!(verdict, "403 insufficient_permissions");
        }
    }

    fn ask_hanging(&mut self, number: usize, hanging: Hanging) {
        let is_full = self.used() == LIMIT;
        let Some(index) = self.index(number) else { return };
        let open = &mut self.connections[index];
        if is_full && !open.has_slot {
            return;
        }
        match &mut open.connection {
            Connection::Http1 { is_waiting: true, .. } => return,
            Connection::Http1 { wire, is_waiting } => {
                wire.send("POST /may/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
                    .unwrap();
                *is_waiting = true;
            }
            Connection::Http2 { connection, waiting } => {
                let (path, end) = match hanging {
                    Hanging::UnendedUpload => ("/may/upload", false),
                    Hanging::UnansweredRequest => ("/may/wait", true),
                };
                waiting.push(connection.open(request("POST", path, &[]), end).unwrap());
            }
        }
        open.has_slot = true;
    }

    fn take_back(&mut self, number: usize) {
        let Some(index) = self.index(number) else { return };
        match &mut self.connections[index].connection {
            Connection::Http1 { is_waiting: true, .. } => drop(self.connections.remove(index)),
            Connection::Http1 { .. } => {}
            Connection::Http2 { waiting, .. } => waiting.drain(..).for_each(Exchange::reset),
        }
    }

    fn abort(&mut self, number: usize) {
        let Some(open) = self.remove(number) else { return };
        if let Connection::Http1 { wire, .. } = open.connection {
            // Without lingering, the kernel sends a reset instead of the end of the stream.
            SockRef::from(&wire.stream.sock).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    fn index(&self, number: usize) -> Option<usize> {
        (!self.connections.is_empty()).then(|| number % self.connections.len())
    }

    fn remove(&mut self, number: usize) -> Option<OpenConnection> {
        Some(self.connections.remove(self.index(number)?))
    }

    fn assert_slots(&self, step: &Step) {
        let scrape = || {
            let used = self.proxy.admin.metrics().value(SLOTS_USED);
            assert!((0.0..=LIMIT as f64).contains(&used), "{used} slots used after {step:?}");
            used
        };
        eventually(&format!("slots after {step:?}"), scrape, |used| *used == self.used() as f64);
    }
}

impl Connection {
    /// Returns the verdict on a request; `None` if a request of HTTP/1.1 is open, so that no other can be answered before it.
    fn get(&mut self, path: &str) -> Option<String> {
        match self {
            Self::Http1 { is_waiting: true, .. } => None,
            Self::Http1 { wire, .. } => Some(wire.get(path).unwrap().verdict()),
            Self::Http2 { connection, .. } => Some(connection.get(path).unwrap().verdict()),
        }
    }
}

#[test]
fn many_clients_at_once_are_admitted_up_to_the_limit_and_the_backend_never_works_on_more() {
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let backend = {
        let (working, most) = (Arc::clone(&working), Arc::clone(&most));
        Backend::scripted(move |connection| {
            while connection.request()?.is_some() {
                most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Other requests may begin between the first part of the answer and its end.
                connection.wire.send(&OK[..OK.len() - 1])?;
                thread::yield_now();
                working.fetch_sub(1, Ordering::SeqCst);
                connection.wire.send(&OK[OK.len() - 1..])?;
            }
            Ok(())
        })
    };
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", LIMIT).start();
    let (client, address, admin) = (proxy.producer(), proxy.address, proxy.admin);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let mut connection = client.connect(address).unwrap();
                    let verdict = connection.get("/events").unwrap().verdict();
                    assert!(["200", "504 server_full"].contains(&verdict.as_str()), "{verdict}");
                    let used = admin.metrics().value(SLOTS_USED);
                    assert!(used <= LIMIT as f64, "{used}");
                }
            });
        }
    });
    proxy.admin.wait_for(SLOTS_USED, 0.0);
    let most = most.load(Ordering::SeqCst);
    assert!((1..=LIMIT).contains(&most), "the backend worked on {most} requests at once");
}

#[test]
fn many_streams_of_one_connection_hold_one_slot() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", 1).start();
    let connection = proxy.http2();
    let streams: Vec<_> =
        (0..50).map(|_| connection.open(request("GET", "/events", &[]), true).unwrap()).collect();
    for stream in streams {
        assert_eq!(stream.finish(b"").unwrap().verdict(), "200");
    }
    assert_eq!(proxy.admin.metrics().value(SLOTS_USED), 1.0);
    drop(connection);
    proxy.admin.wait_for(SLOTS_USED, 0.0);
}

#[test]
fn a_full_server_closes_after_its_504_and_a_freed_slot_is_taken_by_the_next() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", 1).start();
    let client = proxy.producer();
    let mut first = client.connect(proxy.address).unwrap();
    assert_eq!(first.get("/events").unwrap().status, 200);

    let mut second = client.connect(proxy.address).unwrap();
    let answer = second.get("/events").unwrap();
    assert_eq!(answer.verdict(), "504 server_full");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(second.is_closed());

    let third = Http2::connect(&client, proxy.address).unwrap();
    assert_eq!(third.get("/events").unwrap().verdict(), "504 server_full");
    third.assert_ends_in_order();

    first.stream.sock.shutdown(Shutdown::Both).unwrap();
    proxy.admin.wait_for(SLOTS_USED, 0.0);
    let mut fourth = client.connect(proxy.address).unwrap();
    assert_eq!(fourth.get("/events").unwrap().status, 200);
}

/// Case 75.
#[test]
fn strangers_and_clients_without_permissions_hold_no_slot() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", 1).start();
    let mut open = Vec::new();
    for client in [proxy.anonymous(), proxy.consumer(), proxy.client(&proxy.pki().expired())] {
        let mut connection = client.connect(proxy.address).unwrap();
        assert!([401, 403].contains(&connection.get("/events").unwrap().status));
        open.push(connection);
    }
    assert_eq!(proxy.admin.metrics().value(SLOTS_USED), 0.0);
    assert_eq!(proxy.admin.metrics().value("sidegate_slots_limit"), 1.0);
    let mut connection = proxy.connect();
    assert_eq!(connection.get("/events").unwrap().status, 200);
    assert_eq!(proxy.admin.metrics().value(SLOTS_USED), 1.0);
}
