//! Segments that must equal a value of the certificate (`{client.NAME}`): the constraints that join path and certificate.

use super::super::condition::IfDoubtful;
use super::super::matching::bind;
use super::super::route::{Segment, Variable};
use super::certificate::{CertificateConstraints, RequiredBinding, has_one_value};
use super::clause::Binding;
use super::keys;
use super::language::{Alphabet, Automaton, BudgetExceeded, shortest_text};
use super::path::{FixedSegment, PathConstraints};
use crate::identity::{Attribute, Identity};

/// The number of assignments of texts to variables that are tried.
const MAX_ASSIGNMENTS: usize = 400;
/// The number of texts that are tried for each variable.
const MAX_TEXTS: usize = 8;

/// The attributes of a certificate, and the segments of a path.
type Solution = (Vec<(Attribute, String)>, Vec<Vec<u8>>);

/// The constraints on certificate and path together.
#[derive(Clone, Copy, Debug)]
pub(super) struct JointConstraints<'r, 'm> {
    pub(super) certificate: &'r CertificateConstraints<'m>,
    pub(super) paths: &'r PathConstraints<'m>,
    /// Each binding with the outcome that is wanted.
    pub(super) bindings: &'r [(Binding<'m>, bool)],
}

impl<'m> JointConstraints<'_, 'm> {
    /// Returns a certificate and a path that meet all constraints; `None` if it is proven that there are none.
    ///
    /// # Errors
    /// [`BudgetExceeded`] if no pair was found and none was excluded.
    pub(super) fn solve(self) -> Result<Option<Solution>, BudgetExceeded> {
        let paths = self.non_empty_paths();
        let Some(path) = paths.path(&[])? else { return Ok(None) };
        let Some(attributes) = self.certificate.attributes(&[])? else { return Ok(None) };
        if self.bindings.is_empty() {
            return Ok(Some((attributes, path)));
        }
        if self.is_contradictory() || self.is_impossible(&paths)? {
            return Ok(None);
        }
        let variables = self.variables();
        let texts = self.texts(&paths, &variables, attributes)?;
        let exponent = u32::try_from(variables.len()).unwrap_or(u32::MAX);
        for number in 0..(texts.len() + 1).saturating_pow(exponent).min(MAX_ASSIGNMENTS) {
            let required = assignment(&variables, &texts, number);
            let Some(attributes) = self.certificate.attributes(&required)? else { continue };
            if let Some(path) = self.path(&attributes)? {
                return Ok(Some((attributes, path)));
            }
        }
        Err(BudgetExceeded)
    }

    /// Returns the constraints on the path, and that no bound segment is empty.
    fn non_empty_paths(self) -> PathConstraints<'m> {
        let mut paths = self.paths.clone();
        let wanted = self.bindings.iter().filter(|(_, wanted)| *wanted);
        paths.segments.extend(wanted.map(|(binding, _)| (binding.at, &Segment::Any, true)));
        paths
    }

    /// Returns true if the same binding is wanted and excluded.
    fn is_contradictory(self) -> bool {
        let (wanted, excluded): (Vec<_>, Vec<_>) = self.bindings.iter().partition(|(_, wanted)| *wanted);
        let implies = |wanted: &Binding<'_>, excluded: &Binding<'_>| {
            wanted.if_doubtful == excluded.if_doubtful || excluded.if_doubtful == IfDoubtful::Met
        };
        wanted.iter().any(|(wanted, _)| {
            let is_same = |excluded: &Binding<'_>| {
                wanted.at == excluded.at
                    && implies(wanted, excluded)
                    && keys::binding(wanted) == keys::binding(excluded)
            };
            excluded.iter().any(|(excluded, _)| is_same(excluded))
        })
    }

    /// Returns true if no certificate has a value that the path accepts in a bound segment.
    fn is_impossible(self, paths: &PathConstraints<'m>) -> Result<bool, BudgetExceeded> {
        for (binding, _) in self
            .bindings
            .iter()
            .filter(|(binding, wanted)| *wanted && binding.if_doubtful == IfDoubtful::Unmet)
        {
            if let Variable::Attribute(attribute) = binding.variable
                && is_like_segments(*attribute)
                && self.common_text(paths, binding, *attribute)?.is_none()
            {
                return Ok(true);
            }
            let Some(texts) = paths.all_texts(binding.at)? else { continue };
            let mut none = true;
            for text in &texts {
                let required =
                    RequiredBinding { alternatives: binding.alternatives, variable: binding.variable, text };
                none &= self.certificate.attributes(&[required])?.is_none();
            }
            if none {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns a text that both the segment and the single-valued attribute can have.
    fn common_text(
        self,
        paths: &PathConstraints<'m>,
        binding: &Binding<'m>,
        attribute: Attribute,
    ) -> Result<Option<String>, BudgetExceeded> {
        let (mut inside, mut outside) = paths.languages(binding.at, &[]);
        if let Some(constraints) = self.certificate.constraints(&[]).remove(&attribute) {
            inside.extend(constraints.inside);
            outside.extend(constraints.outside);
        }
        for bad in ["%", "?", "#", ".."] {
            outside.push(Automaton::containing(bad));
        }
        let found = shortest_text(&inside, &outside, Alphabet::of_segments(), false)?;
        Ok(found.map(|symbols| symbols.into_iter().filter_map(char::from_u32).collect()))
    }

    /// Returns the bound variables, each once.
    fn variables(self) -> Vec<Binding<'m>> {
        let mut variables: Vec<Binding<'m>> = Vec::new();
        for (binding, _) in self.bindings {
            let same = |other: &Binding<'_>| {
                std::ptr::eq(other.alternatives, binding.alternatives) && other.variable == binding.variable
            };
            if !variables.iter().any(same) {
                variables.push(*binding);
            }
        }
        variables
    }

    /// Returns the texts to try: texts of the segments, values of a certificate, and `..`, which never binds.
    fn texts(
        self,
        paths: &PathConstraints<'m>,
        variables: &[Binding<'m>],
        attributes: Vec<(Attribute, String)>,
    ) -> Result<Vec<String>, BudgetExceeded> {
        let identity = Identity::from_attributes(attributes);
        let mut texts = Vec::new();
        for (binding, _) in self.bindings {
            if let Variable::Attribute(attribute) = binding.variable
                && is_like_segments(*attribute)
            {
                texts.extend(self.common_text(paths, binding, *attribute)?);
            }
        }
        for (binding, _) in self.bindings {
            texts.extend(paths.texts(binding.at)?);
        }
        let value = |variable: &Binding<'m>| {
            bind(variable.alternatives, &identity, variable.variable).map(String::from)
        };
        texts.extend(variables.iter().filter_map(value));
        texts.truncate(MAX_TEXTS - 1);
        texts.push("..".to_owned());
        let mut seen = std::collections::HashSet::new();
        texts.retain(|text| seen.insert(text.clone()));
        Ok(texts)
    }

    /// Returns a path for a certificate, so that each variable now has a value or none.
    fn path(self, attributes: &[(Attribute, String)]) -> Result<Option<Vec<Vec<u8>>>, BudgetExceeded> {
        let identity = Identity::from_attributes(attributes.iter().cloned());
        let mut fixed: Vec<FixedSegment> = Vec::new();
        for (binding, wanted) in self.bindings {
            let text = bind(binding.alternatives, &identity, binding.variable);
            match (text, wanted, binding.if_doubtful) {
                (Some(text), wanted, _) => fixed.push((binding.at, text.as_bytes().into(), *wanted)),
                (None, true, IfDoubtful::Unmet) => return Ok(None),
                (None, false, IfDoubtful::Met) => fixed.push((binding.at, Vec::new(), true)),
                (None, true, IfDoubtful::Met) | (None, false, IfDoubtful::Unmet) => {}
            }
        }
        self.non_empty_paths().path(&fixed)
    }
}

/// Returns the assignment with that number: each variable gets one of the texts or none.
fn assignment<'g>(
    variables: &[Binding<'g>],
    texts: &'g [String],
    mut number: usize,
) -> Vec<RequiredBinding<'g>> {
    let mut required = Vec::new();
    for binding in variables {
        let choice = number % (texts.len() + 1);
        number /= texts.len() + 1;
        if let Some(text) = choice.checked_sub(1).and_then(|choice| texts.get(choice)) {
            required.push(RequiredBinding {
                alternatives: binding.alternatives,
                variable: binding.variable,
                text,
            });
        }
    }
    required
}

/// Returns true if wildcards match the same characters in the attribute's values as in segments, so that one automaton can
/// read both.
const fn is_like_segments(attribute: Attribute) -> bool {
    has_one_value(attribute) && !matches!(attribute, Attribute::Subject)
}
