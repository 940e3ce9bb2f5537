//! Slots: 0 <= used <= limit at any moment, exactly the connections that were given something hold one, and all come
//! back (DESIGN §2.3).

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use socket2::SockRef;

use crate::support::backend::OK;
use crate::support::http2::{Exchange, Http2, request};
use crate::support::tls::Tls;
use crate::support::{Backend, Client, Proxy, Setup, eventually};

const LIMIT: usize = 3;
const USED: &str = "sidegate_slots_used";

#[derive(Clone, Copy, Debug)]
enum Step {
    Open {
        http2: bool,
    },
    /// A request that is permitted, on the connection of that number.
    Permitted(usize),
    Denied(usize),
    /// A request that stays open: an upload that does not go on, or an answer that does not come.
    Hanging {
        number: usize,
        upload: bool,
    },
    /// Gives up what hangs (HTTP/2: by a reset of the stream; HTTP/1.1: with the connection).
    GiveUp(usize),
    Close(usize),
    /// Closes with a TCP reset.
    Abort(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let connection = 0..8_usize;
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|http2| Step::Open { http2 }),
        4 => connection.clone().prop_map(Step::Permitted),
        2 => connection.clone().prop_map(Step::Denied),
        3 => (connection.clone(), any::<bool>()).prop_map(|(number, upload)| Step::Hanging { number, upload }),
        1 => connection.clone().prop_map(Step::GiveUp),
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
        World::new(&proxy).run(&steps);
        proxy.admin.wait_for(USED, 0.0);
    });
}

/// Runs so many cases of a strategy, of a seed that is shown when one fails; `SEED=…` runs it again.
pub fn interleave<S: Strategy>(cases: u32, steps: &S, run: impl Fn(S::Value)) {
    let seed: u64 = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    eprintln!("SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(steps, |steps| {
        run(steps);
        Ok(())
    });
    if let Err(error) = result {
        panic!("SEED={seed}: {error}");
    }
}

/// One client that may use the paths under `/may`, and nothing else.
const POLICY: &str = r#"version: 1
permissions:
  some: ["* /may/**"]
clients:
  - name: producer
    match: { uri: "spiffe://shop.example/ns/orders/sa/*" }
    permissions: [some]
"#;

/// The open connections, and what each of them must hold.
struct World<'a> {
    proxy: &'a Proxy,
    client: Client,
    connections: Vec<Open>,
}

struct Open {
    connection: Connection,
    has_slot: bool,
}

enum Connection {
    Http1 { wire: Box<Tls>, hanging: bool },
    Http2 { connection: Http2, hanging: Vec<Exchange> },
}

