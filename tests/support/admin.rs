//! A client of the admin listener.

use std::net::SocketAddr;

use serde_json::Value;

use super::http1::Wire;
use super::{Answer, eventually};

/// The metric of requests that hold a place.
pub const IN_FLIGHT: &str = "sidegate_requests_in_flight";
/// The metric of requests that wait for a place.
pub const QUEUED: &str = "sidegate_requests_queued";
/// The metric of slots in use.
pub const SLOTS_USED: &str = "sidegate_slots_used";

#[derive(Clone, Copy, Debug)]
pub struct Admin {
    pub address: SocketAddr,
}

impl Admin {
    pub fn get(self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        Wire::plain(self.address).and_then(|mut wire| wire.ask(&request)).unwrap()
    }

    /// Sends a POST without a body.
    pub fn post(self, path: &str, headers: &str) -> Answer {
        self.ask("POST", path, headers, "")
    }

    /// Sends a request with a body and more headers; each header ends with CRLF.
    pub fn ask(self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        Wire::plain(self.address).and_then(|mut wire| wire.ask(&request)).unwrap()
    }

    /// Reloads the configuration; panics if the reload fails.
    #[track_caller]
    pub fn reload(self) -> Value {
        let answer = self.post("/reload", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Reloads a wrong configuration; panics if the reload succeeds.
    #[track_caller]
    pub fn refused_reload(self) -> Value {
        let answer = self.post("/reload", "");
        assert_eq!(answer.status, 422, "{answer:?}");
        answer.json()
    }

    pub fn metrics(self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics(answer.text())
    }

    pub fn status(self) -> Value {
        let answer = self.get("/status");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until a metric has a value.
    #[track_caller]
    pub fn wait_for(self, name: &str, value: f64) {
        eventually(name, || self.metrics().value(name), |now| (now - value).abs() < f64::EPSILON);
    }
}

/// The text of one scrape.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// Returns the sum over the series of this name, or of this name with these labels.
    pub fn value(&self, prefix: &str) -> f64 {
        self.series(prefix).map(|(_, value)| value).sum()
    }

    /// Returns the sum over the series of this name that have all these labels.
    pub fn labelled(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        self.series(name)
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, v)| v)
            .sum()
    }

    fn series<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')).filter_map(move |(series, value)| {
            let rest = series.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('{')).then_some((series, value.parse().ok()?))
        })
    }
}
