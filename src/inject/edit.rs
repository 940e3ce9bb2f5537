//! Changes of a YAML text at places of its tree. Everything else stays as it is, byte for byte: comments, quotes,
//! indentation, the order of keys, also in JSON.

use std::sync::Arc;

use super::shape::{cannot_edit, end_of, first_of, is_flow};
use super::value::{Value, entry_lines, item_lines, json_entry};
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::document::{Kind, Node};

/// Changes that are collected, and made all at once.
#[derive(Debug)]
pub(super) struct Editor<'s> {
    source: &'s Arc<Source>,
    newline: &'static str,
    edits: Vec<Edit>,
    problems: Vec<Diagnostic>,
}

/// A range of bytes of the source, and the text that replaces it.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    from: usize,
    to: usize,
    text: String,
    /// The text belongs to what follows it.
    precedes: bool,
}

impl<'s> Editor<'s> {
    pub(super) fn new(source: &'s Arc<Source>) -> Self {
        let newline = if source.text().contains("\r\n") { "\r\n" } else { "\n" };
        Self { source, newline, edits: Vec::new(), problems: Vec::new() }
    }

    /// Returns the text with every change made.
    pub(super) fn finish(mut self) -> Result<String, Vec<Diagnostic>> {
        // Of changes at one place, the end of an earlier node comes before the text in front of the next node, and that
        // before a replacement of the next node. Otherwise the changes keep their order: those of inner nodes come first.
        self.edits.sort_by_key(|edit| (edit.from, edit.from < edit.to, edit.precedes));
        let (mut text, mut done) = (String::new(), 0);
        for Edit { from, to, text: new, .. } in &self.edits {
            match self.source.text().get(done..*from) {
                Some(kept) => text.push_str(kept),
                None => self.problems.push(cannot_edit(self.source, Span::new(*from, *to))),
            }
            text.push_str(new);
            done = *to;
        }
        text.push_str(self.source.text().get(done..).unwrap_or_default());
        if self.problems.is_empty() { Ok(text) } else { Err(self.problems) }
    }

    /// Adds a document at the end of the stream.
    pub(super) fn append_document(&mut self, value: &Value) {
        let end = self.source.text().len();
        let lines = std::iter::once("---".to_owned()).chain(value.lines());
        let text = self.whole_lines(lines, 0);
        let text = self.after_a_line(end, text);
        self.change(end, end, text);
    }

    /// Replaces a scalar by another.
    pub(super) fn replace_scalar(&mut self, node: &Node<'_>, value: &Value) {
        let text = value.lines().concat();
        self.change(node.span().start(), node.span().end(), text);
    }

    /// Sets a map's key to a scalar: in place of the present value, or as the last entry.
    pub(super) fn set(&mut self, map: &Node<'_>, key: &str, value: &Value) {
        match map.entry(key) {
            Some((_, old)) if matches!(old.kind(), Kind::Scalar { .. }) => self.replace_scalar(old, value),
            Some(_) => self.replace_entry(map, key, key, value),
            None => self.append_entry(map, key, value),
        }
    }

    /// Adds an entry at the end of a map that has others.
    pub(super) fn append_entry(&mut self, map: &Node<'_>, key: &str, value: &Value) {
        if is_flow(self.source, map) {
            return self.append_flow(map, json_entry(key, value));
        }
        let column = self.column(first_of(map));
        let text = self.whole_lines(entry_lines(key, value).into_iter(), column);
        self.append_lines(map, text);
    }

    /// Adds an item at the end of a list that has others.
    pub(super) fn append_item(&mut self, list: &Node<'_>, value: &Value) {
        if is_flow(self.source, list) {
            return self.append_flow(list, value.json());
        }
        let Some(dash) = self.dash(first_of(list)) else { return };
        let text = self.whole_lines(item_lines(value).into_iter(), self.column(dash));
        self.append_lines(list, text);
    }

    /// Adds an entry before another entry of a map, and before the comments above that entry.
    pub(super) fn insert_before(&mut self, map: &Node<'_>, before: &str, key: &str, value: &Value) {
        let Some((next, _)) = map.entry(before) else { return self.append_entry(map, key, value) };
        let (at, column) = (next.span().start(), self.column(next.span().start()));
        let (from, text) = if is_flow(self.source, map) {
            (at, format!("{}, ", json_entry(key, value)))
        } else if self.starts_its_line(at) {
            let lines = entry_lines(key, value).into_iter();
            (self.above_comments(at), self.whole_lines(lines, column))
        } else {
            let lines = self.whole_lines(entry_lines(key, value).into_iter(), column);
            (at, format!("{}{}", lines.trim_start(), " ".repeat(column)))
        };
        self.add(Edit { from, to: from, text, precedes: true });
    }

