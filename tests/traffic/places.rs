//! Places in flight: 0 <= used <= limit at any moment, whatever clients do, and all of them come back (DESIGN §2.3).

use proptest::prelude::*;

use crate::support::admin::{IN_FLIGHT, QUEUED, SLOTS_USED};
use crate::support::frames::{END_STREAM, Frames, RST_STREAM, frame, headers, pseudo_headers};
use crate::support::generated::interleave;
use crate::support::http2::{Exchange, Http2, request};
use crate::support::tls::Tls;
use crate::support::{BlockingBackend, Client, Proxy, Setup};

const SLOTS: usize = 3;
const PLACES: usize = 4;

/// A step of a client or of the backend. A number means one of the connections that are open.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open(Kind),
    /// Sends a request that the backend answers at once.
    AskQuick(usize),
    /// Sends a request on which the backend works until its gate lets it pass.
    AskLong(usize, Length),
    /// Takes back the requests of a connection: by resets, or with the connection itself.
    TakeBack(usize),
    Close(usize),
    /// Ends the work of the backend for one request.
    EndWork,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Http1,
    Http2,
    /// HTTP/2 that opens no window, so that every answer waits.
    Windowless,
}

/// The part of a request that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Whole,
    HalfAnUpload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let connection = 0..6_usize;
    let kind = prop_oneof![Just(Kind::Http1), Just(Kind::Http2), Just(Kind::Windowless)];
    let length = prop_oneof![Just(Length::Whole), Just(Length::HalfAnUpload)];
    let step = prop_oneof![
        3 => kind.prop_map(Step::Open),
        2 => connection.clone().prop_map(Step::AskQuick),
        6 => (connection.clone(), length).prop_map(|(number, length)| Step::AskLong(number, length)),
        2 => connection.clone().prop_map(Step::TakeBack),
        1 => connection.prop_map(Step::Close),
        2 => Just(Step::EndWork),
    ];
    proptest::collection::vec(step, 1..40)
}

#[test]
fn any_interleaving_keeps_the_places_within_their_limit_and_gives_all_back() {
    let blocking = BlockingBackend::start();
    let setup = Setup::new(&blocking.backend.url())
        .set("limits.max_connections", SLOTS)
        .set("backend.max_in_flight", PLACES)
        .set("backend.queue", 3)
        .set("backend.queue_timeout", "50ms");
    let proxy = setup.set("workers", 2).start();
    interleave(60, &steps(), |steps| {
        let clients =
            Clients { proxy: &proxy, blocking: &blocking, client: proxy.producer(), connections: Vec::new() };
        clients.run(&steps);
    });
    blocking.assert_ends(&proxy, blocking.most());
}

/// The connections of one client in front of a backend that does not notice when a connection ends. After every step, places
/// and slots in use are within their limits, and the backend has never worked on more requests than there are places. After
/// the last step, everything is given back.
struct Clients<'a> {
    proxy: &'a Proxy,
    blocking: &'a BlockingBackend,
    client: Client,
    connections: Vec<Connection>,
}

impl Clients<'_> {
    fn run(mut self, steps: &[Step]) {
        for step in steps {
            self.take(*step);
            let metrics = self.proxy.admin.metrics();
            assert!(metrics.value(IN_FLIGHT) <= PLACES as f64, "{step:?}");
            assert!(metrics.value(SLOTS_USED) <= SLOTS as f64, "{step:?}");
            assert!(self.blocking.most() <= PLACES, "{step:?}");
        }
        self.connections.clear();
        self.blocking.gate.open();
        for gauge in [IN_FLIGHT, QUEUED, SLOTS_USED] {
            self.proxy.admin.wait_for(gauge, 0.0);
        }
        self.blocking.wait_for(0);
        self.blocking.gate.close();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open(kind) => self.connections.push(Connection::open(kind, &self.client, self.proxy)),
            Step::AskQuick(number) => self.with(number, Connection::ask_quick),
            Step::AskLong(number, length) => self.with(number, |connection| connection.ask_long(length)),
            Step::TakeBack(number) => self.with(number, Connection::take_back),
            Step::Close(number) => self.with(number, |_| None),
            Step::EndWork => self.blocking.gate.let_pass(1),
        }
    }

    /// Applies a step to a connection, and keeps the connection if the step returns it.
    fn with(&mut self, number: usize, step: impl FnOnce(Connection) -> Option<Connection>) {
        if !self.connections.is_empty() {
            let connection = self.connections.swap_remove(number % self.connections.len());
            self.connections.extend(step(connection));
        }
    }
}

