//! Sets of texts as small automata, and the search for the shortest text that is in some sets and in none of others.

use std::collections::{HashSet, VecDeque};

use super::super::pattern::{Pattern, Piece, ValueSyntax};
use super::super::route::{Glob, Segment};

/// A character of a certificate's value, or a byte of a path's segment.
pub(super) type Symbol = u32;

/// The number of states that one search may visit.
const MAX_STATES: usize = 20_000;

/// The characters that stand for all characters that no pattern names, the plainest first.
const UNNAMED_CHARACTERS: &str = "xyznkqjwvu0123456789abcdefghilmoprst_";

/// The search was stopped by its bound, so neither answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BudgetExceeded;

/// The texts that one pattern matches, as a chain of parts.
#[derive(Clone, Debug)]
pub(super) struct Automaton {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Exactly(Symbol),
    /// Any one symbol.
    AnySymbol,
    /// Any one symbol that a wildcard matches.
    WildcardSymbol {
        across: bool,
    },
    /// Any number of symbols. With `across` also the separator of components.
    Wildcard {
        across: bool,
    },
}

/// The rules for the symbols of one kind of text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alphabet {
    separator: Option<Symbol>,
    forbidden: Option<Symbol>,
    escape: Option<Symbol>,
    /// True for segments of paths. Some bytes never occur in them, because such requests are refused before the
    /// decision.
    segments: bool,
}

/// The active states of an automaton: the index of a part, and true if a wildcard at this part has begun.
type States = Vec<(usize, bool)>;

impl Automaton {
    pub(super) fn of_text(text: &str) -> Self {
        Self { parts: text.chars().map(|c| Part::Exactly(c.into())).collect() }
    }

    /// Returns the automaton of every text that contains `text`.
    pub(super) fn containing(text: &str) -> Self {
        let wildcard = Part::Wildcard { across: true };
        let inner = text.chars().map(|c| Part::Exactly(c.into()));
        Self { parts: std::iter::once(wildcard).chain(inner).chain([wildcard]).collect() }
    }

    pub(super) fn of_pattern(pattern: &Pattern) -> Self {
        let mut parts = Vec::new();
        for piece in pattern.pieces() {
            match piece {
                Piece::Literal(text) => parts.extend(text.chars().map(|c| Part::Exactly(c.into()))),
                Piece::Star | Piece::Capture(_) => parts.push(Part::Wildcard { across: false }),
                Piece::DoubleStar => parts.push(Part::Wildcard { across: true }),
            }
        }
        Self { parts }
    }

    /// Returns the automaton in which each wildcard matches at least one symbol. It accepts fewer texts, and clearer
    /// examples.
    pub(super) fn with_nonempty_wildcards(&self) -> Self {
        let parts = self.parts.iter().flat_map(|part| match part {
            Part::Wildcard { across } => [Some(Part::WildcardSymbol { across: *across }), Some(*part)],
            part => [Some(*part), None],
        });
        Self { parts: parts.flatten().collect() }
    }

    pub(super) fn of_segment(segment: &Segment) -> Self {
        match segment {
            Segment::Literal(bytes) => Self::of_bytes(bytes),
            Segment::Glob(glob) => Self::of_glob(glob),
            Segment::Any | Segment::Client(_) => {
                Self { parts: vec![Part::AnySymbol, Part::Wildcard { across: true }] }
            }
        }
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self { parts: bytes.iter().map(|byte| Part::Exactly((*byte).into())).collect() }
    }

    fn of_glob(glob: &Glob) -> Self {
        let mut parts = Vec::new();
        for (index, text) in glob.parts().iter().enumerate() {
            if index > 0 {
                parts.push(Part::Wildcard { across: true });
            }
            parts.extend(text.iter().map(|byte| Part::Exactly((*byte).into())));
        }
        Self { parts }
    }

    fn start() -> States {
        vec![(0, false)]
    }

    /// Returns the states that are reached without a symbol, through wildcards that begin or end here.
    fn epsilon_closure(&self, states: &States) -> States {
        let mut closure = States::new();
        let mut open = states.clone();
        while let Some((at, has_begun)) = open.pop() {
            let is_wildcard = matches!(self.parts.get(at), Some(Part::Wildcard { .. }));
            let state = (at, is_wildcard || has_begun);
            if closure.contains(&state) {
                continue;
            }
            closure.push(state);
            if is_wildcard {
                open.push((at + 1, false));
            }
        }
        closure.sort_unstable();
        closure
    }