    /// Replaces an entry by another.
    pub(super) fn replace_entry(&mut self, map: &Node<'_>, old: &str, key: &str, value: &Value) {
        let Some((from, to)) = self.entry_range(map, old) else { return };
        let column = self.column(from);
        let text = match is_flow(self.source, map) {
            true => json_entry(key, value),
            false => {
                let lines = self.whole_lines(entry_lines(key, value).into_iter(), column);
                lines.trim().to_owned()
            }
        };
        self.change(from, to, text);
    }

    /// Removes an entry from a map that has others.
    pub(super) fn remove_entry(&mut self, map: &Node<'_>, key: &str) {
        let Kind::Map(entries) = map.kind() else { return };
        let Some((from, to)) = self.entry_range(map, key) else { return };
        let starts = entries.iter().map(|(key, _)| key.span().start());
        self.remove(starts.collect(), from, to, from, is_flow(self.source, map));
    }

    /// Removes an item from a list that has others.
    pub(super) fn remove_item(&mut self, list: &Node<'_>, index: usize) {
        let Some(item) = list.items().get(index) else { return };
        let flow = is_flow(self.source, list);
        let Some(dash) = (if flow { Some(item.span().start()) } else { self.dash(item.span().start()) })
        else {
            return;
        };
        let starts = list.items().iter().map(|item| item.span().start());
        self.remove(starts.collect(), item.span().start(), end_of(item), dash, flow);
    }

    /// Removes `from..to`, one of the children that start at `starts`, from its collection. `line` is the start of its line.
    fn remove(&mut self, starts: Vec<usize>, from: usize, to: usize, line: usize, flow: bool) {
        let next = starts.iter().find(|start| **start > from).copied();
        if !flow && self.starts_its_line(line) {
            return self.change(self.line_start(line), self.after_line(to), String::new());
        }
        let before = self.source.text().get(..from).unwrap_or_default().trim_end();
        match (next, before.strip_suffix(',')) {
            (Some(next), _) => self.change(from, next, String::new()),
            (None, Some(before)) if flow => self.change(before.len(), to, String::new()),
            _ => self.problems.push(cannot_edit(self.source, Span::new(from, to))),
        }
    }

    /// The range from the start of a key to the end of its value.
    fn entry_range(&self, map: &Node<'_>, key: &str) -> Option<(usize, usize)> {
        let (key, value) = map.entry(key)?;
        let colon = self.source.text().get(key.span().end()..)?.find(':')? + key.span().end() + 1;
        Some((key.span().start(), end_of(value).max(colon)))
    }

    fn append_lines(&mut self, collection: &Node<'_>, text: String) {
        let end = self.end_of_last(collection);
        let text = self.after_a_line(end, text);
        self.change(end, end, text);
    }

    fn append_flow(&mut self, collection: &Node<'_>, text: String) {
        let last = match collection.kind() {
            Kind::List(items) => items.last(),
            Kind::Map(entries) => entries.last().map(|(_, value)| value),
            _ => None,
        };
        match last {
            Some(last) => self.change(end_of(last), end_of(last), format!(", {text}")),
            None => {
                let inside = collection.span().start() + 1;
                self.change(inside, inside, text);
            }
        }
    }

    fn change(&mut self, from: usize, to: usize, text: String) {
        self.add(Edit { from, to, text, precedes: false });
    }

    fn add(&mut self, edit: Edit) {
        // One Service may select two workloads.
        if !self.edits.contains(&edit) {
            self.edits.push(edit);
        }
    }

    /// The lines at an indentation, each with its end.
    fn whole_lines(&self, lines: impl Iterator<Item = String>, indentation: usize) -> String {
        lines.map(|line| format!("{}{line}{}", " ".repeat(indentation), self.newline)).collect()
    }

