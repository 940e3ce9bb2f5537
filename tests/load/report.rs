//! The report of a run: measured figures, each beside the required value.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    pub fn begin(&self, name: &str, about: &str) {
        println!("\n{name}: {about}");
    }

    /// Prints a figure that has no required value.
    pub fn show(&self, what: &str, figure: impl Display) {
        println!("  {:<6} {what}: {figure}", "");
    }

    /// Prints a figure with its required value, and counts it as passed or failed.
    pub fn check(&mut self, what: &str, figure: impl Display, required: &str, passed: bool) {
        let mark = if passed { "ok" } else { "FAILED" };
        println!("  {mark:<6} {what}: {figure} (must be: {required})");
        *(if passed { &mut self.passed } else { &mut self.failed }) += 1;
    }

    /// Checks that an error never happened.
    pub fn check_none(&mut self, what: &str, count: usize) {
        self.check(what, count, "0", count == 0);
    }

    pub fn check_at_most(&mut self, what: &str, figure: Duration, limit: Duration) {
        self.check(what, format!("{figure:.1?}"), &format!("at most {limit:?}"), figure <= limit);
    }

    /// Checks that the memory of the proxy, in bytes, stays within its bound.
    pub fn check_memory(&mut self, what: &str, used: u64, bound: u64) {
        let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
        self.check(what, mebibytes(used), &format!("at most {}", mebibytes(bound)), used <= bound);
    }

    pub fn end(self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The 99th percentile of the times.
pub fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
}
