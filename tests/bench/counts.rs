//! The number of instructions of the pure steps of a request. Instructions do not depend on the load of the machine, so CI
//! compares them with `counts.json`: `.ci/counts.py` runs this program under callgrind, once for each step.
//!
//! Only the work inside of [`counted`] is counted. No count depends on chance: the keys are random, and no step reads them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot start reports it by panicking"
)]

mod workload;

use std::fs;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Uri};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sidegate::admission::Admission;
use sidegate::client_headers::Sender;
use sidegate::demo::pki;
use sidegate::forward::headers::{
    ConnectionHeaders, IdentityHeaders, IdentitySettings, OwnHeaders, set, strip,
};
use sidegate::policy::{Host, Policy, Question};
use sidegate::proxy::client::Verdicts;
use sidegate::proxy::serve::lines::Lines;
use sidegate::proxy::session::Peer;
use sidegate::refusal::{Reader, Refusal};
use sidegate::reload::Origin;
use sidegate::target::{self, Target};
use tokio::io::ReadBuf;

use workload::{WORKLOADS, Workload};

/// Number of counted runs of each step; the script divides by it.
const TIMES: usize = 200;
const REQUEST_ID: &str = "0123456789abcdef0123456789abcdef";
const PATH: &str = "/svc1/resource1/42?from=2026-11-01&limit=100";
/// The headers of a usual client.
const HEAD: [(&str, &str); 8] = [
    ("host", "events.shop.example"),
    ("user-agent", "order-service/2.7 (linux; x86_64)"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, br"),
    ("content-type", "application/json"),
    ("content-length", "0"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("x-tenant", "acme"),
];

/// A step: its name, and the function that runs it [`TIMES`] times.
type Step = (&'static str, fn());

const STEPS: [Step; 7] = [
    ("lines", lines),
    ("judge-from-cache", judge_from_cache),
    ("target", target),
    ("decide-3-rules", || decide(WORKLOADS[0])),
    ("decide-1000-rules", || decide(WORKLOADS[1])),
    ("headers", headers),
    ("refusal", refusal),
];

/// `counts STEP` runs one step; `counts` lists the steps.
fn main() -> ExitCode {
    // Cargo passes `--bench` as the first argument.
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let Some(named) = named else {
        STEPS.iter().for_each(|(name, _)| println!("{name} {TIMES}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, step)) = STEPS.iter().find(|(name, _)| *name == named) else {
        return ExitCode::from(2);
    };
    step();
    ExitCode::SUCCESS
}

/// callgrind counts the instructions of this function (`--toggle-collect`).
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Checks that the bytes read are one head without bare LF.
fn lines() {
    let fields = HEAD.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let head = format!("GET {PATH} HTTP/1.1\r\n{fields}\r\n");
    for _ in 0..TIMES {
        let mut memory = head.clone().into_bytes();
        let length = memory.len();
        let mut buf = ReadBuf::new(&mut memory);
        buf.set_filled(length);
        let mut lines = Lines::default();
        counted(|| lines.look(&mut buf, 0));
        assert_eq!(buf.filled().len(), length);
    }
}

/// Finds the verdict on a client certificate in the cache.
fn judge_from_cache() {
    let folder = tempfile::tempdir().unwrap();
    pki::write_demo(folder.path()).unwrap();
    fs::write(folder.path().join("policy.yaml"), WORKLOADS[0].policy().text()).unwrap();
    let config = "tls: { certificate: server.crt, key: server.key, client_ca: ca.crt }\n\
        backend: { url: 'http://127.0.0.1:1' }\npolicies: policy.yaml\n";
    fs::write(folder.path().join("sidegate.yaml"), config).unwrap();
    let loaded = Origin::new(folder.path().join("sidegate.yaml"), &[]).load().unwrap();
    let verdicts = Verdicts::new(Arc::new(Admission::new(loaded.config.admission())));
    let chain = certificates(&fs::read(folder.path().join("producer.crt")).unwrap());
    let now = Timestamp::now();
    let peer = Peer::judge(([192, 0, 2, 1], 1).into(), chain, &verdicts, &loaded.live, now);
    for _ in 0..TIMES {
        counted(|| peer.client(&verdicts, &loaded.live, black_box(now))).unwrap();
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap()
}

/// Reads method, path and query.
fn target() {
    let uri: Uri = PATH.parse().unwrap();
    for _ in 0..TIMES {
        counted(|| Target::parse(&Method::GET, black_box(&uri), target::TargetRules::STRICT)).unwrap();
    }
}

/// Finds a grant for a request.
fn decide(workload: Workload) {
    let (policy, _) = Policy::compile(&[workload.policy()]).unwrap();
    let rights = policy.rights(&workload::identity(1));
    let target: Target = format!("GET {PATH}").parse().unwrap();
    let headers = HeaderMap::new();
    let question = Question {
        target: &target,
        host: Host::Named("shop.example"),
        headers: Some(&headers),
        source: [192, 0, 2, 1].into(),
        now: Timestamp::UNIX_EPOCH,
        upgrade: None,
    };
    for _ in 0..TIMES {
        counted(|| policy.authorize(black_box(&rights), &question)).unwrap();
    }
}

/// Removes the headers that clients may not send, and sets the headers of Sidegate.
fn headers() {
    let settings = IdentitySettings {
        client_cert: true,
        client_cert_chain: false,
        xfcc: true,
        custom: [].into(),
        stripped: [].into(),
    };
    let certificate = CertificateDer::from(vec![0x30; 500]);
    let identity = IdentityHeaders::of(&settings, &workload::identity(1), &[certificate]);
    let connection = ConnectionHeaders::of([192, 0, 2, 1].into());
    let said = OwnHeaders {
        identity: &identity,
        connection: &connection,
        host: "events.shop.example",
        request_id: REQUEST_ID,
        trace: None,
    };
    for _ in 0..TIMES {
        let mut request = Request::get(PATH);
        for (name, value) in HEAD {
            request = request.header(name, value);
        }
        let mut request = request.body(String::new()).unwrap();
        counted(|| {
            let wishes = strip(black_box(&mut request), &settings.stripped, Sender::Client);
            set(&mut request, wishes, &said);
        });
        assert_eq!(request.headers()["x-request-id"], REQUEST_ID);
    }
}

/// Writes the answer 403.
fn refusal() {
    for _ in 0..TIMES {
        let refusal = Refusal::NotPermitted { method: Method::GET, path: "/svc1/resource1/42".to_owned() };
        counted(|| refusal.response(Reader::Whole, black_box(REQUEST_ID), &refusal.detail()));
    }
}
