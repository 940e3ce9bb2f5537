//! Paths: a number of segments, and of each segment the patterns that it must fit and must not.

use super::super::route::Segment;
use super::language::{Alphabet, Language, Machine, TooMuch, shortest};

/// What is asked of a path.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths<'m> {
    /// Number of segments, whether more may follow, and whether it must be so or must not.
    pub(super) lengths: Vec<(usize, bool, bool)>,
    pub(super) segments: Vec<(usize, &'m Segment, bool)>,
}

/// How many texts of a segment are tried.
const SOME: usize = 3;

/// A text that a segment must be, or must not be.
pub(super) type Fixed = (usize, Vec<u8>, bool);

impl Paths<'_> {
    /// A path of which all of it holds.
    pub(super) fn path(&self, fixed: &[Fixed]) -> Result<Option<Vec<Vec<u8>>>, TooMuch> {
        let longest = self.lengths.iter().map(|(segments, ..)| *segments).max().unwrap_or_default();
        for length in (0..=longest + 1).filter(|length| self.may_have(*length)) {
            let mut path = Vec::with_capacity(length);
            for at in 0..length {
                match self.segment(at, length, fixed)? {
                    Some(segment) => path.push(segment),
                    None => break,
                }
            }
            let fits = |(at, _, is): &Fixed| !is || *at < length;
            if path.len() == length && fixed.iter().all(fits) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn may_have(&self, length: usize) -> bool {
        let long_enough = self.segments.iter().all(|(at, _, is)| !is || *at < length);
        long_enough
            && self
                .lengths
                .iter()
                .all(|(segments, rest, is)| (length == *segments || (*rest && length > *segments)) == *is)
    }

    fn segment(&self, at: usize, length: usize, fixed: &[Fixed]) -> Result<Option<Vec<u8>>, TooMuch> {
        let (inside, outside) = self.languages(at, fixed);
        // Only a last segment may be empty, and not as the only one.
        let empty = at > 0 && at + 1 == length;
        let found = shortest(&inside, &outside, Alphabet::of_segments(), empty)?;
        let bytes =
            |symbols: Vec<u32>| symbols.into_iter().filter_map(|symbol| u8::try_from(symbol).ok()).collect();
        Ok(found.map(bytes))
    }

    /// What a segment must be in, all of it, and what it must not be in.
    pub(super) fn languages(&self, at: usize, fixed: &[Fixed]) -> (Vec<Language>, Vec<Machine>) {
        let here = self.segments.iter().filter(|(index, ..)| *index == at);
        let (yes, no): (Vec<_>, Vec<_>) = here.partition(|(.., is)| *is);
        let mut inside: Vec<Language> =
            yes.iter().map(|(_, pattern, _)| vec![Machine::of_segment(pattern)]).collect();
        // Dot segments never come this far.
        let mut outside: Vec<Machine> = [".", ".."].map(Machine::of_text).into();
        outside.extend(no.iter().map(|(_, pattern, _)| Machine::of_segment(pattern)));
        for (_, text, is) in fixed.iter().filter(|(index, ..)| *index == at) {
            match is {
                true => inside.push(vec![Machine::of_bytes(text)]),
                false => outside.push(Machine::of_bytes(text)),
            }
        }
        (inside, outside)
    }

    /// A few texts that a segment might be.
    pub(super) fn texts(&self, at: usize) -> Result<Vec<String>, TooMuch> {
        let mut fixed = Vec::new();
        let mut texts = Vec::new();
        while texts.len() < SOME {
            let Some(text) = self.segment(at, at + 2, &fixed)? else { break };
            fixed.push((at, text.clone(), false));
            texts.push(String::from_utf8(text).map_err(|_| TooMuch)?);
        }
        Ok(texts)
    }

    /// All texts that a segment might be, if they are few.
    pub(super) fn all_texts(&self, at: usize) -> Result<Option<Vec<String>>, TooMuch> {
        Ok(Some(self.texts(at)?).filter(|texts| texts.len() < SOME))
    }
}
