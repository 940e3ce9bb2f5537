//! Figures, each beside what it must be.

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

    /// A figure that is only told.
    pub fn tells(&self, what: &str, figure: impl Display) {
        println!("  {:<6} {what}: {figure}", "");
    }

    /// A figure with what it must be.
    pub fn holds(&mut self, what: &str, figure: impl Display, must: &str, is_so: bool) {
        let mark = if is_so { "ok" } else { "FAILED" };
        println!("  {mark:<6} {what}: {figure} (must be: {must})");
        *(if is_so { &mut self.passed } else { &mut self.failed }) += 1;
    }

    /// That something never happened.
    pub fn none(&mut self, what: &str, count: usize) {
        self.holds(what, count, "0", count == 0);
    }

    pub fn at_most(&mut self, what: &str, figure: Duration, most: Duration) {
        self.holds(what, format!("{figure:.1?}"), &format!("at most {most:?}"), figure <= most);
    }

    pub fn end(self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The time that all but one in a hundred took at most.
pub fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
}
