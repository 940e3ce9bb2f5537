//! Strangers that present certificate chains of every size: valid chains of unknown authorities, cross-signed chains, and many
//! unrelated certificates. The service of authenticated clients does not change.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CustomExtension, KeyPair};
use rustls::pki_types::CertificateDer;
use sidegate::demo::pki::{Authority, Credential, authority, producer};

use crate::backend::{Behaviour, FaultyBackend};
use crate::client::{self, LoadConnection};
use crate::flood;
use crate::report::{Report, p99};
use crate::support::{Client, Setup};

/// Number of addresses of the strangers.
const SOURCES: u8 = 20;
/// Time between two strangers.
const INTERVAL: Duration = Duration::from_millis(50);
/// The p99 of authenticated clients may be `FACTOR` times the p99 without strangers and `SLACK` more (`deploy/README.md`,
/// "What it withstands"). The slack is needed because the driver runs on the same machine.
const FACTOR: u32 = 2;
const SLACK: Duration = Duration::from_millis(15);

/// Counts of answers to the strangers.
#[derive(Debug, Default)]
struct ChainOutcomes {
    refused: AtomicUsize,
    other: AtomicUsize,
    over: AtomicBool,
}

pub fn run(report: &mut Report, length: Duration) {
    let backend = FaultyBackend::start(Behaviour::Working);
    let setup = Setup::new(&backend.url()).set("workers", 1).set("log.audit", "none");
    let chains = chains(&setup);
    let proxy = setup.start();
    let (producer, address) = (proxy.producer(), proxy.address);
    let clients: Vec<Client> = chains.iter().map(|chain| proxy.client(chain)).collect();
    let mut without = client::run(flood::send_authenticated(&producer, address, length / 2, || ()));
    let (strangers, before) = (ChainOutcomes::default(), proxy.process.cpu());
    let mut with = thread::scope(|scope| {
        scope.spawn(|| client::run(connect_strangers(&strangers, &clients, address)));
        let outcomes = client::run(flood::send_authenticated(&producer, address, length, || ()));
        strangers.over.store(true, Ordering::Relaxed);
        outcomes
    });
    let used = proxy.process.cpu() - before;
    check_times(report, without.times.get_mut(), with.times.get_mut());
    let failed = with.failed.get_mut();
    failed.iter().take(5).for_each(|failure| report.show("a failure", failure));
    report.check_none("authenticated clients that got anything else than 200", failed.len());
    check_strangers(report, &strangers, used);
}

/// Compares the times of authenticated clients without and with strangers.
fn check_times(report: &mut Report, without: &mut [Duration], with: &mut [Duration]) {
    let (p99_without, p99_with) = (p99(without), p99(with));
    report.show("requests of authenticated clients", with.len());
    report.show("their median without strangers", format!("{:.1?}", median(without)));
    report.show("their median with strangers", format!("{:.1?}", median(with)));
    report.show("their p99 without strangers", format!("{p99_without:.1?}"));
    report.check_at_most("their p99 with strangers", p99_with, p99_without * FACTOR + SLACK);
}

/// Returns the median of sorted times.
fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn check_strangers(report: &mut Report, outcomes: &ChainOutcomes, used: Duration) {
    let refused = outcomes.refused.load(Ordering::Relaxed);
    report.check("strangers answered 401", refused, "at least 1", refused > 0);
    report.check_none("strangers that got anything else", outcomes.other.load(Ordering::Relaxed));
    let each = used / u32::try_from(refused.max(1)).unwrap();
    report.show("CPU for each stranger, with the requests of authenticated clients", format!("{each:.1?}"));
}

/// Connects one stranger after another, from each address in turn.
async fn connect_strangers(outcomes: &ChainOutcomes, clients: &[Client], address: SocketAddr) {
    let addresses = (1..=SOURCES).map(|last| Ipv4Addr::new(127, 0, 4, last)).cycle();
    for (client, from) in clients.iter().cycle().zip(addresses) {
        if outcomes.over.load(Ordering::Relaxed) {
            return;
        }
        let start = Instant::now();
        let count = match is_refused(client, address, from).await {
            Ok(true) => &outcomes.refused,
            _ => &outcomes.other,
        };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(INTERVAL.saturating_sub(start.elapsed())).await;
    }
}

async fn is_refused(client: &Client, address: SocketAddr, from: Ipv4Addr) -> std::io::Result<bool> {
    let mut connection = LoadConnection::open(client, address, from).await?;
    Ok(connection.get("/events").await?.is(401, "invalid_certificate"))
}

/// Returns chains of every size that the proxy refuses.
fn chains(setup: &Setup) -> Vec<Credential> {
    let unknown = Authority::root("Unknown").unwrap();
    let same_name = Authority::root(crate::support::certificates::CA_NAME).unwrap();
    let below = |root: &Authority, depth: usize| {
        let names: Vec<_> = (0..depth).map(|number| format!("Level {number}")).collect();
        let first = root.intermediate("First").unwrap();
        let lowest = names.iter().fold(first, |above, name| above.intermediate(name).unwrap());
        lowest.issue(&producer().unwrap()).unwrap()
    };
    let mut chains: Vec<_> = (0..5).map(|depth| below(&unknown, depth)).collect();
    chains.extend((0..5).map(|depth| below(&same_name, depth)));
    chains.extend([2, 4, 8].map(|roots| cross_signed(setup, roots)));
    chains.extend([(10, 500), (30, 500), (62, 400), (20, 2_500), (1, 60_000)].map(|(count, bytes)| {
        let mut chain = below(&unknown, 0);
        chain.chain.extend((0..count).map(|_| unrelated(bytes)));
        chain
    }));
    chains
}

/// Returns a client certificate below an intermediate whose key several authorities have signed, as bundles of a long change
/// of authorities contain it. The proxy trusts none of the authorities; one has the name of the trusted authority.
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

/// Returns the credential with one more certificate in its chain, a new and unrelated one at each call.
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
