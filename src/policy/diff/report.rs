//! The result of a comparison, as the command line shows it.

use super::super::document::LocatedText;
use super::super::route::Route;
use super::super::{Limits, RouteTimeouts};
use super::request::ExampleRequest;

/// The differences between two policies in what they allow.
#[derive(Debug, Default)]
pub(crate) struct PolicyDifference<'m> {
    pub(crate) allowed: Vec<RouteChange<'m>>,
    pub(crate) denied: Vec<RouteChange<'m>>,
    /// Routes for which no difference was found and none was excluded.
    pub(crate) undecided: Vec<UndecidedRoute<'m>>,
    /// Client entries with other limits than before. Limits do not change what is allowed.
    pub(crate) limits: Vec<LimitsChange<'m>>,
    /// Routes with other time limits than before. Time limits do not change what is allowed.
    pub(crate) timeouts: Vec<TimeoutsChange<'m>>,
}

impl PolicyDifference<'_> {
    /// Returns true if both policies are proven to allow the same requests.
    pub(crate) const fn is_none(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty() && self.undecided.is_empty()
    }
}

/// A route of a client entry by which only one of the two policies allows a request.
#[derive(Debug)]
pub(crate) struct RouteChange<'m> {
    pub(crate) entry: &'m LocatedText,
    /// The alternatives of the entry's `match`, in words.
    pub(crate) match_words: Vec<String>,
    pub(crate) permission: &'m LocatedText,
    pub(crate) route: &'m Route,
    /// The methods of the route that the change concerns.
    pub(crate) methods: String,
    /// True if the change concerns only the switch to WebSocket.
    pub(crate) websocket_only: bool,
    /// The further conditions of the entry and the route, in words.
    pub(crate) conditions: Vec<String>,
    /// The deny rule of the other policy that forbids the example.
    pub(crate) denied_by: Option<ForbiddingRule<'m>>,
    pub(crate) example: ExampleRequest,
}

/// A deny rule that forbids an example.
#[derive(Debug)]
pub(crate) struct ForbiddingRule<'m> {
    pub(crate) entry: &'m LocatedText,
    /// The conditions of the rule's `when`, in words.
    pub(crate) conditions: Vec<String>,
}

/// A route for which the budget of the search was not enough.
#[derive(Debug)]
pub(crate) struct UndecidedRoute<'m> {
    pub(crate) entry: &'m LocatedText,
    pub(crate) permission: &'m LocatedText,
    pub(crate) route: &'m Route,
    /// True if the route may be newly allowed, false if it may be newly denied.
    pub(crate) allowed: bool,
}

/// A client entry with other limits than before.
#[derive(Debug)]
pub(crate) struct LimitsChange<'m> {
    pub(crate) entry: &'m LocatedText,
    pub(crate) old: Limits,
    pub(crate) new: Limits,
}

/// A route with other time limits than before.
#[derive(Debug)]
pub(crate) struct TimeoutsChange<'m> {
    pub(crate) permission: &'m LocatedText,
    pub(crate) route: &'m Route,
    pub(crate) old: RouteTimeouts,
    pub(crate) new: RouteTimeouts,
}
