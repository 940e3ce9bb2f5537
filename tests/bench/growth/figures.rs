//! The measurements. Each returns a list of points with the varied quantity and the measured figures.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use sidegate::demo::pki::Leaf;

use crate::REPETITIONS;
use crate::measured_proxy::{self, AuditRecords, MeasuredProxy, get, post, spread};
use crate::support::proxy::program;
use crate::support::{Client, Setup};
use crate::workload::{self, Workload};

/// Number of requests for a figure, if the requests are small.
const REQUESTS: usize = 20_000;
/// Number of connections, if it is not the varied quantity.
const CONNECTIONS: usize = 64;

fn print_point(point: Value) -> Value {
    println!("  {point}");
    point
}

/// Repeats `count` measurements in turns, so that other work of the machine affects all of them alike.
fn measure_in_turns(count: usize, mut measure: impl FnMut(usize) -> f64) -> Vec<Value> {
    let mut rows = vec![Vec::new(); count];
    for _ in 0..REPETITIONS {
        for (number, row) in rows.iter_mut().enumerate() {
            row.push(measure(number));
        }
    }
    rows.into_iter().map(spread).collect()
}

/// The time from exec until the program is ready, for the smallest and the largest policy; and the size of the program.
pub fn start() -> Value {
    let program = fs::metadata(program()).unwrap().len();
    println!("  the program has {program} bytes");
    let points =
        [Workload { rules: 3, clients: 3 }, Workload { rules: 100_000, clients: 10_000 }].map(|workload| {
            let times = (0..2 * REPETITIONS + 1).map(|_| {
                let setup = with_policy(workload);
                let before = Instant::now();
                let _proxy = setup.start();
                before.elapsed().as_secs_f64() * 1e3
            });
            let milliseconds = spread(times.collect());
            print_point(
                json!({ "rules": workload.rules, "clients": workload.clients, "milliseconds": milliseconds }),
            )
        });
    json!({ "program_bytes": program, "points": points })
}

fn with_policy(workload: Workload) -> Setup {
    measured_proxy::setup(1).policy(workload.policy().text())
}

/// The same requests without and with audit records in a file.
pub fn audit() -> Value {
    let cases = [("200, 1 KiB", get("/any/1024", ""), 200), ("403", get("/denied", ""), 403)];
    let mut proxies: Vec<_> =
        [AuditRecords::None, AuditRecords::None, AuditRecords::File, AuditRecords::File]
            .map(|records| MeasuredProxy::start(measured_proxy::setup_with_audit(records)))
            .into();
    for (measured, (_, request, status)) in proxies.iter_mut().zip(cases.iter().cycle()) {
        let proxy = measured.proxy();
        let client = if *status == 200 { proxy.producer() } else { proxy.consumer() };
        measured.open(&client, CONNECTIONS, request);
    }
    let figures = measure_in_turns(proxies.len(), |number| {
        let (_, request, status) = &cases[number % cases.len()];
        proxies[number].cpu_of_request(REQUESTS, request, *status)
    });
    let points = cases.iter().enumerate().map(|(number, (answer, ..))| {
        print_point(json!({ "answer": answer, "cpu_us_without": figures[number], "cpu_us_with": figures[number + 2] }))
    });
    points.collect()
}

/// The number of fields of a request beside `Host`.
pub fn headers() -> Value {
    let mut measured = with_connections(1, CONNECTIONS);
    let counts = [0, 5, 10, 20, 40, 80];
    let requests = counts.map(|count| {
        get(
            "/any/1024",
            &(0..count).map(|n| format!("X-Field-{n}: value of field {n}\r\n")).collect::<String>(),
        )
    });
    let figures =
        measure_in_turns(counts.len(), |number| measured.cpu_of_request(REQUESTS, &requests[number], 200));
    let points = counts
        .iter()
        .zip(figures)
        .map(|(count, cost)| print_point(json!({ "fields": count, "cpu_us": cost })));
    points.collect()
}

