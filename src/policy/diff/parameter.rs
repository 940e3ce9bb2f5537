//! What the query and the headers say: of each name nothing, a named value, another value, or two at once.
//!
//! Names that some backend takes for one are looked at together, because each of them makes conditions on the others
//! doubtful.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::condition::{HeaderCondition, IfDoubtful, QueryCondition, is_same_parameter};
use super::language::TooMuch;
use super::request::{Said, encode, pairs};
use crate::client_headers::folds_to;

type Asked<'m, C> = (&'m C, IfDoubtful, bool);

/// More combinations of what names say are not tried for one group of names.
const MOST_COMBINATIONS: usize = 5_000;

/// A query that meets the conditions with `true` and none with `false`.
pub(super) fn query(asked: &[Asked<'_, QueryCondition>]) -> Result<Option<Vec<(String, Said)>>, TooMuch> {
    let same = |one: &str, other: &str| is_same_parameter(one.as_bytes(), other.as_bytes());
    let mut query = Vec::new();
    for names in groups(asked.iter().map(|(condition, ..)| &*condition.name), same) {
        let conditions: Vec<_> =
            asked.iter().filter(|(condition, ..)| names.contains(&&*condition.name)).collect();
        let fits = |said: &[(String, Said)]| {
            let text = written(said);
            conditions
                .iter()
                .all(|(condition, if_doubtful, is)| condition.holds(Some(&text), *if_doubtful) == *is)
        };
        let of = |name: &str| {
            let own = conditions.iter().filter(|(condition, ..)| *condition.name == *name);
            choices(own.flat_map(|(condition, ..)| &condition.values))
        };
        let names = with_shortened(&names).into_iter().map(|name| (of(&name), name)).collect::<Vec<_>>();
        let Some(said) = first(&names, fits)? else { return Ok(None) };
        query.extend(said);
    }
    Ok(Some(query))
}

/// Headers that meet the conditions with `true` and none with `false`.
pub(super) fn headers(
    asked: &[Asked<'_, HeaderCondition>],
) -> Result<Option<Vec<(HeaderName, Said)>>, TooMuch> {
    let mut headers = Vec::new();
    for names in groups(asked.iter().map(|(condition, ..)| condition.name.as_str()), folds_to) {
        let conditions: Vec<_> =
            asked.iter().filter(|(condition, ..)| names.contains(&condition.name.as_str())).collect();
        let fits = |said: &[(HeaderName, Said)]| {
            sent(said).is_some_and(|sent| {
                conditions
                    .iter()
                    .all(|(condition, if_doubtful, is)| condition.holds(Some(&sent), *if_doubtful) == *is)
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
        let Some(said) = first(&named, fits)? else { return Ok(None) };
        headers.extend(said);
    }
    Ok(Some(headers))
}

/// Names in groups of which none has anything to do with another.
fn groups<'n>(names: impl Iterator<Item = &'n str>, same: impl Fn(&str, &str) -> bool) -> Vec<Vec<&'n str>> {
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for name in names {
        if groups.iter().any(|group| group.contains(&name)) {
            continue;
        }
        let is_near = |group: &Vec<&str>| group.iter().any(|other| same(name, other));
        let (near, mut far): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_near);
        far.push(near.into_iter().flatten().chain([name]).collect());
        groups = far;
    }
    groups.sort();
    groups
}

/// Names of a group, and, where there are several, what is before their brackets: it may make some of them doubtful
/// without the others.
fn with_shortened(names: &[&str]) -> Vec<String> {
    let whole = names.iter().map(|name| (*name).to_owned());
    let is_alone = names.len() == 1;
    let shortened = names.iter().filter_map(|name| name.split_once('[')).filter(|_| !is_alone);
    let mut all: Vec<String> = whole.chain(shortened.map(|(before, _)| before.to_owned())).collect();
    all.sort();
    all.dedup();
    all
}

/// The choices of what is said of a name, as far as conditions with these values tell them apart.
fn choices<'m>(values: impl Iterator<Item = &'m Box<str>>) -> Vec<Option<Said>> {
    // A value with a comma may be two, and is never believed.
    let mut named: Vec<&str> =
        values.map(|value| &**value).filter(|value| *value != "*" && !value.contains(',')).collect();
    named.dedup();
    let mut others = std::iter::once("other".to_owned()).chain((2..).map(|number| format!("other{number}")));
    let other = others.find(|other| !named.contains(&other.as_str()));
    let once =
        named.iter().map(|value| (*value).to_owned()).chain(other).map(|value| Some(Said::Once(value)));
    std::iter::once(None).chain(once).chain([Some(Said::Twice)]).collect()
}

/// The first combination of what the names say that fits.
fn first<N: Clone>(
    names: &[(Vec<Option<Said>>, N)],
    fits: impl Fn(&[(N, Said)]) -> bool,
) -> Result<Option<Vec<(N, Said)>>, TooMuch> {
    let all = names.iter().try_fold(1usize, |all, (choices, _)| all.checked_mul(choices.len()));
    let all = all.unwrap_or(usize::MAX);
    for number in 0..all.min(MOST_COMBINATIONS) {
        let mut rest = number;
        let mut said = Vec::new();
        for (choices, name) in names {
            let choice = choices.get(rest % choices.len().max(1)).cloned().flatten();
            rest /= choices.len().max(1);
            said.extend(choice.map(|choice| (name.clone(), choice)));
        }
        if fits(&said) {
            return Ok(Some(said));
        }
    }
    if all > MOST_COMBINATIONS { Err(TooMuch) } else { Ok(None) }
}

fn written(said: &[(String, Said)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs(said) {
        if !query.is_empty() {
            query.push('&');
        }
        encode(name.as_bytes(), &mut query);
        query.push('=');
        encode(value.as_bytes(), &mut query);
    }
    query
}

/// `None` where a value cannot be sent.
fn sent(said: &[(HeaderName, Said)]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(said) {
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

    /// The cells are those of the conditions themselves.
    #[test]
    fn what_is_said_is_met_as_the_proxy_meets_it() {
        let q = condition("q");
        for (is, if_doubtful, expected) in [
            (true, IfDoubtful::Unmet, Some(vec![("q".to_owned(), Said::Once("1".to_owned()))])),
            (false, IfDoubtful::Unmet, Some(Vec::new())),
        ] {
            assert_eq!(query(&[(&q, if_doubtful, is)]), Ok(expected));
        }
        let twice = query(&[(&q, IfDoubtful::Unmet, false), (&q, IfDoubtful::Met, true)]);
        assert_eq!(twice, Ok(Some(vec![("q".to_owned(), Said::Twice)])));
        assert!(q.holds(Some("q=x&q=y"), IfDoubtful::Met));
        assert_eq!(query(&[(&q, IfDoubtful::Unmet, true), (&q, IfDoubtful::Met, false)]), Ok(None));
    }

    #[test]
    fn names_that_are_one_to_some_backend_are_looked_at_together() {
        let (q, capital) = (condition("q"), condition("Q"));
        assert_eq!(query(&[(&q, IfDoubtful::Unmet, true), (&capital, IfDoubtful::Unmet, true)]), Ok(None));
        let one = query(&[(&q, IfDoubtful::Unmet, true), (&capital, IfDoubtful::Met, true)]);
        assert_eq!(one, Ok(Some(vec![("q".to_owned(), Said::Once("1".to_owned()))])));
        // `c` makes `c[x` doubtful, and not `c_x`.
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
        assert_eq!(one, [(HeaderName::from_static("x-mode"), Said::Once("1".to_owned()))]);
    }
}
