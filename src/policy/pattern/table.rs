//! The matching of a pattern with wildcards against a value.

use super::{Pattern, Piece, ValueSyntax};

/// The positions of a value at which each piece can start and end. The table is filled in time proportional to the length
/// of the value times the number of pieces, so that no pattern needs exponential time.
pub(super) struct MatchTable {
    /// For each piece, the positions at which the pieces before can end.
    starts: Vec<Vec<bool>>,
    /// For each piece, the positions from which the rest of the pattern matches the rest of the value.
    ends: Vec<Vec<bool>>,
    /// For each position, the bytes that wildcards may take there.
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
struct Step {
    /// True if a character, or an escaped pair of characters, starts here.
    boundary: bool,
    /// True if `*` may take the byte here.
    star: bool,
    /// True if `**` may take the byte here.
    double_star: bool,
}

impl MatchTable {
    pub(super) fn of(pattern: &Pattern, value: &str) -> Self {
        let steps = steps(value.as_bytes(), pattern.style);
        let length = steps.len();
        let mut starts = vec![start_at(length, 0)];
        for piece in &pattern.pieces {
            let last = starts.last().map(Vec::as_slice).unwrap_or_default();
            let next = advance(piece, last, value.as_bytes(), &steps);
            starts.push(next);
        }
        let mut ends = vec![start_at(length, length - 1)];
        for piece in pattern.pieces.iter().rev() {
            let last = ends.last().map(Vec::as_slice).unwrap_or_default();
            let before = retreat(piece, last, value.as_bytes(), &steps);
            ends.push(before);
        }
        ends.reverse();
        Self { starts, ends, steps }
    }

    pub(super) fn is_match(&self) -> bool {
        self.starts.last().and_then(|ends| ends.last()).copied().unwrap_or(false)
    }

    /// Returns the range that a capture takes, if only one range lets the whole value match.
    pub(super) fn only_range(&self, piece: usize) -> Option<(usize, usize)> {
        let (starts, after) = (self.starts.get(piece)?, self.ends.get(piece + 1)?);
        let mut found = None;
        for from in (0..starts.len()).filter(|from| at(starts, *from)) {
            for to in from..after.len() {
                if at(after, to) && self.steps.get(to).is_some_and(|step| step.boundary) {
                    if found.is_some() {
                        return None;
                    }
                    found = Some((from, to));
                }
                if !self.steps.get(to).is_some_and(|step| step.star) {
                    break;
                }
            }
        }
        found
    }
}

fn start_at(length: usize, position: usize) -> Vec<bool> {
    (0..length).map(|index| index == position).collect()
}

fn at(positions: &[bool], position: usize) -> bool {
    positions.get(position).copied().unwrap_or(false)
}

/// Returns one step for each byte, and a last step at which no wildcard takes anything.
fn steps(value: &[u8], style: ValueSyntax) -> Vec<Step> {
    let mut escaped = false;
    let mut steps = Vec::with_capacity(value.len() + 1);
    for byte in value {
        let inside = escaped || (*byte & 0xC0) == 0x80;
        let allowed = escaped || Some(*byte) != style.forbidden;
        let star = allowed && (escaped || Some(*byte) != style.separator);
        steps.push(Step { boundary: !inside, star, double_star: allowed });
        escaped = style.escapes && !escaped && *byte == b'\\';
    }
    steps.push(Step { boundary: true, star: false, double_star: false });
    steps
}

fn advance(piece: &Piece, from: &[bool], value: &[u8], steps: &[Step]) -> Vec<bool> {
    let mut to = vec![false; from.len()];
    if let Piece::Literal(text) = piece {
        for start in (0..from.len()).filter(|start| at(from, *start)) {
            if value.get(start..).is_some_and(|rest| rest.starts_with(text.as_bytes()))
                && let Some(end) = to.get_mut(start + text.len())
            {
                *end = true;
            }
        }
        return to;
    }
    let mut open = false;
    for (position, (slot, step)) in to.iter_mut().zip(steps).enumerate() {
        open |= at(from, position) && step.boundary;
        *slot = open && step.boundary;
        open &= takes(piece, *step);
    }
    to
}

fn retreat(piece: &Piece, from: &[bool], value: &[u8], steps: &[Step]) -> Vec<bool> {
    let mut to = vec![false; from.len()];
    if let Piece::Literal(text) = piece {
        for (start, slot) in to.iter_mut().enumerate() {
            *slot = at(from, start + text.len())
                && value.get(start..).is_some_and(|rest| rest.starts_with(text.as_bytes()));
        }
        return to;
    }
    let mut open = false;
    for (position, (slot, step)) in to.iter_mut().zip(steps).enumerate().rev() {
        open &= takes(piece, *step);
        open |= at(from, position) && step.boundary;
        *slot = open && step.boundary;
    }
    to
}

const fn takes(piece: &Piece, step: Step) -> bool {
    match piece {
        Piece::DoubleStar => step.double_star,
        _ => step.star,
    }
}