enum Connection {
    Http1 { wire: Box<Tls>, is_waiting: bool },
    Http2 { connection: Http2, waiting: Vec<Exchange> },
    Windowless { frames: Box<Frames>, streams: u32 },
}

impl Connection {
    fn open(kind: Kind, client: &Client, proxy: &Proxy) -> Self {
        match kind {
            Kind::Http1 => {
                Self::Http1 { wire: Box::new(client.connect(proxy.address).unwrap()), is_waiting: false }
            }
            Kind::Http2 => {
                let connection = Http2::connect(client, proxy.address).unwrap();
                Self::Http2 { connection, waiting: Vec::new() }
            }
            Kind::Windowless => {
                let frames = Frames::with_windows_of(0, client, proxy.address).unwrap();
                Self::Windowless { frames: Box::new(frames), streams: 0 }
            }
        }
    }

    fn ask_quick(mut self) -> Option<Self> {
        let verdict = match &mut self {
            Self::Http1 { is_waiting: true, .. } => return Some(self),
            Self::Http1 { wire, .. } => wire.get("/quick").unwrap().verdict(),
            // A client without a slot is sent away; its library may report the end of the connection instead of the answer.
            Self::Http2 { connection, .. } => connection
                .get("/quick")
                .map_or_else(|_| "504 server_full".to_owned(), |answer| answer.verdict()),
            Self::Windowless { .. } => return self.send("GET", "/quick", END_STREAM),
        };
        assert!(["200", "504 overloaded", "504 server_full"].contains(&verdict.as_str()), "{verdict}");
        (verdict != "504 server_full").then_some(self)
    }

    fn ask_long(mut self, length: Length) -> Option<Self> {
        let (method, body) = match length {
            Length::Whole => ("GET", "\r\n"),
            Length::HalfAnUpload => ("POST", "Content-Length: 10\r\n\r\nhalf"),
        };
        let is_whole = length == Length::Whole;
        match &mut self {
            Self::Http1 { is_waiting: true, .. } => return Some(self),
            Self::Http1 { wire, is_waiting } => {
                *is_waiting = true;
                wire.send(format!("{method} /long HTTP/1.1\r\nHost: localhost\r\n{body}")).ok()?;
            }
            Self::Http2 { connection, waiting } => {
                waiting.push(connection.open(request(method, "/long", &[]), is_whole).ok()?);
            }
            Self::Windowless { .. } => {
                return self.send(method, "/long", if is_whole { END_STREAM } else { 0 });
            }
        }
        Some(self)
    }

    /// Sends the head of a request on a connection without windows, and does not wait for its answer.
    fn send(mut self, method: &str, path: &str, flags: u8) -> Option<Self> {
        if let Self::Windowless { frames, streams } = &mut self {
            frames.send(headers(2 * *streams + 1, flags, &pseudo_headers(method, path))).ok()?;
            *streams += 1;
        }
        Some(self)
    }

    fn take_back(mut self) -> Option<Self> {
        match &mut self {
            Self::Http1 { is_waiting: true, .. } => return None,
            Self::Http1 { .. } => {}
            Self::Http2 { waiting, .. } => waiting.drain(..).for_each(Exchange::reset),
            Self::Windowless { frames, streams } => {
                for number in 0..*streams {
                    frames.send(frame(RST_STREAM, 0, 2 * number + 1, 8_u32.to_be_bytes())).ok()?;
                }
            }
        }
        Some(self)
    }
}
