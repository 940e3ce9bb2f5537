//! The cost of a decision with known rights, of the rights of a new identity, and of compiling a policy, for policies of 3 to
//! 100,000 rules and up to 10,000 client entries.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot start reports it by panicking")]

mod workload;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use jiff::Timestamp;
use sidegate::policy::{Host, Policy, Question};
use sidegate::target::Target;

use workload::{WORKLOADS, Workload};

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for workload @ Workload { rules, clients } in WORKLOADS {
        let (policy, _) = Policy::compile(&[workload.policy()]).unwrap();
        let client = clients / 2;
        let rights = policy.rights(&workload::identity(client));
        let headers = HeaderMap::new();
        for (kind, rule) in [("allow", client), ("deny", (client + 1) % rules)] {
            let target: Target = format!("GET {}/42", workload::resource(rule)).parse().unwrap();
            let question = Question {
                target: &target,
                host: Host::Named("shop.example"),
                headers: Some(&headers),
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
    for workload @ Workload { clients, .. } in WORKLOADS {
        let (policy, _) = Policy::compile(&[workload.policy()]).unwrap();
        let identity = workload::identity(clients / 2);
        group.bench_function(BenchmarkId::from_parameter(clients), |bencher| {
            bencher.iter(|| policy.rights(black_box(&identity)));
        });
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for workload in WORKLOADS {
        let source = [workload.policy()];
        group.bench_function(BenchmarkId::from_parameter(workload.rules), |bencher| {
            bencher.iter(|| Policy::compile(black_box(&source)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(policies, decide, rights, compile);
criterion_main!(policies);
