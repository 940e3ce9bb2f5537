//! Sets of texts as small automata, and the shortest text that is in some of them and in none of others.

use std::collections::{HashSet, VecDeque};

use super::super::pattern::{Pattern, Piece, Style};
use super::super::route::{Glob, Segment};

/// A character of a certificate's value, or a byte of a path's segment.
pub(super) type Symbol = u32;

/// More states than this are not walked through.
const MOST_STATES: usize = 20_000;

/// Characters for what no pattern names, the plainest first.
const FRESH: &str = "xyznkqjwvu0123456789abcdefghilmoprst_";

/// The search was broken off, so nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// What one pattern matches, as a chain of parts.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Exactly(Symbol),
    /// Any one symbol.
    One,
    /// Any one symbol that a run may take.
    Taken {
        across: bool,
    },
    /// Any run; across components or not.
    Run {
        across: bool,
    },
}

/// What holds for every text of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alphabet {
    separator: Option<Symbol>,
    forbidden: Option<Symbol>,
    escape: Option<Symbol>,
    /// Whether the texts are segments of paths, some bytes of which never come this far.
    segments: bool,
}

/// Places in a chain: the number of a part, and whether a run has begun there.
type Places = Vec<(usize, bool)>;

impl Machine {
    pub(super) fn of_text(text: &str) -> Self {
        Self { parts: text.chars().map(|c| Part::Exactly(c.into())).collect() }
    }

    /// Every text that has this one in it.
    pub(super) fn around(text: &str) -> Self {
        let run = Part::Run { across: true };
        let inner = text.chars().map(|c| Part::Exactly(c.into()));
        Self { parts: std::iter::once(run).chain(inner).chain([run]).collect() }
    }

    pub(super) fn of_pattern(pattern: &Pattern) -> Self {
        let mut parts = Vec::new();
        for piece in pattern.pieces() {
            match piece {
                Piece::Literal(text) => parts.extend(text.chars().map(|c| Part::Exactly(c.into()))),
                Piece::Star | Piece::Capture(_) => parts.push(Part::Run { across: false }),
                Piece::DoubleStar => parts.push(Part::Run { across: true }),
            }
        }
        Self { parts }
    }

    /// The same with something in the place of each wildcard: a part of it, whose texts make better examples.
    pub(super) fn filled(&self) -> Self {
        let parts = self.parts.iter().flat_map(|part| match part {
            Part::Run { across } => [Some(Part::Taken { across: *across }), Some(*part)],
            part => [Some(*part), None],
        });
        Self { parts: parts.flatten().collect() }
    }

    pub(super) fn of_segment(segment: &Segment) -> Self {
        match segment {
            Segment::Literal(bytes) => Self::of_bytes(bytes),
            Segment::Glob(glob) => Self::of_glob(glob),
            Segment::Any | Segment::Client(_) => Self { parts: vec![Part::One, Part::Run { across: true }] },
        }
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self { parts: bytes.iter().map(|byte| Part::Exactly((*byte).into())).collect() }
    }

    fn of_glob(glob: &Glob) -> Self {
        let mut parts = Vec::new();
        for (index, text) in glob.parts().iter().enumerate() {
            if index > 0 {
                parts.push(Part::Run { across: true });
            }
            parts.extend(text.iter().map(|byte| Part::Exactly((*byte).into())));
        }
        Self { parts }
    }

    fn start() -> Places {
        vec![(0, false)]
    }

    /// Where runs that may begin or end here lead to without taking anything.
    fn closed(&self, places: &Places) -> Places {
        let mut closed = Places::new();
        let mut open = places.clone();
        while let Some((at, begun)) = open.pop() {
            let run = matches!(self.parts.get(at), Some(Part::Run { .. }));
            let place = (at, run || begun);
            if closed.contains(&place) {
                continue;
            }
            closed.push(place);
            if run {
                open.push((at + 1, false));
            }
        }
        closed.sort_unstable();
        closed
    }

    fn step(&self, places: &Places, symbol: Symbol, escaped: bool, alphabet: Alphabet) -> Places {
        let from = if escaped { places.clone() } else { self.closed(places) };
        let mut to = Places::new();
        for (at, begun) in from {
            match self.parts.get(at) {
                Some(Part::Exactly(own)) if *own == symbol => to.push((at + 1, false)),
                Some(Part::One) => to.push((at + 1, false)),
                Some(Part::Taken { across }) if alphabet.takes(symbol, escaped, *across) => {
                    to.push((at + 1, false));
                }
                Some(Part::Run { across }) if begun && alphabet.takes(symbol, escaped, *across) => {
                    to.push((at, true));
                }
                _ => {}
            }
        }
        to.sort_unstable();
        to.dedup();
        to
    }

    fn accepts(&self, places: &Places) -> bool {
        self.closed(places).contains(&(self.parts.len(), false))
    }

    fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.parts.iter().filter_map(|part| match part {
            Part::Exactly(symbol) => Some(*symbol),
            _ => None,
        })
    }
}

impl Alphabet {
    /// Of the values of an attribute.
    pub(super) fn of_values(style: Style) -> Self {
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

    fn takes(self, symbol: Symbol, escaped: bool, across: bool) -> bool {
        escaped || (Some(symbol) != self.forbidden && (across || Some(symbol) != self.separator))
    }

    /// One symbol of each class that some machine tells from the others, the plainest first.
    fn symbols<'m>(self, machines: impl Iterator<Item = &'m Machine>) -> Vec<Symbol> {
        let named: HashSet<Symbol> = machines.flat_map(Machine::symbols).collect();
        let fresh = FRESH.chars().map(Symbol::from).find(|symbol| !named.contains(symbol));
        // Where all of the plain ones are named, one that nobody names is found beyond them.
        let fresh = fresh.or_else(|| (0x21..0x2_000).find(|symbol| !named.contains(symbol)));
        let special = [self.separator, self.forbidden, self.escape];
        let mut rest: Vec<Symbol> = named.into_iter().chain(special.into_iter().flatten()).collect();
        rest.sort_unstable();
        rest.dedup();
        let mut all: Vec<Symbol> = fresh.into_iter().chain(rest).collect();
        if self.segments {
            let never = |symbol: &Symbol| {
                *symbol < 0x20 || *symbol == 0x7f || [b'/', b'\\', b';'].map(Symbol::from).contains(symbol)
            };
            all.retain(|symbol| !never(symbol));
        }
        all
    }
}