    fn step(&self, states: &States, symbol: Symbol, escaped: bool, alphabet: Alphabet) -> States {
        let from = if escaped { states.clone() } else { self.epsilon_closure(states) };
        let mut to = States::new();
        for (at, has_begun) in from {
            match self.parts.get(at) {
                Some(Part::Exactly(own)) if *own == symbol => to.push((at + 1, false)),
                Some(Part::AnySymbol) => to.push((at + 1, false)),
                Some(Part::WildcardSymbol { across })
                    if alphabet.accepts_in_wildcard(symbol, escaped, *across) =>
                {
                    to.push((at + 1, false));
                }
                Some(Part::Wildcard { across })
                    if has_begun && alphabet.accepts_in_wildcard(symbol, escaped, *across) =>
                {
                    to.push((at, true));
                }
                _ => {}
            }
        }
        to.sort_unstable();
        to.dedup();
        to
    }

    fn accepts(&self, states: &States) -> bool {
        self.epsilon_closure(states).contains(&(self.parts.len(), false))
    }

    fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.parts.iter().filter_map(|part| match part {
            Part::Exactly(symbol) => Some(*symbol),
            _ => None,
        })
    }
}

impl Alphabet {
    /// Returns the alphabet of an attribute's values.
    pub(super) fn of_values(style: ValueSyntax) -> Self {
        Self {
            separator: style.separator.map(Symbol::from),
            forbidden: style.forbidden.map(Symbol::from),
            escape: style.escapes.then_some(Symbol::from(b'\\')),
            segments: false,
        }
    }

    pub(super) const fn of_segments() -> Self {
        Self { separator: None, forbidden: None, escape: None, segments: true }
    }

    fn accepts_in_wildcard(self, symbol: Symbol, escaped: bool, across: bool) -> bool {
        escaped || (Some(symbol) != self.forbidden && (across || Some(symbol) != self.separator))
    }

    /// Returns one symbol of each class that the automata distinguish, the plainest first.
    fn symbols<'m>(self, automata: impl Iterator<Item = &'m Automaton>) -> Vec<Symbol> {
        let named: HashSet<Symbol> = automata.flat_map(Automaton::symbols).collect();
        let unnamed = UNNAMED_CHARACTERS.chars().map(Symbol::from).find(|symbol| !named.contains(symbol));
        // If the patterns name all plain characters, the stand-in is a character beyond them.
        let unnamed = unnamed.or_else(|| (0x21..0x2_000).find(|symbol| !named.contains(symbol)));
        let special = [self.separator, self.forbidden, self.escape];
        let mut rest: Vec<Symbol> = named.into_iter().chain(special.into_iter().flatten()).collect();
        rest.sort_unstable();
        rest.dedup();
        let mut all: Vec<Symbol> = unnamed.into_iter().chain(rest).collect();
        if self.segments {
            let is_refused = |symbol: &Symbol| {
                *symbol < 0x20 || *symbol == 0x7f || [b'/', b'\\', b';'].map(Symbol::from).contains(symbol)
            };
            all.retain(|symbol| !is_refused(symbol));
        }
        all
    }
}

/// A set of texts: those that any of the automata accepts.
pub(super) type Language = Vec<Automaton>;

/// Returns the shortest text that is in all of `inside` and in none of `outside`. The empty text is returned only if
/// `empty` allows it and there is no other.
pub(super) fn shortest_text(
    inside: &[Language],
    outside: &[Automaton],
    alphabet: Alphabet,
    empty: bool,
) -> Result<Option<Vec<Symbol>>, BudgetExceeded> {
    let search = ShortestSearch { inside, outside, alphabet };
    match search.run()? {
        Some(found) => Ok(Some(found)),
        None => Ok((empty && search.is_accepted(&search.start())).then(Vec::new)),
    }
}

struct ShortestSearch<'s> {
    inside: &'s [Language],
    outside: &'s [Automaton],
    alphabet: Alphabet,
}

/// The states of all automata at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct JointState {
    escaped: bool,
    inside: Vec<Vec<States>>,
    outside: Vec<States>,
}

