//! Support of the promises: the real binary with a fresh PKI, clients that send exactly the given bytes, and a backend that
//! records every byte.
//!
//! No function here sleeps for a fixed time: each waits for the event itself, at most until [`DEADLINE`].

pub mod admin;
pub mod backend;
pub mod backend_listeners;
pub mod blocking;
pub mod certificates;
pub mod damaged_keys;
pub mod frames;
pub mod generated;
pub mod golden;
pub mod http1;
pub mod http2;
pub mod manifests;
pub mod proxy;
pub mod random;
pub mod schema;
pub mod tls;
pub mod tools;

use std::time::{Duration, Instant};

pub use self::backend::Backend;
pub use self::blocking::BlockingBackend;
pub use self::certificates::Pki;
pub use self::http1::Answer;
pub use self::proxy::{Proxy, Setup};
pub use self::tls::Client;
pub use self::tools::{installed, is_missing};

/// Deadline of every step. It is long, because a debug build may run on two busy cores.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Calls `ask` until `is_expected` accepts the value, and returns that value. Each call is an exchange with another process,
/// which limits the rate.
#[track_caller]
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl FnMut() -> T,
    is_expected: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let value = ask();
        if is_expected(&value) {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: still {value:?} after {DEADLINE:?}");
        std::thread::yield_now();
    }
}
