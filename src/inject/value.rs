//! Values to be written into a manifest: a small tree, as lines of YAML or as JSON on one line.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// A value to be written. Keys keep the order in which they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Yes,
    No,
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// A map.
pub(super) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A list.
pub(super) fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::List(items.into_iter().map(Into::into).collect())
}

/// The entries of a map.
pub(super) fn fields(map: Value) -> Vec<(String, Value)> {
    match map {
        Value::Map(entries) => entries,
        _ => Vec::new(),
    }
}

impl Value {
    /// Returns the same map with one more entry.
    pub(super) fn with(mut self, key: &str, value: impl Into<Self>) -> Self {
        if let Self::Map(entries) = &mut self {
            entries.push((key.to_owned(), value.into()));
        }
        self
    }

    /// The value as lines of block YAML, without an indentation of their own.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                entries.iter().flat_map(|(key, value)| entry_lines(key, value)).collect()
            }
            Self::List(items) if !items.is_empty() => items.iter().flat_map(item_lines).collect(),
            other => vec![other.inline()],
        }
    }

    /// A scalar or an empty collection, as it is written behind a key.
    fn inline(&self) -> String {
        match self {
            Self::Text(text) if is_plain(text) => text.clone(),
            other => other.json(),
        }
    }

    /// The value as JSON on one line, which is YAML as well.
    pub(super) fn json(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Number(number) => number.to_string(),
            Self::Yes => "true".to_owned(),
            Self::No => "false".to_owned(),
            Self::List(items) => format!("[{}]", joined(items.iter().map(Self::json))),
            Self::Map(entries) => format!("{{{}}}", joined(entries.iter().map(|(k, v)| json_entry(k, v)))),
        }
    }
}

/// The lines of one entry of a block map.
pub(super) fn entry_lines(key: &str, value: &Value) -> Vec<String> {
    let key = if is_plain(key) { key.to_owned() } else { quoted(key) };
    let is_block = match value {
        Value::Map(entries) => !entries.is_empty(),
        Value::List(items) => !items.is_empty(),
        _ => false,
    };
    if !is_block {
        return vec![format!("{key}: {}", value.inline())];
    }
    let below = value.lines().into_iter().map(|line| format!("  {line}"));
    std::iter::once(format!("{key}:")).chain(below).collect()
}

/// The lines of one item of a block list.
pub(super) fn item_lines(item: &Value) -> Vec<String> {
    let dashes = std::iter::once("- ").chain(std::iter::repeat("  "));
    item.lines().into_iter().zip(dashes).map(|(line, dash)| format!("{dash}{line}")).collect()
}

/// An entry of a flow map.
pub(super) fn json_entry(key: &str, value: &Value) -> String {
    format!("{}: {}", quoted(key), value.json())
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for (index, part) in parts.enumerate() {
        let _ = write!(text, "{}{part}", if index == 0 { "" } else { ", " });
    }
    text
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// `true` if a text needs no quotes: no reader of YAML 1.1 or 1.2 takes it for anything but a text.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 12] =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"];
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | '=' | '@');
    let is_first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        || text.starts_with("--") && text != "---";
    let is_number = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '_' | '-'))
        || text.parse::<f64>().is_ok()
        || text.starts_with("0x")
        || text.starts_with("0o")
        || text.starts_with("0b");
    is_first
        && !is_number
        && text.chars().all(is_safe)
        && !text.ends_with(':')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_where_it_would_be_read_as_something_else() {
        for plain in ["sidegate:1.2", "a/b", "25s", "192Mi", "--config=/a/b.yaml", "/sidegate", "http://a:1"]
        {
            assert_eq!(Value::from(plain).lines(), [plain]);
        }
        for other in
            ["", "yes", "Off", "12", "1.5", "1e3", "0x1F", "0.0.0.0:80", "a: b", "a:", "- a", "{a}", "*"]
        {
            assert_eq!(Value::from(other).lines(), [format!("{other:?}")]);
        }
    }

    #[test]
    fn blocks_are_indented_by_two() {
        let value =
            map([("a", list([map([("b", Value::from(1_u64)), ("c", list(["d"]))])])), ("e", map([]))]);
        assert_eq!(value.lines(), ["a:", "  - b: 1", "    c:", "      - d", "e: {}"]);
        assert_eq!(value.json(), r#"{"a": [{"b": 1, "c": ["d"]}], "e": {}}"#);
    }
}
