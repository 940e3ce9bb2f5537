//! Time limits of routes (`timeouts`), in place of those of the configuration.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// A time limit of a route: milliseconds, or none. It is small, because every permit carries two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeLimit(NonZeroU32);

impl TimeLimit {
    /// No time limit. What has none ends with its client at the latest.
    pub const NONE: Self = Self(NonZeroU32::MAX);

    /// Returns a limit of this time; `None` if the time is zero or 49 days and more.
    #[must_use]
    pub fn of(time: Duration) -> Option<Self> {
        let milliseconds = u32::try_from(time.as_millis()).ok().and_then(NonZeroU32::new);
        milliseconds.map(Self).filter(|limit| *limit != Self::NONE)
    }

    /// Returns the time; `None` for no limit.
    #[must_use]
    pub fn time(self) -> Option<Duration> {
        (self != Self::NONE).then(|| Duration::from_millis(u32::from(self.0).into()))
    }
}

/// Writes the limit as authors write it.
impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u32::from(self.0);
        match milliseconds {
            _ if *self == Self::NONE => f.write_str("none"),
            _ if milliseconds % 3_600_000 == 0 => write!(f, "{}h", milliseconds / 3_600_000),
            _ if milliseconds % 60_000 == 0 => write!(f, "{}m", milliseconds / 60_000),
            _ if milliseconds % 1000 == 0 => write!(f, "{}s", milliseconds / 1000),
            _ => write!(f, "{milliseconds}ms"),
        }
    }
}

/// The time limits of a route; a limit that is not given is that of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// Time until the headers of the response.
    pub response: Option<TimeLimit>,
    /// Time for which nothing may come in the middle of an answer, or of a switched connection.
    pub idle: Option<TimeLimit>,
}

impl RouteTimeouts {
    /// Returns true if no limit is given.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.response.is_none() && self.idle.is_none()
    }

    /// Combines the limits of two routes that grant one request: the longer of each. A limit that only one of them gives
    /// counts, so that a broad grant beside a narrow one takes nothing away. The order of routes does not matter.
    #[must_use]
    pub fn longest(self, other: Self) -> Self {
        Self { response: self.response.max(other.response), idle: self.idle.max(other.idle) }
    }

    /// Returns the given limits, each with its name.
    pub fn named(self) -> impl Iterator<Item = (&'static str, TimeLimit)> {
        let limits = [("response", self.response), ("idle", self.idle)];
        limits.into_iter().filter_map(|(name, limit)| Some((name, limit?)))
    }
}

/// Writes the given limits in words, such as `response 10m, idle none`.
impl fmt::Display for RouteTimeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, limit)) in self.named().enumerate() {
            write!(f, "{}{name} {limit}", if number > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_limit_counts_and_none_is_the_longest() {
        let limit = |seconds| TimeLimit::of(Duration::from_secs(seconds));
        let timeouts = |response, idle| RouteTimeouts { response, idle };
        for (one, other, longest) in [
            (timeouts(limit(5), None), timeouts(limit(600), None), "response 10m"),
            (timeouts(limit(5), None), timeouts(None, limit(7)), "response 5s, idle 7s"),
            (
                timeouts(Some(TimeLimit::NONE), None),
                timeouts(limit(86_400), limit(1)),
                "response none, idle 1s",
            ),
            (timeouts(None, None), timeouts(None, Some(TimeLimit::NONE)), "idle none"),
        ] {
            assert_eq!(one.longest(other).to_string(), longest);
            assert_eq!(other.longest(one).to_string(), longest);
        }
        assert_eq!(TimeLimit::of(Duration::ZERO), None);
        assert_eq!(limit(50 * 86_400), None);
        assert_eq!(TimeLimit::NONE.time(), None);
        assert_eq!(limit(90).map(|limit| limit.to_string()).as_deref(), Some("90s"));
        assert_eq!(
            TimeLimit::of(Duration::from_millis(1500)).map(|limit| limit.to_string()).as_deref(),
            Some("1500ms")
        );
    }
}