impl ShortestSearch<'_> {
    fn run(&self) -> Result<Option<Vec<Symbol>>, BudgetExceeded> {
        let symbols = self.alphabet.symbols(self.inside.iter().flatten().chain(self.outside));
        let start = self.start();
        let mut seen = HashSet::new();
        let mut open = VecDeque::from([(start, Vec::new())]);
        while let Some((state, text)) = open.pop_front() {
            for symbol in &symbols {
                let Some(next) = self.step(&state, *symbol) else { continue };
                let mut longer = text.clone();
                longer.push(*symbol);
                if self.is_accepted(&next) {
                    return Ok(Some(longer));
                }
                if seen.len() >= MAX_STATES {
                    return Err(BudgetExceeded);
                }
                if seen.insert(next.clone()) {
                    open.push_back((next, longer));
                }
            }
        }
        Ok(None)
    }

    fn start(&self) -> JointState {
        JointState {
            escaped: false,
            inside: self.inside.iter().map(|language| vec![Automaton::start(); language.len()]).collect(),
            outside: vec![Automaton::start(); self.outside.len()],
        }
    }

    /// Returns the next state; `None` if no text with this beginning can be in all of `inside`.
    fn step(&self, state: &JointState, symbol: Symbol) -> Option<JointState> {
        let escaped = state.escaped;
        let step =
            |automaton: &Automaton, states: &States| automaton.step(states, symbol, escaped, self.alphabet);
        let mut inside = Vec::with_capacity(self.inside.len());
        for (language, states) in self.inside.iter().zip(&state.inside) {
            let next: Vec<States> =
                language.iter().zip(states).map(|(automaton, states)| step(automaton, states)).collect();
            if next.iter().all(Vec::is_empty) {
                return None;
            }
            inside.push(next);
        }
        let outside = self
            .outside
            .iter()
            .zip(&state.outside)
            .map(|(automaton, states)| step(automaton, states))
            .collect();
        Some(JointState { escaped: !escaped && Some(symbol) == self.alphabet.escape, inside, outside })
    }

    fn is_accepted(&self, state: &JointState) -> bool {
        let accepted = |language: &Language, states: &Vec<States>| {
            language.iter().zip(states).any(|(automaton, states)| automaton.accepts(states))
        };
        self.inside.iter().zip(&state.inside).all(|(language, states)| accepted(language, states))
            && !self.outside.iter().zip(&state.outside).any(|(automaton, states)| automaton.accepts(states))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Attribute;

    fn find(attribute: Attribute, inside: &[&str], outside: &[&str]) -> Option<String> {
        let automaton = |text: &&str| Automaton::of_pattern(&Pattern::parse(attribute, text).unwrap());
        let inside: Vec<Language> = inside.iter().map(|text| vec![automaton(text)]).collect();
        let outside: Vec<Automaton> = outside.iter().map(automaton).collect();
        let alphabet = Alphabet::of_values(ValueSyntax::of(attribute));
        let found = shortest_text(&inside, &outside, alphabet, true).unwrap()?;
        Some(found.into_iter().map(|symbol| char::from_u32(symbol).unwrap()).collect())
    }

    #[test]
    fn the_shortest_text_of_a_difference_is_found_or_none_exists() {
        use Attribute::{CommonName, Dns, Subject, Uri};
        assert_eq!(find(CommonName, &["a*"], &["ab*"]).as_deref(), Some("a"));
        assert_eq!(find(CommonName, &["ab*"], &["a*"]), None);
        assert_eq!(find(CommonName, &["a*", "*b"], &["ab"]).as_deref(), Some("axb"));
        assert_eq!(find(Uri, &["x/**"], &["x/*"]).as_deref(), Some("x//"));
        assert_eq!(find(Uri, &["x/*"], &["x/**"]), None);
        assert_eq!(find(Dns, &["*.x"], &["{t}.x"]), None);
        assert_eq!(find(Dns, &["**"], &["*", "**.**"]), None, "no wildcard accepts_in_wildcard a `*`");
        assert_eq!(find(Subject, &["CN=**"], &["CN=*"]).as_deref(), Some("CN=,"));
        assert_eq!(find(CommonName, &["*"], &["**"]), None);
        assert_eq!(find(CommonName, &["*"], &["x*", "y*", "z*"]).as_deref(), Some("n"));
    }
}
