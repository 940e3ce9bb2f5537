//! Conditions on headers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::{FieldValue, IfDoubtful};
use crate::client_headers::folds_to;

/// The condition that a header is present exactly once, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderCondition {
    pub(crate) name: HeaderName,
    /// `*` for any value.
    pub(crate) values: Box<[Box<str>]>,
}

impl HeaderCondition {
    /// Returns true if the condition is met. Headers that are not known (`None`) make the condition doubtful.
    pub(crate) fn holds(&self, headers: Option<&HeaderMap>, if_doubtful: IfDoubtful) -> bool {
        let value = headers.map_or(FieldValue::Doubtful, |headers| self.read(headers));
        value.meets(&self.values, if_doubtful)
    }

    /// Describes why the condition is doubtful for these headers; `None` if it is not.
    pub(crate) fn doubt_reason(&self, headers: &HeaderMap) -> Option<String> {
        let name = &self.name;
        let mut others = headers.keys().filter(|other| *other != name);
        if let Some(other) = others.find(|other| folds_to(other.as_str(), name.as_str())) {
            return Some(format!(
                "the request has the header `{other}`, which some servers read as `{name}`; no grant with a condition on `{name}` applies"
            ));
        }
        let mut lines = headers.get_all(name).iter();
        let (Some(value), None) = (lines.next(), lines.next()) else { return None };
        if value.as_bytes().contains(&b',') {
            return Some(format!(
                "the header `{name}` contains a comma, which servers read differently; no grant with a condition on it applies"
            ));
        }
        (value.as_bytes().trim_ascii() != value.as_bytes()).then(|| {
            format!(
                "the header `{name}` begins or ends with a space, which some servers keep; no grant with a condition on it applies"
            )
        })
    }

    fn read<'h>(&self, headers: &'h HeaderMap) -> FieldValue<'h> {
        let mut found = FieldValue::Absent;
        for (name, value) in headers {
            // CGI, WSGI, PHP and Rack read `X_Mode` and `X-Mode` as one variable.
            if !folds_to(name.as_str(), self.name.as_str()) {
                continue;
            }
            let value = value.as_bytes();
            // HTTP/2 can carry spaces around a value. Parsers of HTTP/1.1 remove them.
            let is_one = !value.contains(&b',') && value.trim_ascii() == value;
            found = match found {
                FieldValue::Absent if is_one && *name == self.name => {
                    FieldValue::Single(Cow::Borrowed(value))
                }
                _ => return FieldValue::Doubtful,
            };
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// Case 49.
    #[test]
    fn a_header_that_could_be_read_twice_meets_no_grant_and_every_deny() {
        let condition =
            HeaderCondition { name: HeaderName::from_static("x-mode"), values: Box::new(["batch".into()]) };
        let holds = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("X-Mode", HeaderValue::from_static(value));
            }
            (
                condition.holds(Some(&headers), IfDoubtful::Unmet),
                condition.holds(Some(&headers), IfDoubtful::Met),
            )
        };
        assert_eq!(holds(&["batch"]), (true, true));
        assert_eq!(holds(&[]), (false, false));
        assert_eq!(holds(&["live"]), (false, false));
        assert_eq!(holds(&["batch", "batch"]), (false, true));
        assert_eq!(holds(&["batch, live"]), (false, true));
        assert_eq!(holds(&[" batch"]), (false, true));
        assert_eq!(holds(&["live\t"]), (false, true));
        for name in ["x_mode", "x.mode", "x~mode"] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("live"))]);
            assert!(condition.holds(Some(&headers), IfDoubtful::Met), "{name} alone");
            headers.insert("x-mode", HeaderValue::from_static("batch"));
            assert!(!condition.holds(Some(&headers), IfDoubtful::Unmet), "{name} beside it");
        }
        assert!(condition.holds(None, IfDoubtful::Met) && !condition.holds(None, IfDoubtful::Unmet));
    }
}
