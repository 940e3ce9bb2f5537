//! Texts that others choose, in JSON and in log lines: everything that is not printable is escaped, and long texts are cut.
//!
//! JSON allows marks that reorder text, separators of lines and control characters beyond ASCII as they are. A terminal or a
//! viewer of logs would obey them, and show its reader another record than the one that was written. A `\u` escape in JSON
//! means the same character, so programs read the same value.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The mark at the end of a text that was cut, and at the end of a list of which values are left out.
pub(crate) const CUT: &str = "…";

/// Returns true if a character shows as itself on a screen. Control characters, marks that are invisible or that reorder text,
/// unusual spaces, and characters of no meaning do not.
pub(crate) fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        // The standard library escapes exactly the characters that are not printable, and marks that join the one before.
        _ => !character.is_ascii() && character.escape_debug().next() == Some(character),
    }
}

/// The length of a character inside a text in JSON, as [`escape_json`] leaves it, in bytes.
const fn json_length_of_ascii(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        b' '..=b'~' => 1,
        _ => 6,
    }
}

fn json_length_of(character: char) -> usize {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii() => json_length_of_ascii(byte),
        _ if is_printable(character) => character.len_utf8(),
        _ => 6 * character.len_utf16(),
    }
}

/// The length of a text in JSON, without its quotes, in bytes.
pub(crate) fn json_length(text: &str) -> usize {
    text.chars().map(json_length_of).sum()
}

/// Returns the text, cut if it takes more than `most` bytes in JSON. [`CUT`] ends a text that was cut; `most` has room for it.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    // No byte takes more than six in JSON.
    if text.len().saturating_mul(6) <= most {
        return Cow::Borrowed(text);
    }
    let (mut length, mut kept) = (0, 0);
    for (at, character) in text.char_indices() {
        length += json_length_of(character);
        if length > most {
            let start = text.get(..kept).unwrap_or_default();
            return Cow::Owned([start, CUT].concat());
        }
        if length + CUT.len() <= most {
            kept = at + character.len_utf8();
        }
    }
    Cow::Borrowed(text)
}

/// Returns true if a text or a list of a record was cut.
pub(crate) fn is_cut(text: &str) -> bool {
    text.ends_with(CUT)
}

/// Escapes everything in JSON that is not printable. Outside of its texts, JSON is ASCII; line feeds stand only there.
pub(crate) fn escape_json(json: Vec<u8>) -> Vec<u8> {
    let is_plain = json.iter().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~' | b'\n'));
    if is_plain {
        return json;
    }
    let text = String::from_utf8_lossy(&json);
    let mut escaped = String::with_capacity(text.len() + text.len() / 4);
    for character in text.chars() {
        if character == '\n' || is_printable(character) {
            escaped.push(character);
            continue;
        }
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            // Writing into a String cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped.into_bytes()
}

/// Escapes everything in a line of text that is not printable, line feeds before its end included: they would begin a line of
/// their own.
pub(crate) fn escape_line(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
    let mut escaped = String::with_capacity(line.len());
    for character in text.chars() {
        match is_printable(character) {
            true => escaped.push(character),
            false => escaped.extend(character.escape_default()),
        }
    }
    escaped + end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that no record and no log line may show as they are.
    const ODD: &str = "\u{0}\u{1b}\u{7f}\u{80}\u{9b}\u{a0}\u{ad}\u{200b}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}\u{e000}\u{e0001}";

    #[test]
    fn what_is_not_printable_is_escaped_and_json_keeps_its_value() {
        for plain in ["plain", "größer", "日本", "a\"b\\c", "…"] {
            assert!(plain.chars().all(is_printable), "{plain}");
        }
        assert!(!ODD.chars().any(is_printable));
        let value = ["größer \"日本\"", ODD, "\r\n\t"];
        let json = escape_json(serde_json::to_vec(&value).unwrap());
        let text = std::str::from_utf8(&json).unwrap();
        assert!(text.chars().all(is_printable), "{text:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(text).unwrap(), value);
        assert_eq!(escape_line("a\nb\u{202e}c\n".as_bytes()), "a\\nb\\u{202e}c\n");
    }

    #[test]
    fn a_text_is_cut_by_its_length_in_json_with_a_mark() {
        for (text, most, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "lo…"),
            ("éééé", 8, "éééé"),
            ("ééééé", 8, "éé…"),
            ("\"\"\"\"", 7, "\"\"…"),
            ("\u{202e}\u{202e}", 12, "\u{202e}\u{202e}"),
            ("\u{202e}\u{202e}", 11, "\u{202e}…"),
            ("\u{e0001}", 11, "…"),
            ("", 3, ""),
        ] {
            let shown = cut(text, most);
            assert_eq!(shown, expected, "{text:?}");
            assert_eq!(is_cut(&shown), shown != text);
        }
        let every: String = ('\u{0}'..'\u{3000}').chain('\u{e0000}'..'\u{e0100}').collect();
        for character in every.chars() {
            let text = character.to_string();
            let json = escape_json(serde_json::to_vec(&text).unwrap());
            assert_eq!(json_length(&text) + 2, json.len(), "{character:?}");
        }
    }
}
