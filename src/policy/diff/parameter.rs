//! What the query and the headers say: of each name nothing, a named value, another value, or two at once.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::super::condition::{HeaderCondition, QueryCondition, Unclear};
use super::request::Said;

type Asked<'m, C> = (&'m C, Unclear, bool);

/// A query that meets the conditions with `true` and none with `false`.
pub(super) fn query(asked: &[Asked<'_, QueryCondition>]) -> Option<Vec<(String, Said)>> {
    let mut by_name: BTreeMap<&str, Vec<&Asked<'_, QueryCondition>>> = BTreeMap::new();
    for one in asked {
        by_name.entry(&one.0.name).or_default().push(one);
    }
    let mut query = Vec::new();
    for (name, conditions) in by_name {
        let said = said(conditions.iter().flat_map(|(condition, ..)| &condition.values), |said| {
            conditions.iter().all(|(condition, unclear, is)| met(said, &condition.values, *unclear) == *is)
        })?;
        query.extend(said.map(|said| (name.to_owned(), said)));
    }
    Some(query)
}

/// Headers that meet the conditions with `true` and none with `false`.
pub(super) fn headers(asked: &[Asked<'_, HeaderCondition>]) -> Option<Vec<(HeaderName, Said)>> {
    let mut by_name: BTreeMap<&str, Vec<&Asked<'_, HeaderCondition>>> = BTreeMap::new();
    for one in asked {
        by_name.entry(one.0.name.as_str()).or_default().push(one);
    }
    let mut headers = Vec::new();
    for conditions in by_name.into_values() {
        let Some((condition, ..)) = conditions.first() else { continue };
        let name = condition.name.clone();
        let sendable = |said: &Option<Said>| match said {
            Some(Said::Once(value)) => HeaderValue::from_str(value).is_ok(),
            _ => true,
        };
        let said = said(conditions.iter().flat_map(|(condition, ..)| &condition.values), |said| {
            sendable(said)
                && conditions
                    .iter()
                    .all(|(condition, unclear, is)| met(said, &condition.values, *unclear) == *is)
        })?;
        headers.extend(said.map(|said| (name, said)));
    }
    Some(headers)
}

fn said<'m>(
    values: impl Iterator<Item = &'m Box<str>>,
    fits: impl Fn(&Option<Said>) -> bool,
) -> Option<Option<Said>> {
    // A value with a comma may be two, and is never believed.
    let named: Vec<&str> =
        values.map(|value| &**value).filter(|value| *value != "*" && !value.contains(',')).collect();
    let mut others = std::iter::once("other".to_owned()).chain((2..).map(|number| format!("other{number}")));
    let other = others.find(|other| !named.contains(&other.as_str()));
    let once =
        named.iter().map(|value| (*value).to_owned()).chain(other).map(|value| Some(Said::Once(value)));
    std::iter::once(None).chain(once).chain([Some(Said::Twice)]).find(|said| fits(said))
}

fn met(said: &Option<Said>, values: &[Box<str>], unclear: Unclear) -> bool {
    match said {
        None => false,
        Some(Said::Twice) => unclear == Unclear::Met,
        Some(Said::Once(value)) => values.iter().any(|allowed| &**allowed == "*" || **allowed == *value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells are those of the conditions themselves.
    #[test]
    fn what_is_said_is_met_as_the_proxy_meets_it() {
        let condition = QueryCondition { name: "q".into(), values: Box::new(["1".into()]) };
        for (is, unclear, expected) in [
            (true, Unclear::Unmet, Some(vec![("q".to_owned(), Said::Once("1".to_owned()))])),
            (false, Unclear::Unmet, Some(Vec::new())),
        ] {
            assert_eq!(query(&[(&condition, unclear, is)]), expected);
        }
        let twice = query(&[(&condition, Unclear::Unmet, false), (&condition, Unclear::Met, true)]);
        assert_eq!(twice, Some(vec![("q".to_owned(), Said::Twice)]));
        assert!(condition.holds(Some("q=x&q=y"), Unclear::Met));
        assert_eq!(query(&[(&condition, Unclear::Unmet, true), (&condition, Unclear::Met, false)]), None);
    }
}
