//! The query and the headers of an example request: each name is absent, has a value of a condition, has another value,
//! or occurs twice.
//!
//! Names that some backend treats as equal are chosen together, because each of them makes the conditions on the others
//! doubtful.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::condition::{HeaderCondition, IfDoubtful, QueryCondition, is_same_parameter};
use super::language::BudgetExceeded;
use super::request::{Occurrence, encode, pairs};
use crate::client_headers::folds_to;

/// A condition, its outcome if the request is doubtful, and the outcome that is wanted.
type WantedCondition<'m, C> = (&'m C, IfDoubtful, bool);

/// The number of combinations that are tried for one group of names.
const MAX_COMBINATIONS: usize = 5_000;

/// Returns a query that meets all conditions; `None` if there is none.
pub(super) fn query(
    wanted_conditions: &[WantedCondition<'_, QueryCondition>],
) -> Result<Option<Vec<(String, Occurrence)>>, BudgetExceeded> {
    let is_same = |one: &str, other: &str| is_same_parameter(one.as_bytes(), other.as_bytes());
    let mut query = Vec::new();
    for names in groups(wanted_conditions.iter().map(|(condition, ..)| &*condition.name), is_same) {
        let conditions: Vec<_> =
            wanted_conditions.iter().filter(|(condition, ..)| names.contains(&&*condition.name)).collect();
        let fits = |occurrences: &[(String, Occurrence)]| {
            let text = query_text(occurrences);
            conditions
                .iter()
                .all(|(condition, if_doubtful, wanted)| condition.holds(Some(&text), *if_doubtful) == *wanted)
        };
        let of = |name: &str| {
            let own = conditions.iter().filter(|(condition, ..)| *condition.name == *name);
            choices(own.flat_map(|(condition, ..)| &condition.values))
        };
        let names =
            with_parts_before_brackets(&names).into_iter().map(|name| (of(&name), name)).collect::<Vec<_>>();
        let Some(occurrences) = first_combination(&names, fits)? else { return Ok(None) };
        query.extend(occurrences);
    }
    Ok(Some(query))
}

/// Returns headers that meet all conditions; `None` if there are none.
pub(super) fn headers(
    wanted_conditions: &[WantedCondition<'_, HeaderCondition>],
) -> Result<Option<Vec<(HeaderName, Occurrence)>>, BudgetExceeded> {
    let mut headers = Vec::new();
    for names in groups(wanted_conditions.iter().map(|(condition, ..)| condition.name.as_str()), folds_to) {
        let conditions: Vec<_> = wanted_conditions
            .iter()
            .filter(|(condition, ..)| names.contains(&condition.name.as_str()))
            .collect();
        let fits = |occurrences: &[(HeaderName, Occurrence)]| {
            header_map(occurrences).is_some_and(|headers| {
                conditions.iter().all(|(condition, if_doubtful, wanted)| {
                    condition.holds(Some(&headers), *if_doubtful) == *wanted
                })
            })
        };
        let of = |name: &HeaderName| {
            let own = conditions.iter().filter(|(condition, ..)| condition.name == *name);
            choices(own.flat_map(|(condition, ..)| &condition.values))
        };
        let mut named: Vec<HeaderName> =
            conditions.iter().map(|(condition, ..)| condition.name.clone()).collect();
        named.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        named.dedup();
        let named: Vec<_> = named.into_iter().map(|name| (of(&name), name)).collect();
        let Some(occurrences) = first_combination(&named, fits)? else { return Ok(None) };
        headers.extend(occurrences);
    }
    Ok(Some(headers))
}

/// Returns the names in groups, so that no name of one group affects the conditions of another.
fn groups<'n>(
    names: impl Iterator<Item = &'n str>,
    is_same: impl Fn(&str, &str) -> bool,
) -> Vec<Vec<&'n str>> {
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for name in names {
        if groups.iter().any(|group| group.contains(&name)) {
            continue;
        }
        let is_near = |group: &Vec<&str>| group.iter().any(|other| is_same(name, other));
        let (near, mut far): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_near);
        far.push(near.into_iter().flatten().chain([name]).collect());
        groups = far;
    }
    groups.sort();
    groups
}

/// Returns the names of a group and, if there are several, their parts before a bracket: such a part can make the
/// condition on one name doubtful without the others.
fn with_parts_before_brackets(names: &[&str]) -> Vec<String> {
    let whole = names.iter().map(|name| (*name).to_owned());
    let is_alone = names.len() == 1;
    let shortened = names.iter().filter_map(|name| name.split_once('[')).filter(|_| !is_alone);
    let mut all: Vec<String> = whole.chain(shortened.map(|(before, _)| before.to_owned())).collect();
    all.sort();
    all.dedup();
    all
}

