//! Strangers who present chains of every size: honest ones of authorities that are not known, cross-signed ones, and crowds of
//! certificates that have nothing to do with each other. Clients that are known notice nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CustomExtension, KeyPair};
use rustls::pki_types::CertificateDer;
use sidegate::demo::pki::{Authority, Credential, authority, producer};

use crate::backend::{Backend, Mood};
use crate::client::{self, Connection};
use crate::flood;
use crate::report::{Report, p99};
use crate::support::{Client, Setup};

/// The addresses that strangers come from.
const SOURCES: u8 = 20;
/// Strangers come so often, all together.
const PACE: Duration = Duration::from_millis(50);
/// The slowest in a hundred answers of known clients may take so many times as long as without strangers, and so much longer
/// (`deploy/README.md`, "What it withstands"): the driver runs on the same machine, and takes its turns as well.
const FACTOR: u32 = 2;
const SLACK: Duration = Duration::from_millis(15);

/// Outcomes of the strangers.
#[derive(Debug, Default)]
struct Strangers {
    refused: AtomicUsize,
    other: AtomicUsize,
    over: AtomicBool,
}

pub fn run(report: &mut Report, length: Duration) {
    let backend = Backend::start(Mood::Well);
    let mut setup = Setup::new(&backend.url()).set("workers", 1);
    setup.config["log"] = serde_json::json!({ "audit": "none" });
    let chains = chains(&setup);
    let proxy = setup.start();
    let (producer, address) = (proxy.producer(), proxy.address);
    let clients: Vec<Client> = chains.iter().map(|chain| proxy.client(chain)).collect();
    let mut idle = client::run(flood::known(&producer, address, length / 2, || ()));
    let (strangers, before) = (Strangers::default(), proxy.process.cpu());
    let mut known = thread::scope(|scope| {
        scope.spawn(|| client::run(come(&strangers, &clients, address)));
        let known = client::run(flood::known(&producer, address, length, || ()));
        strangers.over.store(true, Ordering::Relaxed);
        known
    });
    let used = proxy.process.cpu() - before;
    tell(report, idle.times.get_mut(), known.times.get_mut());
    let failed = known.failed.get_mut();
    failed.iter().take(5).for_each(|failure| report.tells("a failure", failure));
    report.none("known clients that got anything else than 200", failed.len());
    tell_of_strangers(report, &strangers, used);
}

fn tell(report: &mut Report, idle: &mut [Duration], known: &mut [Duration]) {
    let (before, with) = (p99(idle), p99(known));
    report.tells("requests of the known", known.len());
    report.tells("half of them within, without strangers", format!("{:.1?}", median(idle)));
    report.tells("and with them", format!("{:.1?}", median(known)));
    report.tells("the slowest in a hundred, without strangers", format!("{before:.1?}"));
    report.at_most("and with them", with, before * FACTOR + SLACK);
}

/// The times are in order already.
fn median(times: &[Duration]) -> Duration {
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn tell_of_strangers(report: &mut Report, strangers: &Strangers, used: Duration) {
    let refused = strangers.refused.load(Ordering::Relaxed);
    report.holds("strangers answered 401", refused, "at least 1", refused > 0);
    report.none("strangers that got anything else", strangers.other.load(Ordering::Relaxed));
    let each = used / u32::try_from(refused.max(1)).unwrap();
    report.tells("CPU for each, requests of the known included", format!("{each:.1?}"));
}

/// One after the other, from each address in turn, on connections of their own.
async fn come(strangers: &Strangers, clients: &[Client], address: SocketAddr) {
    let addresses = (1..=SOURCES).map(|last| Ipv4Addr::new(127, 0, 4, last)).cycle();
    for (client, from) in clients.iter().cycle().zip(addresses) {
        if strangers.over.load(Ordering::Relaxed) {
            return;
        }
        let start = Instant::now();
        let count = match asked(client, address, from).await {
            Ok(true) => &strangers.refused,
            _ => &strangers.other,
        };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE.saturating_sub(start.elapsed())).await;
    }
}

async fn asked(client: &Client, address: SocketAddr, from: Ipv4Addr) -> std::io::Result<bool> {
    let mut connection = Connection::open(client, address, from).await?;
    Ok(connection.get("/events").await?.is(401, "invalid_certificate"))
}

/// Chains that are refused, of every size.
fn chains(setup: &Setup) -> Vec<Credential> {
    let unknown = Authority::root("Unknown").unwrap();
    let namesake = Authority::root(crate::support::certificates::CA_NAME).unwrap();
    let below = |root: &Authority, depth: usize| {
        let names: Vec<_> = (0..depth).map(|number| format!("Level {number}")).collect();
        let first = root.intermediate("First").unwrap();
        let lowest = names.iter().fold(first, |above, name| above.intermediate(name).unwrap());
        lowest.issue(&producer().unwrap()).unwrap()
    };
    let mut chains: Vec<_> = (0..5).map(|depth| below(&unknown, depth)).collect();
    chains.extend((0..5).map(|depth| below(&namesake, depth)));
    chains.extend([2, 4, 8].map(|roots| cross_signed(setup, roots)));
    chains.extend([(10, 500), (30, 500), (62, 400), (20, 2_500), (1, 60_000)].map(|(count, bytes)| {
        let mut chain = below(&unknown, 0);
        chain.chain.extend((0..count).map(|_| unrelated(bytes)));
        chain
    }));
    chains
}

/// An intermediate of one key that many authorities have signed, as bundles of long transitions hold it. None of them is known,
/// except by its name.
fn cross_signed(setup: &Setup, roots: usize) -> Credential {
    let key = KeyPair::generate().unwrap();
    let sign = |number: usize| {
        let name = if number == 0 { crate::support::certificates::CA_NAME } else { "Another" };
        let root = Authority::root(name).unwrap();
        authority("Shared").signed_by(&key, root.issuer()).unwrap().into()
    };
    let certificates: Vec<CertificateDer<'static>> = (0..roots).map(sign).collect();
    let issuer = rcgen::Issuer::new(authority("Shared"), &key);
    let mut credential = setup.pki.issue(&producer().unwrap());
    let client = KeyPair::generate().unwrap();
    let mut params = authority("Client");
    params.is_ca = rcgen::IsCa::NoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    credential.chain = vec![params.signed_by(&client, &issuer).unwrap().into()];
    credential.chain.extend(certificates);
    credential.key = rustls::pki_types::PrivatePkcs8KeyDer::from(client.serialize_der()).into();
    credential
}

/// A credential that presents an unrelated certificate as well, another one each time.
pub fn with_unrelated(credential: &Credential, bytes: usize) -> Credential {
    let mut presented = credential.clone();
    presented.chain.push(unrelated(bytes));
    presented
}

fn unrelated(bytes: usize) -> CertificateDer<'static> {
    let mut params = authority("Unrelated");
    let oid = [1, 3, 6, 1, 4, 1, 1, 1];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![0; bytes])];
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().into()
}
