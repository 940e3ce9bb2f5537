//! Places in flight: whether one client can take all of them.

use super::Finding;
use crate::config::Config;
use crate::live::Live;
use crate::policy::Limits;

const IN_FLIGHT: &str = "in flight";
/// The number of client entries that a message names. For the rest it gives their number.
const NAMED: usize = 3;

pub(super) fn check_places(config: &Config, live: &Live) -> Finding {
    let most = config.max_in_flight;
    let kept = config.admission().kept_for_others();
    if kept > 0 {
        let message = format!("one client holds at most {} of {most} requests in flight", most - kept);
        return Finding::fine(IN_FLIGHT, message);
    }
    let unbounded: Vec<ClientCapacity> = live
        .policy
        .limits()
        .map(|(name, limits)| ClientCapacity::of(name, limits, config))
        .filter(|capacity| capacity.requests() >= most)
        .collect();
    match unbounded.as_slice() {
        [] => Finding::fine(IN_FLIGHT, format!("no client can have all {most} requests in flight")),
        [first, ..] => Finding::wrong(IN_FLIGHT, first.message(&unbounded, most), help(config, first)),
    }
}

/// The bounds of what one client of an entry may open at once.
struct ClientCapacity<'p> {
    name: &'p str,
    streams: usize,
    connections: usize,
    in_flight: usize,
}

impl<'p> ClientCapacity<'p> {
    fn of(name: &'p str, limits: Limits, config: &Config) -> Self {
        let number = |limit: Option<u32>| limit.and_then(|limit| usize::try_from(limit).ok());
        let per_client = Some(config.limits.max_connections_per_client).filter(|bound| *bound > 0);
        let bounds = [number(limits.connections), per_client, Some(config.limits.max_connections)];
        Self {
            name,
            streams: usize::try_from(config.limits.http.streams).unwrap_or(usize::MAX),
            connections: bounds.into_iter().flatten().min().unwrap_or(usize::MAX),
            in_flight: number(limits.in_flight).unwrap_or(usize::MAX),
        }
    }

    fn requests(&self) -> usize {
        self.streams.saturating_mul(self.connections).min(self.in_flight)
    }

    fn message(&self, all: &[ClientCapacity<'_>], most: usize) -> String {
        let names: Vec<String> =
            all.iter().take(NAMED).map(|capacity| format!("`{}`", capacity.name)).collect();
        let more = match all.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let Self { streams, connections, .. } = self;
        format!(
            "one client of {}{more} can have all {most} requests in flight: {streams} streams on each of {connections} connections",
            names.join(", ")
        )
    }
}

fn help(config: &Config, first: &ClientCapacity<'_>) -> String {
    let most = config.max_in_flight;
    let bound = match most {
        1 => String::new(),
        most => format!("give `{}` `limits: {{ in_flight: {} }}`, or ", first.name, most - 1),
    };
    let keep = match config.reserved_for_others {
        0 => "set `backend.reserved_for_others: 10`".to_owned(),
        percent => format!("let `backend.max_in_flight` be {} or more", 100_usize.div_ceil(percent)),
    };
    format!("{bound}{keep}, so that other clients always find a place")
}
