//! What a decision costs: a walk for an identity whose rights are known, the rights of a new identity, and compiling,
//! under policies of 3 to 100,000 rules and up to 10,000 client entries.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot start has no better way to say so")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use jiff::Timestamp;
use sidegate::diagnostic::Source;
use sidegate::identity::{Attribute, Identity};
use sidegate::policy::{Policy, Question};
use sidegate::target::Target;

/// Rules and client entries.
const SIZES: [(usize, usize); 3] = [(3, 3), (1_000, 100), (100_000, 10_000)];

/// A policy as a platform team would write it: services with resources, a role for each, clients by SPIFFE id.
fn policy(rules: usize, clients: usize) -> Arc<Source> {
    let mut text = "version: 1\npermissions:\n".to_owned();
    for rule in 0..rules {
        let _ = writeln!(text, "  p{rule}: [\"GET|PUT /svc{}/resource{rule}/{{id}}\"]", rule % 97);
    }
    text += "roles:\n";
    for client in 0..clients {
        let own: Vec<String> =
            (0..rules.div_ceil(clients)).map(|n| format!("p{}", (client + n * clients) % rules)).collect();
        let _ = writeln!(text, "  r{client}: [{}]", own.join(", "));
    }
    text += "clients:\n";
    for client in 0..clients {
        let name = format!("spiffe://shop.example/ns/n{}/sa/c{client}", client % 50);
        let _ = writeln!(text, "  - {{ name: c{client}, match: {{ uri: \"{name}\" }}, roles: [r{client}] }}");
    }
    Source::new("bench.yaml", text)
}

fn identity(client: usize) -> Identity {
    let uri = format!("spiffe://shop.example/ns/n{}/sa/c{client}", client % 50);
    Identity::of_attributes([
        (Attribute::CommonName, format!("c{client}")),
        (Attribute::Organization, "Shop".to_owned()),
        (Attribute::Issuer, "CN=Shop CA".to_owned()),
        (Attribute::Uri, uri),
    ])
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for (rules, clients) in SIZES {
        let (policy, _) = Policy::compile(&[policy(rules, clients)]).unwrap();
        let client = clients / 2;
        let rights = policy.rights(&identity(client));
        let headers = HeaderMap::new();
        for (kind, rule) in [("allow", client), ("deny", (client + 1) % rules)] {
            let target: Target = format!("GET /svc{}/resource{rule}/42", rule % 97).parse().unwrap();
            let question = Question {
                target: &target,
                headers: &headers,
                source: [192, 0, 2, 1].into(),
                now: Timestamp::UNIX_EPOCH,
                upgrade: None,
            };
            assert_eq!(policy.authorize(&rights, &question).is_ok(), kind == "allow");
            group.bench_function(BenchmarkId::new(kind, rules), |bencher| {
                bencher.iter(|| policy.authorize(black_box(&rights), black_box(&question)));
            });
        }
    }
    group.finish();
}

fn rights(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rights");
    for (rules, clients) in SIZES {
        let (policy, _) = Policy::compile(&[policy(rules, clients)]).unwrap();
        let identity = identity(clients / 2);
        group.bench_function(BenchmarkId::from_parameter(clients), |bencher| {
            bencher.iter(|| policy.rights(black_box(&identity)));
        });
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (rules, clients) in SIZES {
        let source = [policy(rules, clients)];
        group.bench_function(BenchmarkId::from_parameter(rules), |bencher| {
            bencher.iter(|| Policy::compile(black_box(&source)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(policies, decide, rights, compile);
criterion_main!(policies);
