//! Ten times as many strangers as there are slots, who come back as fast as they can: silent ones, slow ones, ones that
//! ask, ones that open and reset streams. Those who are known notice nothing.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::memory::bound;
use crate::report::{Report, p99};
use crate::support::{Client, Proxy, Setup};

const SLOTS: usize = 100;
const STRANGERS: usize = 10 * SLOTS;
const KNOWN: usize = 50;
const NEW_A_SECOND: u64 = 10;
/// The known ask so often.
const PACE: Duration = Duration::from_millis(200);

/// What came of the known.
#[derive(Default)]
pub struct Known {
    pub served: Cell<usize>,
    pub failed: RefCell<Vec<String>>,
    new_served: Cell<usize>,
    pub times: RefCell<Vec<Duration>>,
    over: Cell<bool>,
}

/// What came of the strangers.
#[derive(Default)]
struct Strangers {
    answered_401: Cell<usize>,
    closed: Cell<usize>,
    told_more: RefCell<Vec<String>>,
    over: Cell<bool>,
}

pub fn run(report: &mut Report, length: Duration) {
    let backend = Backend::start(Mood::Well);
    let mut setup = Setup::new(&backend.url()).set("limits.max_connections", SLOTS);
    setup.config["limits"]["lobby"] = serde_json::json!({ "max_connections": SLOTS * 4 });
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let proxy = setup.start();
    let (producer, anonymous, address) = (proxy.producer(), proxy.anonymous(), proxy.address);
    let before = p99(client::run(known(&producer, address, length / 2, || ())).times.get_mut());
    // On a thread of their own, so that it is not each other's clients that are in the way.
    let (mut known, told) = thread::scope(|scope| {
        let crowd = RefCell::new(None);
        let begin = || {
            let crowding = || client::run(strangers(&anonymous, address, length)).told();
            crowd.replace(Some(scope.spawn(crowding)));
        };
        let known = client::run(known(&producer, address, length, begin));
        (known, crowd.into_inner().unwrap().join().unwrap())
    });
    tell(report, &mut known, before);
    tell_of_strangers(report, told);
    let most = bound(&proxy.setup.config);
    let used = proxy.process.resident();
    report.holds(
        "memory",
        format!("{} MiB", used >> 20),
        &format!("at most {} MiB", most >> 20),
        used <= most,
    );
    after(report, &proxy);
}

fn tell(report: &mut Report, known: &mut Known, before: Duration) {
    let failed = known.failed.get_mut();
    report.tells("requests of the known", known.served.get());
    report.tells("of them the slowest in a hundred, without strangers", format!("{before:.1?}"));
    report.tells("and with them", format!("{:.1?}", p99(known.times.get_mut())));
    failed.iter().take(5).for_each(|failure| report.tells("a failure", failure));
    report.none("known clients that got anything else than 200", failed.len());
    report.holds(
        "new known clients served",
        known.new_served.get(),
        "at least 1",
        known.new_served.get() > 0,
    );
}

impl Strangers {
    fn told(self) -> (usize, usize, Vec<String>) {
        (self.answered_401.get(), self.closed.get(), self.told_more.into_inner())
    }
}

fn tell_of_strangers(report: &mut Report, (answered_401, closed, told_more): (usize, usize, Vec<String>)) {
    report.tells("strangers answered 401", answered_401);
    report.tells("strangers whose connection was closed", closed);
    told_more.iter().take(5).for_each(|told| report.tells("a stranger was told", told));
    report.none("strangers that were told more than 401", told_more.len());
}

/// Nothing is left once all have gone.
fn after(report: &mut Report, proxy: &Proxy) {
    proxy.admin.wait_for("sidegate_slots_used", 0.0);
    proxy.admin.wait_for("sidegate_connections", 0.0);
    report.holds("slots and connections once all have gone", 0, "0", true);
}

