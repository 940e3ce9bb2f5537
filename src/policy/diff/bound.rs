//! Segments that must be what the certificate gives to a name: here path and certificate meet.

use super::super::condition::IfDoubtful;
use super::super::matching::bind;
use super::super::route::{Segment, Variable};
use super::keys;
use super::language::{Alphabet, Machine, TooMuch, shortest};
use super::path::{Fixed, Paths};
use super::rule::Bound;
use super::who::{Given, Whom, has_one_value};
use crate::identity::{Attribute, Identity};

/// More ways of giving texts to names are not tried.
const MOST_WAYS: usize = 400;
/// More texts than this are not tried for each name.
const MOST_TEXTS: usize = 8;

/// A certificate and a path.
type Found = (Vec<(Attribute, String)>, Vec<Vec<u8>>);

/// What is asked of certificate and path together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meeting<'r, 'm> {
    pub(super) whom: &'r Whom<'m>,
    pub(super) paths: &'r Paths<'m>,
    pub(super) bounds: &'r [(Bound<'m>, bool)],
}

impl<'m> Meeting<'_, 'm> {
    /// A certificate and a path of which all of it holds; `TooMuch` where none was found and none is proven.
    pub(super) fn found(self) -> Result<Option<Found>, TooMuch> {
        let paths = self.not_empty();
        let Some(path) = paths.path(&[])? else { return Ok(None) };
        let Some(attributes) = self.whom.attributes(&[])? else { return Ok(None) };
        if self.bounds.is_empty() {
            return Ok(Some((attributes, path)));
        }
        if self.contradicts() || self.is_impossible(&paths)? {
            return Ok(None);
        }
        let names = self.names();
        let texts = self.texts(&paths, &names, attributes)?;
        for way in
            0..(texts.len() + 1).saturating_pow(u32::try_from(names.len()).unwrap_or(u32::MAX)).min(MOST_WAYS)
        {
            let given = given(&names, &texts, way);
            let Some(attributes) = self.whom.attributes(&given)? else { continue };
            if let Some(path) = self.path(&attributes)? {
                return Ok(Some((attributes, path)));
            }
        }
        Err(TooMuch)
    }

    /// The paths, with what holds of every segment that is bound.
    fn not_empty(self) -> Paths<'m> {
        let mut paths = self.paths.clone();
        let bound = self.bounds.iter().filter(|(_, is)| *is);
        paths.segments.extend(bound.map(|(bound, _)| (bound.at, &Segment::Any, true)));
        paths
    }

    /// Whether the same is asked and forbidden.
    fn contradicts(self) -> bool {
        let (yes, no): (Vec<_>, Vec<_>) = self.bounds.iter().partition(|(_, is)| *is);
        let weaker = |yes: &Bound<'_>, no: &Bound<'_>| {
            yes.if_doubtful == no.if_doubtful || no.if_doubtful == IfDoubtful::Met
        };
        yes.iter().any(|(yes, _)| {
            let same =
                |no: &Bound<'_>| yes.at == no.at && weaker(yes, no) && keys::bound(yes) == keys::bound(no);
            no.iter().any(|(no, _)| same(no))
        })
    }

    /// Whether no certificate can give what the path asks of one name.
    fn is_impossible(self, paths: &Paths<'m>) -> Result<bool, TooMuch> {
        for (bound, _) in
            self.bounds.iter().filter(|(bound, is)| *is && bound.if_doubtful == IfDoubtful::Unmet)
        {
            if let Variable::Attribute(attribute) = bound.variable
                && is_like_segments(*attribute)
                && self.joint(paths, bound, *attribute)?.is_none()
            {
                return Ok(true);
            }
            let Some(texts) = paths.all_texts(bound.at)? else { continue };
            let mut none = true;
            for text in &texts {
                let given = Given { alternatives: bound.alternatives, variable: bound.variable, text };
                none &= self.whom.attributes(&[given])?.is_none();
            }
            if none {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A text that can be both the segment and the one value of the attribute.
    fn joint(
        self,
        paths: &Paths<'m>,
        bound: &Bound<'m>,
        attribute: Attribute,
    ) -> Result<Option<String>, TooMuch> {
        let (mut inside, mut outside) = paths.languages(bound.at, &[]);
        if let Some(asked) = self.whom.asked(&[]).remove(&attribute) {
            inside.extend(asked.inside);
            outside.extend(asked.outside);
        }
        for bad in ["%", "?", "#", ".."] {
            outside.push(Machine::around(bad));
        }
        let found = shortest(&inside, &outside, Alphabet::of_segments(), false)?;
        Ok(found.map(|symbols| symbols.into_iter().filter_map(char::from_u32).collect()))
    }

    /// The names that are bound, each once.
    fn names(self) -> Vec<Bound<'m>> {
        let mut names: Vec<Bound<'m>> = Vec::new();
        for (bound, _) in self.bounds {
            let same = |other: &Bound<'_>| {
                std::ptr::eq(other.alternatives, bound.alternatives) && other.variable == bound.variable
            };
            if !names.iter().any(same) {
                names.push(*bound);
            }
        }
        names
    }

    /// Texts to try: of the segments, of the certificates, and one that is never bound.
    fn texts(
        self,
        paths: &Paths<'m>,
        names: &[Bound<'m>],
        attributes: Vec<(Attribute, String)>,
    ) -> Result<Vec<String>, TooMuch> {
        let identity = Identity::from_attributes(attributes);
        let mut texts = Vec::new();
        for (bound, _) in self.bounds {
            if let Variable::Attribute(attribute) = bound.variable
                && is_like_segments(*attribute)
            {
                texts.extend(self.joint(paths, bound, *attribute)?);
            }
        }
        for (bound, _) in self.bounds {
            texts.extend(paths.texts(bound.at)?);
        }
        let bound = |name: &Bound<'m>| bind(name.alternatives, &identity, name.variable).map(String::from);
        texts.extend(names.iter().filter_map(bound));
        texts.truncate(MOST_TEXTS - 1);
        texts.push("..".to_owned());
        let mut seen = std::collections::HashSet::new();
        texts.retain(|text| seen.insert(text.clone()));
        Ok(texts)
    }

    /// A path for a certificate, whose names now stand for texts or for nothing.
    fn path(self, attributes: &[(Attribute, String)]) -> Result<Option<Vec<Vec<u8>>>, TooMuch> {
        let identity = Identity::from_attributes(attributes.iter().cloned());
        let mut fixed: Vec<Fixed> = Vec::new();
        for (bound, is) in self.bounds {
            let text = bind(bound.alternatives, &identity, bound.variable);
            match (text, is, bound.if_doubtful) {
                (Some(text), is, _) => fixed.push((bound.at, text.as_bytes().into(), *is)),
                (None, true, IfDoubtful::Unmet) => return Ok(None),
                (None, false, IfDoubtful::Met) => fixed.push((bound.at, Vec::new(), true)),
                (None, true, IfDoubtful::Met) | (None, false, IfDoubtful::Unmet) => {}
            }
        }
        self.not_empty().path(&fixed)
    }
}

/// One way of giving texts to names: each gets one of them or nothing.
fn given<'g>(names: &[Bound<'g>], texts: &'g [String], mut way: usize) -> Vec<Given<'g>> {
    let mut given = Vec::new();
    for name in names {
        let choice = way % (texts.len() + 1);
        way /= texts.len() + 1;
        if let Some(text) = choice.checked_sub(1).and_then(|choice| texts.get(choice)) {
            given.push(Given { alternatives: name.alternatives, variable: name.variable, text });
        }
    }
    given
}

/// Whether wildcards take of its values what they take of segments, so that one automaton reads both.
const fn is_like_segments(attribute: Attribute) -> bool {
    has_one_value(attribute) && !matches!(attribute, Attribute::Subject)
}
