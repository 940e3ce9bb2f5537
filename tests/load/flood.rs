//! Ten times as many strangers as there are slots, which reconnect as fast as they can: some send nothing, some send bytes
//! slowly, some send requests, some open and reset streams. The service of authenticated clients does not change.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::memory::bound;
use crate::report::{Report, p99};
use crate::support::{Client, Proxy, Setup};

const SLOTS: usize = 100;
const STRANGERS: usize = 10 * SLOTS;
/// Authenticated clients with open connections.
const STEADY_CLIENTS: usize = 50;
/// Authenticated clients that connect each second.
const NEW_CLIENTS_A_SECOND: u32 = 10;
/// Pause between two requests of a steady client.
const PAUSE: Duration = Duration::from_millis(200);

/// Outcomes of the authenticated clients.
#[derive(Default)]
pub struct AuthenticatedOutcomes {
    pub served: Cell<usize>,
    /// Everything else than an answer 200.
    pub failed: RefCell<Vec<String>>,
    new_served: Cell<usize>,
    pub times: RefCell<Vec<Duration>>,
    over: Cell<bool>,
}

/// Outcomes of the strangers.
#[derive(Default)]
struct StrangerOutcomes {
    answered_401: Cell<usize>,
    closed: Cell<usize>,
    /// Everything else than an answer 401.
    wrong_answers: RefCell<Vec<String>>,
    over: Cell<bool>,
}

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let setup = Setup::new(&backend.url()).set("limits.max_connections", SLOTS).set("log.audit", "none");
    let proxy = setup.set("limits.lobby", serde_json::json!({ "max_connections": SLOTS * 4 })).start();
    let (producer, anonymous, address) = (proxy.producer(), proxy.anonymous(), proxy.address);
    let mut without = client::run(send_authenticated(&producer, address, length / 2, || ()));
    let before = p99(without.times.get_mut());
    // The strangers have their own thread, so that the driver does not slow down its own authenticated clients.
    let (mut authenticated, strangers) = thread::scope(|scope| {
        let flood = RefCell::new(None);
        let begin = || {
            let strangers = || client::run(send_strangers(&anonymous, address, length)).counts();
            flood.replace(Some(scope.spawn(strangers)));
        };
        let authenticated = client::run(send_authenticated(&producer, address, length, begin));
        (authenticated, flood.into_inner().unwrap().join().unwrap())
    });
    check_authenticated(report, &mut authenticated, before);
    check_strangers(report, strangers);
    report.check_memory("memory", proxy.process.resident_memory(), bound(&proxy.setup.config));
    check_released(report, &proxy);
}

fn check_authenticated(report: &mut Report, outcomes: &mut AuthenticatedOutcomes, before: Duration) {
    let failed = outcomes.failed.get_mut();
    report.show("requests of authenticated clients", outcomes.served.get());
    report.show("their p99 without strangers", format!("{before:.1?}"));
    report.show("their p99 with strangers", format!("{:.1?}", p99(outcomes.times.get_mut())));
    failed.iter().take(5).for_each(|failure| report.show("a failure", failure));
    report.check_none("authenticated clients that got anything else than 200", failed.len());
    let new_served = outcomes.new_served.get();
    report.check("new authenticated clients served", new_served, "at least 1", new_served > 0);
}

impl StrangerOutcomes {
    fn counts(self) -> (usize, usize, Vec<String>) {
        (self.answered_401.get(), self.closed.get(), self.wrong_answers.into_inner())
    }
}

fn check_strangers(report: &mut Report, (answered_401, closed, wrong): (usize, usize, Vec<String>)) {
    report.show("strangers answered 401", answered_401);
    report.show("strangers whose connection was closed", closed);
    wrong.iter().take(5).for_each(|answer| report.show("a wrong answer to a stranger", answer));
    report.check_none("strangers that got another answer than 401", wrong.len());
}

/// Checks that no slot and no connection is held after all clients have gone.
fn check_released(report: &mut Report, proxy: &Proxy) {
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    proxy.admin.wait_for("sidegate_connections", 0.0);
    report.check("slots and connections after all clients have gone", 0, "0", true);
}