    /// The text, preceded by the end of a line that has none.
    fn after_a_line(&self, at: usize, text: String) -> String {
        let before = self.source.text().get(..at).unwrap_or_default();
        if before.is_empty() || before.ends_with('\n') { text } else { format!("{}{text}", self.newline) }
    }

    /// The start of the line after a block collection.
    fn end_of_last(&self, collection: &Node<'_>) -> usize {
        let mut last = collection;
        loop {
            last = match last.kind() {
                Kind::List(items) if !items.is_empty() => items.last().unwrap_or(last),
                Kind::Map(entries) => match entries.last() {
                    Some((key, value)) if matches!(value.kind(), Kind::Null) => key,
                    Some((_, value)) => value,
                    None => break,
                },
                _ => break,
            };
        }
        let end = self.after_line(end_of(last).max(collection.span().end()));
        // Empty lines after a text of `|+` belong to the text.
        let header = self.source.text().get(..last.span().start()).unwrap_or_default().trim_end();
        let header = header.lines().last().unwrap_or_default();
        let keeps = header.ends_with('+') && header.contains(['|', '>']);
        let rest = self.source.text().get(end..).unwrap_or_default();
        let empty = rest.split_inclusive('\n').take_while(|line| keeps && line.trim().is_empty());
        end + empty.map(str::len).sum::<usize>()
    }

    /// The `-` of the list item that starts at this place.
    fn dash(&mut self, at: usize) -> Option<usize> {
        let before = self.source.text().get(..at).unwrap_or_default().trim_end();
        let dash = before.strip_suffix('-').map(str::len);
        if dash.is_none() {
            self.problems.push(cannot_edit(self.source, Span::new(at, at + 1)));
        }
        dash
    }

    fn above_comments(&self, at: usize) -> usize {
        let (mut line, column) = (self.source.position(at).line, self.column(at));
        while line > 1 {
            let above = self.source.line(line - 1);
            let text = above.trim_start();
            if !text.starts_with('#') || above.len() - text.len() != column {
                break;
            }
            line -= 1;
        }
        self.source.line_start(line)
    }

    fn starts_its_line(&self, at: usize) -> bool {
        let before = self.source.text().get(self.line_start(at)..at).unwrap_or_default();
        before.trim().is_empty()
    }

    fn line_start(&self, at: usize) -> usize {
        self.source.line_start(self.source.position(at).line)
    }

    fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }

    fn after_line(&self, at: usize) -> usize {
        let rest = self.source.text().get(at..).unwrap_or_default();
        rest.find('\n').map_or(self.source.text().len(), |end| at + end + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{list, map};
    use super::*;
    use crate::document::{Budget, parse};

    /// The text after a change of the map or list at the root's key `a`.
    fn changed(text: &str, change: impl Fn(&mut Editor<'_>, &Node<'_>)) -> String {
        let source = Source::new("t.yaml", text);
        let root = parse(&source, Budget::MANIFESTS).unwrap().unwrap();
        let mut editor = Editor::new(&source);
        change(&mut editor, root.find(&["a"]).unwrap());
        editor.finish().unwrap()
    }

    fn sample() -> Value {
        map([("k", Value::from("v")), ("l", list(["w"]))])
    }

    #[test]
    fn an_entry_is_added_in_the_style_of_its_map() {
        let add = |text: &str| changed(text, |editor, map| editor.append_entry(map, "m", &sample()));
        let block = "    m:\n      k: v\n      l:\n        - w\n";
        assert_eq!(add("a:\n    b: 1 # c\n\nz: 2\n"), format!("a:\n    b: 1 # c\n{block}\nz: 2\n"));
        assert_eq!(add("a:\n    b: |\n      x\nz: 2\n"), format!("a:\n    b: |\n      x\n{block}z: 2\n"));
        assert_eq!(
            add("a:\n    b: |+\n      x\n\nz: 2\n"),
            format!("a:\n    b: |+\n      x\n\n{block}z: 2\n")
        );
        assert_eq!(add("a:\n    b:\n"), format!("a:\n    b:\n{block}"));
        assert_eq!(add("a:\n    b: 1"), format!("a:\n    b: 1\n{block}"));
        assert_eq!(
            add("a:\n    b: [\n      1\n    ]\nz: 2\n"),
            format!("a:\n    b: [\n      1\n    ]\n{block}z: 2\n")
        );
        assert_eq!(add("a:\r\n    b: 1\r\n"), format!("a:\r\n    b: 1\r\n{}", block.replace('\n', "\r\n")));
        let flow = r#""m": {"k": "v", "l": ["w"]}"#;
        assert_eq!(add("a: {b: 1}\n"), format!("a: {{b: 1, {flow}}}\n"));
        assert_eq!(add("a: {}\n"), format!("a: {{{flow}}}\n"));
        assert_eq!(
            add("{\n  \"a\": {\n    \"b\": 1\n  }\n}\n"),
            format!("{{\n  \"a\": {{\n    \"b\": 1, {flow}\n  }}\n}}\n")
        );
    }

    #[test]
    fn an_item_is_added_in_the_style_of_its_list() {
        let add = |text: &str| changed(text, |editor, list| editor.append_item(list, &sample()));
        assert_eq!(add("a:\n- b: 1\nz: 2\n"), "a:\n- b: 1\n- k: v\n  l:\n    - w\nz: 2\n");
        assert_eq!(
            add("a:\n  - {b: 1}\n  # end\n"),
            "a:\n  - {b: 1}\n  - k: v\n    l:\n      - w\n  # end\n"
        );
        assert_eq!(add("a:\n-\n  b: 1\n"), "a:\n-\n  b: 1\n- k: v\n  l:\n    - w\n");
        assert_eq!(add("a: [b]\n"), "a: [b, {\"k\": \"v\", \"l\": [\"w\"]}]\n");
    }

    #[test]
    fn an_entry_comes_before_another_one_and_its_comments() {
        let add = |text: &str| {
            changed(text, |editor, map| editor.insert_before(map, "b", "m", &Value::from(1_u64)))
        };
        assert_eq!(add("a:\n  # about b\n  b: 1\n"), "a:\n  m: 1\n  # about b\n  b: 1\n");
        assert_eq!(add("a: {b: 1}\n"), "a: {\"m\": 1, b: 1}\n");
        let in_item = |text: &str| {
            changed(text, |editor, list| {
                editor.insert_before(&list.items()[0], "b", "m", &Value::from(1_u64))
            })
        };
        assert_eq!(in_item("a:\n- b: 1\n  c: 2\n"), "a:\n- m: 1\n  b: 1\n  c: 2\n");
    }

    #[test]
    fn what_is_taken_out_leaves_its_neighbours() {
        let without = |text: &str| changed(text, |editor, map| editor.remove_entry(map, "b"));
        assert_eq!(without("a:\n  b:\n  - 1 # c\n  # c's\n  c: 2\n"), "a:\n  # c's\n  c: 2\n");
        assert_eq!(without("a: {b: 1, c: 2}\n"), "a: {c: 2}\n");
        assert_eq!(without("a: {c: 2, b: 1}\n"), "a: {c: 2}\n");
        let item = |text: &str, index| changed(text, |editor, list| editor.remove_item(list, index));
        assert_eq!(item("a:\n- b: 1\n  c: 2\n- d\n", 0), "a:\n- d\n");
        assert_eq!(item("a: [1, 2]\n", 1), "a: [1]\n");
        let inner = |text: &str| changed(text, |editor, list| editor.remove_entry(&list.items()[0], "b"));
        assert_eq!(inner("a:\n- b: 1\n  c: 2\n"), "a:\n- c: 2\n");
    }

    #[test]
    fn what_is_replaced_keeps_its_place_and_the_comment_behind_it() {
        let with = |text: &str| changed(text, |editor, map| editor.replace_entry(map, "b", "m", &sample()));
        assert_eq!(
            with("a:\n  b:\n    x: 1 # c\n  c: 2\n"),
            "a:\n  m:\n    k: v\n    l:\n      - w # c\n  c: 2\n"
        );
        assert_eq!(with("a: {b: {x: 1}}\n"), "a: {\"m\": {\"k\": \"v\", \"l\": [\"w\"]}}\n");
        let set = |text: &str| changed(text, |editor, map| editor.set(map, "b", &Value::from(2_u64)));
        assert_eq!(set("a:\n  b: 1 # c\n"), "a:\n  b: 2 # c\n");
        assert_eq!(set("a:\n  b:\n  c: 1\n"), "a:\n  b: 2\n  c: 1\n");
        assert_eq!(set("a:\n  c: 1\n"), "a:\n  c: 1\n  b: 2\n");
    }
}
