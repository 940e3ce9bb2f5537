//! Comparisons of client entries and of routes: inclusion and overlap. They are quick and not exact: inclusion may be a false
//! no, overlap may be a false yes.

use super::host::HostPattern;
use super::matching::{Alternative, AttributeTest};
use super::route::{Methods, Path, Route, Segment};

/// Returns true if every identity that `narrow` matches is matched by `wide`. In doubt the answer is no.
pub(super) fn is_subset_of(narrow: &[Alternative], wide: &[Alternative]) -> bool {
    narrow.iter().all(|narrow| {
        wide.iter().any(|wide| {
            wide.tests.iter().all(|wide| {
                narrow
                    .tests
                    .iter()
                    .any(|narrow| narrow.attribute == wide.attribute && values_within(narrow, wide))
            })
        })
    })
}

fn values_within(narrow: &AttributeTest, wide: &AttributeTest) -> bool {
    narrow.exact.iter().all(|value| wide.fits(value))
        && narrow.patterns.iter().all(|pattern| wide.patterns.contains(pattern))
        && narrow.networks.iter().all(|network| wide.networks.contains(network))
}

/// Returns true if a permission for `wide` permits all that a permission for `narrow` permits, the switch of protocols and
/// the time limits included. In doubt the answer is no.
pub(super) fn covers(wide: &Route, narrow: &Route) -> bool {
    let gives_as_much =
        narrow.upgrade <= wide.upgrade && narrow.timeouts.longest(wide.timeouts) == wide.timeouts;
    gives_as_much && covers_requests(wide, narrow)
}

/// Returns true if every request of `narrow` is a request of `wide`. In doubt the answer is no.
pub(super) fn covers_requests(wide: &Route, narrow: &Route) -> bool {
    let conditions = wide.query.iter().all(|condition| narrow.query.contains(condition))
        && wide.headers.iter().all(|condition| narrow.headers.contains(condition));
    conditions
        && hosts_within(&narrow.hosts, &wide.hosts)
        && methods_within(&narrow.methods, &wide.methods)
        && path_within(&narrow.path, &wide.path)
}

/// The length up to which lists of hosts are compared item by item. Longer lists are compared as a whole, so that the
/// cost does not grow with the square of their length.
const FEW_HOSTS: usize = 100;

fn hosts_within(narrow: &[HostPattern], wide: &[HostPattern]) -> bool {
    let is_short = narrow.len().max(wide.len()) <= FEW_HOSTS;
    wide.is_empty()
        || narrow == wide
        || (is_short && !narrow.is_empty() && narrow.iter().all(|host| wide.contains(host)))
}

fn methods_within(narrow: &Methods, wide: &Methods) -> bool {
    match (narrow, wide) {
        (_, Methods::Any) => true,
        (Methods::Any, Methods::Listed { .. }) => false,
        (narrow, wide) => narrow.named().iter().all(|method| wide.contains(method)),
    }
}

fn path_within(narrow: &Path, wide: &Path) -> bool {
    let lengths = match (narrow.rest, wide.rest) {
        (true, false) => false,
        (false, false) => narrow.segments.len() == wide.segments.len(),
        (_, true) => narrow.segments.len() >= wide.segments.len(),
    };
    lengths && narrow.segments.iter().zip(&wide.segments).all(|(narrow, wide)| segment_within(narrow, wide))
}

fn segment_within(narrow: &Segment, wide: &Segment) -> bool {
    match (narrow, wide) {
        (narrow, wide) if narrow == wide => true,
        (Segment::Literal(literal), Segment::Any) => !literal.is_empty(),
        (Segment::Client(_), Segment::Any) => true,
        (Segment::Glob(glob), Segment::Any) => glob.parts().iter().any(|part| !part.is_empty()),
        (Segment::Literal(literal), Segment::Glob(glob)) => glob.matches(literal),
        _ => false,
    }
}

/// Returns true if a request can belong to both routes. In doubt the answer is yes.
pub(super) fn overlaps(one: &Route, other: &Route) -> bool {
    let methods = match (&one.methods, &other.methods) {
        (Methods::Any, _) | (_, Methods::Any) => true,
        (one, other) => one.named().iter().any(|method| other.contains(method)),
    };
    let (a, b) = (&one.path, &other.path);
    let lengths = match (a.rest, b.rest) {
        (false, false) => a.segments.len() == b.segments.len(),
        (true, false) => a.segments.len() <= b.segments.len(),
        (false, true) => a.segments.len() >= b.segments.len(),
        (true, true) => true,
    };
    methods && lengths && a.segments.iter().zip(&b.segments).all(|(one, other)| segments_overlap(one, other))
}

fn segments_overlap(one: &Segment, other: &Segment) -> bool {
    match (one, other) {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        (Segment::Literal(literal), Segment::Glob(glob))
        | (Segment::Glob(glob), Segment::Literal(literal)) => glob.matches(literal),
        (Segment::Literal(literal), _) | (_, Segment::Literal(literal)) => !literal.is_empty(),
        _ => true,
    }
}