/// A set of texts: what any of its machines matches.
pub(super) type Language = Vec<Machine>;

/// The shortest text that is in all of `inside` and in none of `outside`. The empty text only if it may be and there is no other.
pub(super) fn shortest(
    inside: &[Language],
    outside: &[Machine],
    alphabet: Alphabet,
    empty: bool,
) -> Result<Option<Vec<Symbol>>, TooMuch> {
    let search = Search { inside, outside, alphabet };
    match search.run()? {
        Some(found) => Ok(Some(found)),
        None => Ok((empty && search.is_found(&search.start())).then(Vec::new)),
    }
}

struct Search<'s> {
    inside: &'s [Language],
    outside: &'s [Machine],
    alphabet: Alphabet,
}

/// Where all machines are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    escaped: bool,
    inside: Vec<Vec<Places>>,
    outside: Vec<Places>,
}

impl Search<'_> {
    fn run(&self) -> Result<Option<Vec<Symbol>>, TooMuch> {
        let symbols = self.alphabet.symbols(self.inside.iter().flatten().chain(self.outside));
        let start = self.start();
        let mut seen = HashSet::new();
        let mut open = VecDeque::from([(start, Vec::new())]);
        while let Some((state, text)) = open.pop_front() {
            for symbol in &symbols {
                let Some(next) = self.step(&state, *symbol) else { continue };
                let mut longer = text.clone();
                longer.push(*symbol);
                if self.is_found(&next) {
                    return Ok(Some(longer));
                }
                if seen.len() >= MOST_STATES {
                    return Err(TooMuch);
                }
                if seen.insert(next.clone()) {
                    open.push_back((next, longer));
                }
            }
        }
        Ok(None)
    }

    fn start(&self) -> State {
        State {
            escaped: false,
            inside: self.inside.iter().map(|language| vec![Machine::start(); language.len()]).collect(),
            outside: vec![Machine::start(); self.outside.len()],
        }
    }

    /// Where a symbol leads; nowhere if it leaves a language for good.
    fn step(&self, state: &State, symbol: Symbol) -> Option<State> {
        let escaped = state.escaped;
        let go = |machine: &Machine, places: &Places| machine.step(places, symbol, escaped, self.alphabet);
        let mut inside = Vec::with_capacity(self.inside.len());
        for (language, places) in self.inside.iter().zip(&state.inside) {
            let next: Vec<Places> =
                language.iter().zip(places).map(|(machine, places)| go(machine, places)).collect();
            if next.iter().all(Vec::is_empty) {
                return None;
            }
            inside.push(next);
        }
        let outside =
            self.outside.iter().zip(&state.outside).map(|(machine, places)| go(machine, places)).collect();
        Some(State { escaped: !escaped && Some(symbol) == self.alphabet.escape, inside, outside })
    }

    fn is_found(&self, state: &State) -> bool {
        let accepted = |language: &Language, places: &Vec<Places>| {
            language.iter().zip(places).any(|(machine, places)| machine.accepts(places))
        };
        self.inside.iter().zip(&state.inside).all(|(language, places)| accepted(language, places))
            && !self.outside.iter().zip(&state.outside).any(|(machine, places)| machine.accepts(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Attribute;

    fn find(attribute: Attribute, inside: &[&str], outside: &[&str]) -> Option<String> {
        let machine = |text: &&str| Machine::of_pattern(&Pattern::parse(attribute, text).unwrap());
        let inside: Vec<Language> = inside.iter().map(|text| vec![machine(text)]).collect();
        let outside: Vec<Machine> = outside.iter().map(machine).collect();
        let alphabet = Alphabet::of_values(Style::of(attribute));
        let found = shortest(&inside, &outside, alphabet, true).unwrap()?;
        Some(found.into_iter().map(|symbol| char::from_u32(symbol).unwrap()).collect())
    }

    #[test]
    fn the_shortest_text_of_a_difference_is_found_or_there_is_none() {
        use Attribute::{CommonName, Dns, Subject, Uri};
        assert_eq!(find(CommonName, &["a*"], &["ab*"]).as_deref(), Some("a"));
        assert_eq!(find(CommonName, &["ab*"], &["a*"]), None);
        assert_eq!(find(CommonName, &["a*", "*b"], &["ab"]).as_deref(), Some("axb"));
        assert_eq!(find(Uri, &["x/**"], &["x/*"]).as_deref(), Some("x//"));
        assert_eq!(find(Uri, &["x/*"], &["x/**"]), None);
        assert_eq!(find(Dns, &["*.x"], &["{t}.x"]), None);
        assert_eq!(find(Dns, &["**"], &["*", "**.**"]), None, "no wildcard takes a `*`");
        assert_eq!(find(Subject, &["CN=**"], &["CN=*"]).as_deref(), Some("CN=,"));
        assert_eq!(find(CommonName, &["*"], &["**"]), None);
        assert_eq!(find(CommonName, &["*"], &["x*", "y*", "z*"]).as_deref(), Some("n"));
    }
}