impl<'a> World<'a> {
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
            Step::Open { http2 } => self.open(http2),
            Step::Permitted(number) => self.permitted(number),
            Step::Denied(number) => self.denied(number),
            Step::Hanging { number, upload } => self.hang(number, upload),
            Step::GiveUp(number) => self.give_up(number),
            Step::Close(number) => drop(self.remove(number)),
            Step::Abort(number) => self.abort(number),
        }
    }

    fn used(&self) -> usize {
        self.connections.iter().filter(|open| open.has_slot).count()
    }

    fn open(&mut self, http2: bool) {
        let connection = if http2 {
            Connection::Http2 {
                connection: Http2::connect(&self.client, self.proxy.address).unwrap(),
                hanging: Vec::new(),
            }
        } else {
            let wire = Box::new(self.client.connect(self.proxy.address).unwrap());
            Connection::Http1 { wire, hanging: false }
        };
        self.connections.push(Open { connection, has_slot: false });
    }

    fn permitted(&mut self, number: usize) {
        let is_full = self.used() == LIMIT;
        let Some(index) = self.index(number) else { return };
        let open = &mut self.connections[index];
        let verdict = match open.connection.get("/may/read") {
            Some(verdict) => verdict,
            None => return,
        };
        if open.has_slot || !is_full {
            assert_eq!(verdict, "200");
            open.has_slot = true;
        } else {
            assert_eq!(verdict, "504 server_full");
            // That connection is closed after the answer.
            self.connections.remove(index);
        }
    }

    fn denied(&mut self, number: usize) {
        let Some(index) = self.index(number) else { return };
        if let Some(verdict) = self.connections[index].connection.get("/may-not") {
            assert_eq!(verdict, "403 insufficient_permissions");
        }
    }

    fn hang(&mut self, number: usize, upload: bool) {
        let is_full = self.used() == LIMIT;
        let Some(index) = self.index(number) else { return };
        let open = &mut self.connections[index];
        if is_full && !open.has_slot {
            return;
        }
        match &mut open.connection {
            Connection::Http1 { hanging: true, .. } => return,
            Connection::Http1 { wire, hanging } => {
                wire.send("POST /may/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
                    .unwrap();
                *hanging = true;
            }
            Connection::Http2 { connection, hanging } => {
                let path = if upload { "/may/upload" } else { "/may/wait" };
                hanging.push(connection.open(request("POST", path, &[]), !upload).unwrap());
            }
        }
        open.has_slot = true;
    }

    fn give_up(&mut self, number: usize) {
        let Some(index) = self.index(number) else { return };
        match &mut self.connections[index].connection {
            Connection::Http1 { hanging: true, .. } => drop(self.connections.remove(index)),
            Connection::Http1 { .. } => {}
            Connection::Http2 { hanging, .. } => hanging.drain(..).for_each(Exchange::reset),
        }
    }

    fn abort(&mut self, number: usize) {
        let Some(open) = self.remove(number) else { return };
        if let Connection::Http1 { wire, .. } = open.connection {
            // No lingering: the kernel sends a reset instead of an end.
            SockRef::from(&wire.stream.sock).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    fn index(&self, number: usize) -> Option<usize> {
        (!self.connections.is_empty()).then(|| number % self.connections.len())
    }

    fn remove(&mut self, number: usize) -> Option<Open> {
        Some(self.connections.remove(self.index(number)?))
    }

    /// Every scrape is within the limit, and in the end it is the number of connections that were given something.
    fn assert_slots(&self, step: &Step) {
        let scrape = || {
            let used = self.proxy.admin.metrics().value(USED);
            assert!((0.0..=LIMIT as f64).contains(&used), "{used} slots used after {step:?}");
            used
        };
        eventually(&format!("slots after {step:?}"), scrape, |used| *used == self.used() as f64);
    }
}

impl Connection {
    /// `None` where something hangs on an HTTP/1.1 connection: it cannot ask anything now.
    fn get(&mut self, path: &str) -> Option<String> {
        match self {
            Self::Http1 { hanging: true, .. } => None,
            Self::Http1 { wire, .. } => Some(wire.get(path).unwrap().verdict()),
            Self::Http2 { connection, .. } => Some(connection.get(path).unwrap().verdict()),
        }
    }
}

#[test]
fn a_crowd_is_admitted_up_to_the_limit_and_the_backend_never_sees_more() {
    let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let backend = {
        let (working, most) = (Arc::clone(&working), Arc::clone(&most));
        Backend::scripted(move |connection| {
            while connection.request()?.is_some() {
                most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The answer begins; before it ends, others have time to begin theirs.
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
                    let used = admin.metrics().value(USED);
                    assert!(used <= LIMIT as f64, "{used}");
                }
            });
        }
    });
    proxy.admin.wait_for(USED, 0.0);
    let most = most.load(Ordering::SeqCst);
    assert!((1..=LIMIT).contains(&most), "the backend worked on {most} requests at once");
}

#[test]
fn many_streams_of_one_connection_hold_one_slot() {
    let backend = Backend::ok();
    let proxy = Setup::new(&backend.url()).set("limits.max_connections", 1).start();
    let connection = Http2::connect(&proxy.producer(), proxy.address).unwrap();
    let streams: Vec<_> =
        (0..50).map(|_| connection.open(request("GET", "/events", &[]), true).unwrap()).collect();
    for stream in streams {
        assert_eq!(stream.finish(b"").unwrap().verdict(), "200");
    }
    assert_eq!(proxy.admin.metrics().value(USED), 1.0);
    drop(connection);
    proxy.admin.wait_for(USED, 0.0);
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
    proxy.admin.wait_for(USED, 0.0);
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
    assert_eq!(proxy.admin.metrics().value(USED), 0.0);
    assert_eq!(proxy.admin.metrics().value("sidegate_slots_limit"), 1.0);
    let mut connection = proxy.producer().connect(proxy.address).unwrap();
    assert_eq!(connection.get("/events").unwrap().status, 200);
    assert_eq!(proxy.admin.metrics().value(USED), 1.0);
}
