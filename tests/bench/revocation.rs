//! The cost of revocation: a verdict without CRLs, with a CRL of 10 and of 100,000 entries, and loading these CRLs.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot start reports it by panicking")]

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use rcgen::{RevokedCertParams, SerialNumber};
use sidegate::demo::pki::{Authority, pem, producer};
use sidegate::identity::{EkuPolicy, Trust, TrustFile, TrustSources, judge};

const SIZES: [u64; 2] = [10, 100_000];

fn sources(ca: &Authority, entries: Option<u64>) -> TrustSources {
    let authorities = pem("CERTIFICATE", ca.certificate());
    let entry = |number: u64| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&u128::from(number + (1 << 62)).to_be_bytes()[..]),
        revocation_time: SystemTime::now().into(),
        reason_code: None,
        invalidity_date: None,
    };
    let crl = |entries| {
        let bytes = ca.crl(&[], |crl| crl.revoked_certs = (0..entries).map(entry).collect()).unwrap();
        vec![TrustFile { name: "ca.crl".to_owned(), bytes, place: None }]
    };
    TrustSources {
        crls: entries.map(crl),
        ..TrustSources::from_authorities("ca.crt", authorities.as_bytes(), EkuPolicy::ClientAuthIfPresent)
    }
}

fn verdict(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verdict");
    let ca = Authority::root("ca").unwrap();
    let chain = ca.issue(&producer().unwrap()).unwrap().chain;
    let now = Timestamp::now();
    for entries in [None].into_iter().chain(SIZES.map(Some)) {
        let (trust, _) = Trust::build(&sources(&ca, entries), now).unwrap();
        assert_eq!(trust.revoked() as u64, entries.unwrap_or(0));
        let name = entries.map_or("no CRL".to_owned(), |entries| format!("{entries} entries"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| judge(black_box(&chain), &trust, now).unwrap());
        });
    }
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let ca = Authority::root("ca").unwrap();
    for entries in SIZES {
        let sources = sources(&ca, Some(entries));
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            bencher.iter(|| Trust::build(black_box(&sources), Timestamp::now()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(revocation, verdict, load);
criterion_main!(revocation);