/// Runs authenticated clients for a while: some on open connections, and some new ones every second. Calls `started` when
/// the first connections are open.
pub async fn send_authenticated(
    client: &Client,
    address: SocketAddr,
    length: Duration,
    started: impl FnOnce(),
) -> AuthenticatedOutcomes {
    let outcomes = Rc::new(AuthenticatedOutcomes::default());
    let tasks = tokio::task::LocalSet::new();
    for _ in 0..STEADY_CLIENTS {
        let mut connection = LoadConnection::open(client, address, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(connection.get("/events").await.unwrap().status, 200);
        tasks.spawn_local(send_steadily(Rc::clone(&outcomes), connection));
    }
    started();
    tasks.spawn_local(connect_new_clients(Rc::clone(&outcomes), client.clone(), address));
    tasks.run_until(sleep(length)).await;
    outcomes.over.set(true);
    tasks.await;
    Rc::try_unwrap(outcomes).unwrap_or_else(|_| panic!("a client that never ended"))
}

async fn send_strangers(client: &Client, address: SocketAddr, length: Duration) -> StrangerOutcomes {
    let outcomes = Rc::new(StrangerOutcomes::default());
    let tasks = tokio::task::LocalSet::new();
    for number in 0..STRANGERS {
        tasks.spawn_local(reconnect_as_stranger(Rc::clone(&outcomes), client.clone(), address, number));
    }
    tasks.run_until(sleep(length)).await;
    outcomes.over.set(true);
    tasks.await;
    Rc::try_unwrap(outcomes).unwrap_or_else(|_| panic!("a client that never ended"))
}

/// Sends requests at a steady rate on an open connection.
async fn send_steadily(outcomes: Rc<AuthenticatedOutcomes>, mut connection: LoadConnection) {
    while !outcomes.over.get() {
        let start = Instant::now();
        match connection.get("/events").await {
            Ok(answer) if answer.status == 200 => {
                outcomes.served.set(outcomes.served.get() + 1);
                outcomes.times.borrow_mut().push(start.elapsed());
            }
            other => return outcomes.failed.borrow_mut().push(format!("{other:?}")),
        }
        sleep(PAUSE).await;
    }
}

/// Connects new clients at a steady rate; each sends one request.
async fn connect_new_clients(outcomes: Rc<AuthenticatedOutcomes>, client: Client, address: SocketAddr) {
    let mut tasks = Vec::new();
    // Each new client has its own address, like pods and machines.
    let mut addresses = (1..=250).cycle().map(|last| Ipv4Addr::new(127, 0, 3, last));
    while !outcomes.over.get() {
        let (outcomes, client) = (Rc::clone(&outcomes), client.clone());
        let from = addresses.next().unwrap_or(Ipv4Addr::LOCALHOST);
        tasks.push(tokio::task::spawn_local(async move {
            let answer = async {
                let mut connection = LoadConnection::open(&client, address, from).await?;
                connection.get("/events").await
            };
            match answer.await {
                Ok(answer) if answer.status == 200 => outcomes.new_served.set(outcomes.new_served.get() + 1),
                other => outcomes.failed.borrow_mut().push(format!("new: {other:?}")),
            }
        }));
        sleep(Duration::from_secs(1) / NEW_CLIENTS_A_SECOND).await;
    }
    for task in tasks {
        let _ = task.await;
    }
}

/// Reconnects as fast as possible, from one of 250 addresses.
async fn reconnect_as_stranger(
    outcomes: Rc<StrangerOutcomes>,
    client: Client,
    address: SocketAddr,
    number: usize,
) {
    let from = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number % 250).unwrap());
    while !outcomes.over.get() {
        let visit = async {
            match number % 4 {
                0 => send_nothing(address, from).await,
                1 => send_slowly(address, from).await,
                2 => send_request(&outcomes, &client, address, from).await,
                _ => reset_streams(&client, address, from).await,
            }
        };
        // The stranger itself ends a visit that takes longer.
        if !matches!(timeout(Duration::from_secs(3), visit).await, Ok(Ok(()))) {
            outcomes.closed.set(outcomes.closed.get() + 1);
        }
    }
}

async fn send_nothing(address: SocketAddr, from: Ipv4Addr) -> io::Result<()> {
    let mut socket = client::connect_from(address, from).await?;
    match socket.read(&mut [0; 1]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Sends what looks like the beginning of a handshake, one byte at a time.
async fn send_slowly(address: SocketAddr, from: Ipv4Addr) -> io::Result<()> {
    let mut socket = client::connect_from(address, from).await?;
    for byte in [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3].into_iter().cycle().take(300) {
        socket.write_all(&[byte]).await?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn send_request(
    outcomes: &StrangerOutcomes,
    client: &Client,
    address: SocketAddr,
    from: Ipv4Addr,
) -> io::Result<()> {
    let mut connection = LoadConnection::open(client, address, from).await?;
    let answer = connection.get("/events").await?;
    if answer.is(401, "not_authenticated") {
        outcomes.answered_401.set(outcomes.answered_401.get() + 1);
    } else {
        outcomes.wrong_answers.borrow_mut().push(format!("{answer:?}"));
    }
    Ok(())
}

/// Opens streams and resets them, as many as the server allows.
async fn reset_streams(client: &Client, address: SocketAddr, from: Ipv4Addr) -> io::Result<()> {
    let settings = h2::client::Builder::new();
    let (mut requests, driver) = client::open_http2(client, address, from, &settings).await?;
    for _ in 0..100 {
        let request = http::Request::get("https://localhost/events").body(()).unwrap();
        requests = requests.ready().await.map_err(io::Error::other)?;
        let (answer, _) = requests.send_request(request, true).map_err(io::Error::other)?;
        drop(answer);
        tokio::task::yield_now().await;
    }
    driver.abort();
    Ok(())
}
