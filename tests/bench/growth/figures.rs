//! The measurements. Each returns a list of points, every one with what was varied and what came of it.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use sidegate::demo::pki::Leaf;

use crate::REPETITIONS;
use crate::stage::{self, Stage, get, post, spread};
use crate::support::proxy::program;
use crate::support::{Client, Setup};
use crate::workload::{self, Workload};

/// How many requests a figure is made of, where they are small.
const REQUESTS: usize = 20_000;
/// How many connections ask, where that is not what is varied.
const CONNECTIONS: usize = 64;

fn told(point: Value) -> Value {
    println!("  {point}");
    point
}

/// Measures each of so many in turns, so that what else the machine does meets all of them.
fn in_turns(count: usize, mut measure: impl FnMut(usize) -> f64) -> Vec<Value> {
    let mut rows = vec![Vec::new(); count];
    for _ in 0..REPETITIONS {
        for (number, row) in rows.iter_mut().enumerate() {
            row.push(measure(number));
        }
    }
    rows.into_iter().map(spread).collect()
}

/// From exec until it says that it is ready, for the smallest and the largest policy, and the size of the program.
pub fn start() -> Value {
    let program = fs::metadata(program()).unwrap().len();
    println!("  the program has {program} bytes");
    let points =
        [Workload { rules: 3, clients: 3 }, Workload { rules: 100_000, clients: 10_000 }].map(|workload| {
            let times = (0..2 * REPETITIONS + 1).map(|_| {
                let setup = with_policy(workload);
                let begun = Instant::now();
                let _proxy = setup.start();
                begun.elapsed().as_secs_f64() * 1e3
            });
            let milliseconds = spread(times.collect());
            told(
                json!({ "rules": workload.rules, "clients": workload.clients, "milliseconds": milliseconds }),
            )
        });
    json!({ "program_bytes": program, "points": points })
}

fn with_policy(workload: Workload) -> Setup {
    stage::setup(1).policy(workload.policy().text())
}

/// The same requests with a record of each and with none.
pub fn audit() -> Value {
    let asked = [("200, 1 KiB", get("/any/1024", ""), 200), ("403", get("/denied", ""), 403)];
    let mut stages: Vec<_> =
        [false, false, true, true].map(|records| Stage::of(stage::recording(records))).into();
    for (stage, (_, request, status)) in stages.iter_mut().zip(asked.iter().cycle()) {
        let proxy = stage.proxy();
        let client = if *status == 200 { proxy.producer() } else { proxy.consumer() };
        stage.open(&client, CONNECTIONS, request);
    }
    let figures = in_turns(stages.len(), |number| {
        let (_, request, status) = &asked[number % asked.len()];
        stages[number].cost(REQUESTS, request, *status)
    });
    let points = asked.iter().enumerate().map(|(number, (answer, ..))| {
        told(json!({ "answer": answer, "cpu_us_without": figures[number], "cpu_us_with": figures[number + 2] }))
    });
    points.collect()
}

/// Fields of a request beside `Host`.
pub fn headers() -> Value {
    let mut stage = ready(1, CONNECTIONS);
    let counts = [0, 5, 10, 20, 40, 80];
    let requests = counts.map(|count| {
        get(
            "/any/1024",
            &(0..count).map(|n| format!("X-Field-{n}: value of field {n}\r\n")).collect::<String>(),
        )
    });
    let figures = in_turns(counts.len(), |number| stage.cost(REQUESTS, &requests[number], 200));
    let points =
        counts.iter().zip(figures).map(|(count, cost)| told(json!({ "fields": count, "cpu_us": cost })));
    points.collect()
}

/// A proxy with one client's connections.
fn ready(workers: usize, connections: usize) -> Stage {
    let mut stage = Stage::of(stage::setup(workers));
    let producer = stage.proxy().producer();
    stage.open(&producer, connections, &get("/any/1024", ""));
    stage
}

/// Rules of the policy that is asked.
pub fn rules() -> Value {
    let workloads = [(3, 3), (100, 10), (1_000, 100), (10_000, 1_000), (100_000, 10_000)]
        .map(|(rules, clients)| Workload { rules, clients });
    let request = |client| get(&format!("{}/1024", workload::resource(client)), "");
    let mut stages = workloads.map(|workload| {
        let client = workload.clients / 2;
        let mut stage = Stage::of(with_policy(workload));
        let leaf = Leaf::client("Shop", "client").uri(&workload::spiffe_id(client)).unwrap();
        let credential = stage.proxy().pki().issue(&leaf);
        let presenting: Client = stage.proxy().client(&credential);
        stage.open(&presenting, CONNECTIONS, &request(client));
        (stage, request(client))
    });
    let figures = in_turns(stages.len(), |number| {
        let (stage, request) = &mut stages[number];
        stage.cost(REQUESTS, request, 200)
    });
    let points = workloads.iter().zip(figures).map(|(Workload { rules, clients }, cost)| {
        told(json!({ "rules": rules, "clients": clients, "cpu_us": cost }))
    });
    points.collect()
}

/// Bodies of answers and of requests.
pub fn bodies() -> Value {
    let mut stage = ready(1, 8);
    let sizes = [0, 1 << 10, 16 << 10, 256 << 10, 1 << 20, 10 << 20, 100 << 20];
    let points = sizes.map(|size| {
        // Some 200 MiB, in few requests or many.
        let requests = ((200 << 20) / size.max(1)).clamp(8, 5_000);
        let (down, up) = (get(&format!("/any/{size}"), ""), post("/any/0", size));
        let figures = in_turns(2, |number| stage.cost(requests, [&down, &up][number], 200));
        told(json!({ "bytes": size, "cpu_us_down": figures[0], "cpu_us_up": figures[1] }))
    });
    json!(points)
}

/// Connections that take turns in asking, at most 64 at a time.
pub fn connections() -> Value {
    let counts = [1, 10, 100, 1_000, 5_000];
    let asked = get("/any/1024", "");
    let mut points = Vec::new();
    for workers in [1, 2] {
        let mut stage = ready(workers, 1);
        for count in counts {
            let producer = stage.proxy().producer();
            stage.open(&producer, count, &asked);
            // Fewer that ask at once take longer, and each connection is to be asked several times.
            let requests = if count < 10 { REQUESTS / 4 } else { REQUESTS };
            let row = (0..REPETITIONS).map(|_| stage.cost(requests, &asked, 200)).collect();
            points.push(told(json!({ "workers": workers, "connections": count, "cpu_us": spread(row) })));
        }
    }
    json!(points)
}

/// Connections at rest, up to 50,000 or as many as this machine lets a process have.
pub fn memory() -> Value {
    let most = stage::most_connections();
    let counts = [0, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000];
    let mut counts: Vec<_> = counts.into_iter().filter(|count| *count <= most).collect();
    if counts.last().is_some_and(|last| *last < 50_000 && most - last > 2_000) {
        counts.push(most);
    }
    let mut stage = Stage::of(stage::setup(1));
    let producer = stage.proxy().producer();
    let points = counts.into_iter().map(|count| {
        stage.open(&producer, count, &get("/any/1024", ""));
        told(json!({ "connections": count, "resident_bytes": stage.memory_at_rest() }))
    });
    let points: Value = points.collect();
    json!({ "most_connections": most, "points": points })
}
