//! Idle connections to the backend, of one worker.

use std::time::Duration;

use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::link::Link;

/// Most idle connections that are kept.
const MOST_IDLE: usize = 1024;
/// Time before the end that a backend has announced for an idle connection, in which no request is sent on it: the request
/// would meet the closing. A short announced time is halved instead.
const MARGIN: Duration = Duration::from_secs(1);

/// The idle connections. The connection used last is taken first, so that unneeded ones grow old and are closed.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    link: Link,
    until: Instant,
}

impl Pool {
    /// Takes a connection that was open after its last use. If it has been closed since, it gives the request back that it
    /// cannot take.
    pub(super) fn take(&self, now: Instant) -> Option<Link> {
        let mut idle = self.idle();
        while let Some(Idle { link, until }) = idle.pop() {
            if until > now {
                return Some(link);
            }
        }
        None
    }

    pub(super) fn give_back(&self, link: Link) {
        let mut idle = self.idle();
        if idle.len() < MOST_IDLE {
            let until = Instant::now() + link.idle_limit();
            idle.push(Idle { link, until });
        }
    }

    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.idle().retain_mut(|idle| idle.until > now && idle.link.is_open());
    }

    pub(super) fn len(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.lock()
    }
}

/// The time for which a connection is kept idle after an answer with this `Keep-Alive` (`timeout=5, max=100`); `None` if it
/// names no time. No time is left if the backend takes no further request.
pub(super) fn announced_limit(keep_alive: &HeaderValue) -> Option<Duration> {
    let mut limit = None;
    for parameter in keep_alive.to_str().ok()?.split(',') {
        let Some((name, number)) = parameter.split_once('=') else { continue };
        let Ok(number) = number.trim().trim_matches('"').parse::<u32>() else { continue };
        if name.trim().eq_ignore_ascii_case("timeout") {
            limit = Some(Duration::from_secs(number.into()));
        } else if number == 0 && name.trim().eq_ignore_ascii_case("max") {
            return Some(Duration::ZERO);
        }
    }
    limit.map(|limit| limit.saturating_sub(MARGIN).max(limit / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_time_is_followed_with_a_margin() {
        for (announced, milliseconds) in [
            ("timeout=5", Some(4000)),
            ("timeout=5, max=100", Some(4000)),
            ("max=100, Timeout = 5", Some(4000)),
            ("timeout=\"5\"", Some(4000)),
            ("timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=60, max=0", Some(0)),
            ("max=100", None),
            ("timeout=5s", None),
            ("timeout=-1", None),
            ("", None),
        ] {
            let limit = announced_limit(&HeaderValue::from_static(announced));
            assert_eq!(limit, milliseconds.map(Duration::from_millis), "{announced}");
        }
    }
}