/// Returns the choices for one name, as far as conditions with these values distinguish them.
fn choices<'m>(values: impl Iterator<Item = &'m Box<str>>) -> Vec<Option<Occurrence>> {
    // A value with a comma may be a list. The engine never accepts such a value.
    let mut named: Vec<&str> =
        values.map(|value| &**value).filter(|value| *value != "*" && !value.contains(',')).collect();
    named.dedup();
    let mut others = std::iter::once("other".to_owned()).chain((2..).map(|number| format!("other{number}")));
    let other = others.find(|other| !named.contains(&other.as_str()));
    let once =
        named.iter().map(|value| (*value).to_owned()).chain(other).map(|value| Some(Occurrence::Once(value)));
    std::iter::once(None).chain(once).chain([Some(Occurrence::Twice)]).collect()
}

/// Returns the first combination of choices that fits.
fn first_combination<N: Clone>(
    names: &[(Vec<Option<Occurrence>>, N)],
    fits: impl Fn(&[(N, Occurrence)]) -> bool,
) -> Result<Option<Vec<(N, Occurrence)>>, BudgetExceeded> {
    let all = names.iter().try_fold(1usize, |all, (choices, _)| all.checked_mul(choices.len()));
    let all = all.unwrap_or(usize::MAX);
    for number in 0..all.min(MAX_COMBINATIONS) {
        let mut rest = number;
        let mut occurrences = Vec::new();
        for (choices, name) in names {
            let choice = choices.get(rest % choices.len().max(1)).cloned().flatten();
            rest /= choices.len().max(1);
            occurrences.extend(choice.map(|choice| (name.clone(), choice)));
        }
        if fits(&occurrences) {
            return Ok(Some(occurrences));
        }
    }
    if all > MAX_COMBINATIONS { Err(BudgetExceeded) } else { Ok(None) }
}

fn query_text(occurrences: &[(String, Occurrence)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs(occurrences) {
        if !query.is_empty() {
            query.push('&');
        }
        encode(name.as_bytes(), &mut query);
        query.push('=');
        encode(value.as_bytes(), &mut query);
    }
    query
}

/// Returns the headers; `None` if a value cannot be sent.
fn header_map(occurrences: &[(HeaderName, Occurrence)]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(occurrences) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(value).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(name: &str) -> QueryCondition {
        QueryCondition { name: name.into(), values: Box::new(["1".into()]) }
    }

    /// The outcomes that the search finds are those of the conditions themselves.
    #[test]
    fn found_queries_meet_the_conditions_as_the_engine_does() {
        let q = condition("q");
        for (wanted, if_doubtful, expected) in [
            (true, IfDoubtful::Unmet, Some(vec![("q".to_owned(), Occurrence::Once("1".to_owned()))])),
            (false, IfDoubtful::Unmet, Some(Vec::new())),
        ] {
            assert_eq!(query(&[(&q, if_doubtful, wanted)]), Ok(expected));
        }
        let twice = query(&[(&q, IfDoubtful::Unmet, false), (&q, IfDoubtful::Met, true)]);
        assert_eq!(twice, Ok(Some(vec![("q".to_owned(), Occurrence::Twice)])));
        assert!(q.holds(Some("q=x&q=y"), IfDoubtful::Met));
        assert_eq!(query(&[(&q, IfDoubtful::Unmet, true), (&q, IfDoubtful::Met, false)]), Ok(None));
    }

    #[test]
    fn names_that_a_backend_may_treat_as_equal_are_chosen_together() {
        let (q, capital) = (condition("q"), condition("Q"));
        assert_eq!(query(&[(&q, IfDoubtful::Unmet, true), (&capital, IfDoubtful::Unmet, true)]), Ok(None));
        let one = query(&[(&q, IfDoubtful::Unmet, true), (&capital, IfDoubtful::Met, true)]);
        assert_eq!(one, Ok(Some(vec![("q".to_owned(), Occurrence::Once("1".to_owned()))])));
        // The parameter `c` makes the condition on `c[x` doubtful, and not the condition on `c_x`.
        let (bracket, underscore) = (condition("c[x"), condition("c_x"));
        let one = query(&[(&bracket, IfDoubtful::Met, true), (&underscore, IfDoubtful::Met, false)])
            .unwrap()
            .unwrap();
        assert!(one.iter().all(|(name, _)| name == "c"), "{one:?}");
        let header = |name: &'static str| HeaderCondition {
            name: HeaderName::from_static(name),
            values: Box::new(["1".into()]),
        };
        let (dash, underscore) = (header("x-mode"), header("x_mode"));
        assert_eq!(
            headers(&[(&dash, IfDoubtful::Unmet, true), (&underscore, IfDoubtful::Unmet, true)]),
            Ok(None)
        );
        let one = headers(&[(&dash, IfDoubtful::Unmet, true), (&underscore, IfDoubtful::Met, true)])
            .unwrap()
            .unwrap();
        assert_eq!(one, [(HeaderName::from_static("x-mode"), Occurrence::Once("1".to_owned()))]);
    }
}
