//! The path of an example request: its number of segments, and the patterns that each segment must and must not match.

use super::super::route::Segment;
use super::language::{Alphabet, Automaton, BudgetExceeded, Language, shortest_text};

/// The constraints on a path.
#[derive(Clone, Debug, Default)]
pub(super) struct PathConstraints<'m> {
    /// The number of segments, true if more may follow, and the outcome that is wanted.
    pub(super) lengths: Vec<(usize, bool, bool)>,
    pub(super) segments: Vec<(usize, &'m Segment, bool)>,
}

/// The number of texts that are tried for a segment.
const FEW_TEXTS: usize = 3;

/// The index of a segment, a text, and true if the segment must equal the text, false if it must not.
pub(super) type FixedSegment = (usize, Vec<u8>, bool);

impl PathConstraints<'_> {
    /// Returns a path that meets all constraints; `None` if there is none.
    pub(super) fn path(&self, fixed: &[FixedSegment]) -> Result<Option<Vec<Vec<u8>>>, BudgetExceeded> {
        let longest = self.lengths.iter().map(|(segments, ..)| *segments).max().unwrap_or_default();
        for length in (0..=longest + 1).filter(|length| self.can_have(*length)) {
            let mut path = Vec::with_capacity(length);
            for at in 0..length {
                match self.segment(at, length, fixed)? {
                    Some(segment) => path.push(segment),
                    None => break,
                }
            }
            let fits = |(at, _, wanted): &FixedSegment| !wanted || *at < length;
            if path.len() == length && fixed.iter().all(fits) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn can_have(&self, length: usize) -> bool {
        let long_enough = self.segments.iter().all(|(at, _, wanted)| !wanted || *at < length);
        long_enough
            && self.lengths.iter().all(|(segments, rest, wanted)| {
                (length == *segments || (*rest && length > *segments)) == *wanted
            })
    }

    fn segment(
        &self,
        at: usize,
        length: usize,
        fixed: &[FixedSegment],
    ) -> Result<Option<Vec<u8>>, BudgetExceeded> {
        let (inside, outside) = self.languages(at, fixed);
        // Only the last segment of several may be empty.
        let empty = at > 0 && at + 1 == length;
        let found = shortest_text(&inside, &outside, Alphabet::of_segments(), empty)?;
        let bytes =
            |symbols: Vec<u32>| symbols.into_iter().filter_map(|symbol| u8::try_from(symbol).ok()).collect();
        Ok(found.map(bytes))
    }

    /// Returns the sets that the segment must be in, and the sets that it must not be in.
    pub(super) fn languages(&self, at: usize, fixed: &[FixedSegment]) -> (Vec<Language>, Vec<Automaton>) {
        let here = self.segments.iter().filter(|(index, ..)| *index == at);
        let (wanted, excluded): (Vec<_>, Vec<_>) = here.partition(|(.., wanted)| *wanted);
        let mut inside: Vec<Language> =
            wanted.iter().map(|(_, pattern, _)| vec![Automaton::of_segment(pattern)]).collect();
        // The proxy refuses `.` and `..` before a policy decides.
        let mut outside: Vec<Automaton> = [".", ".."].map(Automaton::of_text).into();
        outside.extend(excluded.iter().map(|(_, pattern, _)| Automaton::of_segment(pattern)));
        for (_, text, wanted) in fixed.iter().filter(|(index, ..)| *index == at) {
            match wanted {
                true => inside.push(vec![Automaton::of_bytes(text)]),
                false => outside.push(Automaton::of_bytes(text)),
            }
        }
        (inside, outside)
    }

    /// Returns a few texts that the segment can have.
    pub(super) fn texts(&self, at: usize) -> Result<Vec<String>, BudgetExceeded> {
        let mut fixed = Vec::new();
        let mut texts = Vec::new();
        while texts.len() < FEW_TEXTS {
            let Some(text) = self.segment(at, at + 2, &fixed)? else { break };
            fixed.push((at, text.clone(), false));
            texts.push(String::from_utf8(text).map_err(|_| BudgetExceeded)?);
        }
        Ok(texts)
    }

    /// Returns all texts that the segment can have; `None` if there are more than a few.
    pub(super) fn all_texts(&self, at: usize) -> Result<Option<Vec<String>>, BudgetExceeded> {
        Ok(Some(self.texts(at)?).filter(|texts| texts.len() < FEW_TEXTS))
    }
}
