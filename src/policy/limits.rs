//! The limits and the priority of a client entry.

/// The share of the service that a client may use (`limits` and `priority`). Admission enforces these limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second, in the long run.
    pub requests_per_second: Option<u32>,
    /// Requests at once, beyond the long-run rate. `None` means the same number as `requests_per_second`.
    pub burst: Option<u32>,
    /// Connections that hold a slot at the same time.
    pub connections: Option<u32>,
    /// Requests in flight and in the queue at the same time, over all connections.
    pub in_flight: Option<u32>,
    /// Priority when there is not enough capacity for all clients.
    pub priority: Priority,
}

/// The order in which clients are served when there is not enough capacity for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The priority of an entry that gives none.
    #[default]
    Normal,
    /// A part of the capacity is reserved for these clients, and they are served before waiting clients of priority `normal`.
    High,
}

impl Priority {
    /// All priorities, each with the word that authors write.
    pub const ALL: [(&'static str, Self); 2] = [("normal", Self::Normal), ("high", Self::High)];

    /// Returns the word that authors write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl Limits {
    /// Returns the burst, which defaults to the requests per second.
    #[must_use]
    pub fn requests_at_once(self) -> Option<u32> {
        self.burst.or(self.requests_per_second)
    }

    /// Combines the limits of two entries that match one client: the lower value of each limit, and the higher priority. A
    /// burst that is not given counts with its default.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        let lower = |a: Option<u32>, b: Option<u32>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            requests_per_second: lower(self.requests_per_second, other.requests_per_second),
            burst: lower(self.requests_at_once(), other.requests_at_once()),
            connections: lower(self.connections, other.connections),
            in_flight: lower(self.in_flight, other.in_flight),
            priority: self.priority.max(other.priority),
        }
    }
}