/// Those who are known: some on open connections, and some new every second. `begun` is told once the first are open.
pub async fn known(client: &Client, address: SocketAddr, length: Duration, begun: impl FnOnce()) -> Known {
    let known = Rc::new(Known::default());
    let tasks = tokio::task::LocalSet::new();
    for _ in 0..KNOWN {
        let mut connection = Connection::open(client, address, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(connection.get("/events").await.unwrap().status, 200);
        tasks.spawn_local(steady(Rc::clone(&known), connection));
    }
    begun();
    tasks.spawn_local(newcomers(Rc::clone(&known), client.clone(), address));
    tasks.run_until(sleep(length)).await;
    known.over.set(true);
    tasks.await;
    Rc::try_unwrap(known).unwrap_or_else(|_| panic!("a client that never ended"))
}

async fn strangers(client: &Client, address: SocketAddr, length: Duration) -> Strangers {
    let strangers = Rc::new(Strangers::default());
    let tasks = tokio::task::LocalSet::new();
    for number in 0..STRANGERS {
        tasks.spawn_local(stranger(Rc::clone(&strangers), client.clone(), address, number));
    }
    tasks.run_until(sleep(length)).await;
    strangers.over.set(true);
    tasks.await;
    Rc::try_unwrap(strangers).unwrap_or_else(|_| panic!("a client that never ended"))
}

/// Asks at a steady pace on a connection that is open.
async fn steady(known: Rc<Known>, mut connection: Connection) {
    while !known.over.get() {
        let start = Instant::now();
        match connection.get("/events").await {
            Ok(answer) if answer.status == 200 => {
                known.served.set(known.served.get() + 1);
                known.times.borrow_mut().push(start.elapsed());
            }
            other => return known.failed.borrow_mut().push(format!("{other:?}")),
        }
        sleep(PACE).await;
    }
}

/// So many a second connect, ask once and go.
async fn newcomers(known: Rc<Known>, client: Client, address: SocketAddr) {
    let mut tasks = Vec::new();
    // As pods and machines do, each from an address of its own.
    let mut addresses = (1..=250).cycle().map(|last| Ipv4Addr::new(127, 0, 3, last));
    while !known.over.get() {
        let (known, client) = (Rc::clone(&known), client.clone());
        let from = addresses.next().unwrap_or(Ipv4Addr::LOCALHOST);
        tasks.push(tokio::task::spawn_local(async move {
            let served = async {
                let mut connection = Connection::open(&client, address, from).await?;
                connection.get("/events").await
            };
            match served.await {
                Ok(answer) if answer.status == 200 => known.new_served.set(known.new_served.get() + 1),
                other => known.failed.borrow_mut().push(format!("new: {other:?}")),
            }
        }));
        sleep(Duration::from_secs(1) / u32::try_from(NEW_A_SECOND).unwrap()).await;
    }
    for task in tasks {
        let _ = task.await;
    }
}

/// Comes back as fast as it can, from one of a few hundred addresses.
async fn stranger(strangers: Rc<Strangers>, client: Client, address: SocketAddr, number: usize) {
    let from = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number % 250).unwrap());
    while !strangers.over.get() {
        let visit = async {
            match number % 4 {
                0 => silent(address, from).await,
                1 => byte_by_byte(address, from).await,
                2 => asks(&strangers, &client, address, from).await,
                _ => resets(&client, address, from).await,
            }
        };
        // A visit that takes longer is cut by the stranger itself.
        if !matches!(timeout(Duration::from_secs(3), visit).await, Ok(Ok(()))) {
            strangers.closed.set(strangers.closed.get() + 1);
        }
    }
}

async fn silent(address: SocketAddr, from: Ipv4Addr) -> io::Result<()> {
    let mut socket = client::socket(address, from).await?;
    match socket.read(&mut [0; 1]).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn byte_by_byte(address: SocketAddr, from: Ipv4Addr) -> io::Result<()> {
    let mut socket = client::socket(address, from).await?;
    for byte in [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3].into_iter().cycle().take(300) {
        socket.write_all(&[byte]).await?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn asks(strangers: &Strangers, client: &Client, address: SocketAddr, from: Ipv4Addr) -> io::Result<()> {
    let mut connection = Connection::open(client, address, from).await?;
    let answer = connection.get("/events").await?;
    if answer.is(401, "not_authenticated") {
        strangers.answered_401.set(strangers.answered_401.get() + 1);
    } else {
        strangers.told_more.borrow_mut().push(format!("{answer:?}"));
    }
    Ok(())
}

/// Opens streams and resets them, as many as there is room for.
async fn resets(client: &Client, address: SocketAddr, from: Ipv4Addr) -> io::Result<()> {
    let socket = client::socket(address, from).await?;
    let connector = TlsConnector::from(client.alpn(&["h2"]).config);
    let stream = connector.connect("localhost".try_into().unwrap(), socket).await?;
    let (mut requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let driving = tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    for _ in 0..100 {
        let request = http::Request::get("https://localhost/events").body(()).unwrap();
        requests = requests.ready().await.map_err(io::Error::other)?;
        let (answer, _) = requests.send_request(request, true).map_err(io::Error::other)?;
        drop(answer);
        tokio::task::yield_now().await;
    }
    driving.abort();
    Ok(())
}
