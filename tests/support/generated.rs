//! Generated cases, from a seed that a failure shows: `SEED=…` runs the same cases again, and `CASES=…` sets their number.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs this many cases of a strategy.
pub fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    run_with(Config { cases, ..Config::default() }, strategy, test);
}

/// Runs this many interleavings of steps. The real program takes each step, so a failure is shrunk only a little.
pub fn interleave<S: Strategy>(cases: u32, steps: &S, test: impl Fn(S::Value)) {
    let config = Config { cases, max_shrink_iters: 40, ..Config::default() };
    run_with(config, steps, |steps| {
        test(steps);
        Ok(())
    });
}

fn run_with<S: Strategy>(
    mut config: Config,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let seed: u64 = number("SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap()
    });
    eprintln!("SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    config.cases = number("CASES").unwrap_or(config.cases);
    config.failure_persistence = None;
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    if let Err(error) = runner.run(strategy, test) {
        panic!("SEED={seed}: {error}");
    }
}

/// Returns the number in an environment variable.
fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}
