//! What the promises are tested with: the real binary with a fresh PKI, clients that say exactly what a test wants,
//! and a backend that records every byte.
//!
//! Nothing here sleeps: what is waited for is the event itself, until [`DEADLINE`].

pub mod admin;
pub mod backend;
pub mod certificates;
pub mod frames;
pub mod fronts;
pub mod golden;
pub mod http1;
pub mod http2;
pub mod manifests;
pub mod proxy;
pub mod schema;
pub mod tls;
pub mod tools;

use std::time::{Duration, Instant};

pub use self::backend::Backend;
pub use self::certificates::Pki;
pub use self::http1::Answer;
pub use self::proxy::{Proxy, Setup};
pub use self::tls::Client;
pub use self::tools::{installed, is_missing};

/// How long anything may take before it counts as never: generous, for two busy cores and a debug build.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Asks until the answer is the one that is waited for. Each round is an exchange with another process, which paces it.
#[track_caller]
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl FnMut() -> T,
    right: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let answer = ask();
        if right(&answer) {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: still {answer:?} after {DEADLINE:?}");
        std::thread::yield_now();
    }
}
