//! Conditions on a request beyond its method and path: the address of the peer, the time, the query and the headers.
//!
//! A condition is doubtful if two backends could read the request in two ways. A doubtful condition is not met for a grant,
//! and met for a deny rule, so that doubt always denies.

mod header;
mod network;
mod query;
mod when;

use std::borrow::Cow;

pub(crate) use header::HeaderCondition;
pub use network::Network;
pub(crate) use query::{QueryCondition, is_same_parameter};
pub(crate) use when::{Hours, Week, When};

/// The result of a condition that is doubtful, because two backends could read the request in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfDoubtful {
    /// For a grant: the condition is not met.
    Unmet,
    /// For a deny rule: the condition is met.
    Met,
}

/// The value of a parameter or header in a request.
enum FieldValue<'r> {
    Absent,
    /// Present once, and every backend reads this value.
    Single(Cow<'r, [u8]>),
    /// Two backends may read different values.
    Doubtful,
}

impl FieldValue<'_> {
    fn meets(self, values: &[Box<str>], if_doubtful: IfDoubtful) -> bool {
        match self {
            Self::Absent => false,
            Self::Single(value) => matches_any(values, &value),
            Self::Doubtful => if_doubtful == IfDoubtful::Met,
        }
    }
}

fn matches_any(values: &[Box<str>], value: &[u8]) -> bool {
    values.iter().any(|allowed| &**allowed == "*" || allowed.as_bytes() == value)
}
