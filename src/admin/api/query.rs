//! The query of a request: names and values, percent-encoded.

/// Names and values, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decoded(name), decoded(value)))
                .collect(),
        )
    }

    /// The first value of a name; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The words that are searched for, in lower case.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        self.text(name).split_whitespace().map(str::to_lowercase).collect()
    }

    /// A number, within bounds.
    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> usize {
        self.text(name).parse().unwrap_or(default).min(most)
    }
}

/// `true` if a text has all these words.
pub(super) fn has_all(text: &str, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(word.as_str()))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped =
            after.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (byte, escaped) {
            (b'%', Some(escaped)) => {
                bytes.push(escaped);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_once() {
        let query = Query::of(Some("q=a%20b+C&&limit=7&x=%2525&bad=%zz&name"));
        assert_eq!(query.text("q"), "a b C");
        assert_eq!(query.words("q"), ["a", "b", "c"]);
        assert_eq!((query.number("limit", 1, 5), query.number("none", 1, 5)), (5, 1));
        assert_eq!((query.text("x"), query.text("bad"), query.text("name")), ("%25", "%zz", ""));
        assert!(has_all("Alpha Beta", &query.words("none")) && !has_all("Alpha", &["beta".to_owned()]));
    }
}