/// Starts a proxy with open connections of one client.
fn with_connections(workers: usize, connections: usize) -> MeasuredProxy {
    let mut measured = MeasuredProxy::start(measured_proxy::setup(workers));
    let producer = measured.proxy().producer();
    measured.open(&producer, connections, &get("/any/1024", ""));
    measured
}

/// The number of rules of the policy.
pub fn rules() -> Value {
    let workloads = [(3, 3), (100, 10), (1_000, 100), (10_000, 1_000), (100_000, 10_000)]
        .map(|(rules, clients)| Workload { rules, clients });
    let request = |client| get(&format!("{}/1024", workload::resource(client)), "");
    let mut proxies = workloads.map(|workload| {
        let client = workload.clients / 2;
        let mut measured = MeasuredProxy::start(with_policy(workload));
        let leaf = Leaf::client("Shop", "client").uri(&workload::spiffe_id(client)).unwrap();
        let credential = measured.proxy().pki().issue(&leaf);
        let presenting: Client = measured.proxy().client(&credential);
        measured.open(&presenting, CONNECTIONS, &request(client));
        (measured, request(client))
    });
    let figures = measure_in_turns(proxies.len(), |number| {
        let (measured, request) = &mut proxies[number];
        measured.cpu_of_request(REQUESTS, request, 200)
    });
    let points = workloads.iter().zip(figures).map(|(Workload { rules, clients }, cost)| {
        print_point(json!({ "rules": rules, "clients": clients, "cpu_us": cost }))
    });
    points.collect()
}

/// The size of the bodies of answers and of requests.
pub fn bodies() -> Value {
    let mut measured = with_connections(1, 8);
    let sizes = [0, 1 << 10, 16 << 10, 256 << 10, 1 << 20, 10 << 20, 100 << 20];
    let points = sizes.map(|size| {
        // All requests of a figure have some 200 MiB together.
        let requests = ((200 << 20) / size.max(1)).clamp(8, 5_000);
        let (down, up) = (get(&format!("/any/{size}"), ""), post("/any/0", size));
        let figures =
            measure_in_turns(2, |number| measured.cpu_of_request(requests, [&down, &up][number], 200));
        print_point(json!({ "bytes": size, "cpu_us_down": figures[0], "cpu_us_up": figures[1] }))
    });
    json!(points)
}

/// The number of connections in use, on which at most 64 requests are in flight.
pub fn connections() -> Value {
    let counts = [1, 10, 100, 1_000, 5_000];
    let request = get("/any/1024", "");
    let mut points = Vec::new();
    for workers in [1, 2] {
        let mut measured = with_connections(workers, 1);
        for count in counts {
            let producer = measured.proxy().producer();
            measured.open(&producer, count, &request);
            // Few connections take longer; many connections need several requests each.
            let requests = if count < 10 { REQUESTS / 4 } else { REQUESTS };
            let row = (0..REPETITIONS).map(|_| measured.cpu_of_request(requests, &request, 200)).collect();
            points.push(print_point(
                json!({ "workers": workers, "connections": count, "cpu_us": spread(row) }),
            ));
        }
    }
    json!(points)
}

/// The number of idle connections, up to 50,000 or the limit of this machine.
pub fn memory() -> Value {
    let most = measured_proxy::most_connections();
    let counts = [0, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000];
    let mut counts: Vec<_> = counts.into_iter().filter(|count| *count <= most).collect();
    if counts.last().is_some_and(|last| *last < 50_000 && most - last > 2_000) {
        counts.push(most);
    }
    let mut measured = MeasuredProxy::start(measured_proxy::setup(1));
    let producer = measured.proxy().producer();
    let points = counts.into_iter().map(|count| {
        measured.open(&producer, count, &get("/any/1024", ""));
        print_point(json!({ "connections": count, "resident_bytes": measured.memory_at_rest() }))
    });
    let points: Value = points.collect();
    json!({ "most_connections": most, "points": points })
}
