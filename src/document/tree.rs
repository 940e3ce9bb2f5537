//! The building of the tree from the YAML parser's events, within a budget. Aliases are copied, and `<<` merges are
//! applied. No function here recurses, so that no document can exhaust the stack.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, Tag};

use super::{Budget, Documents, Kind, Node, syntax};
use crate::diagnostic::{Code, Diagnostic, Place, Source, Span};

/// Reads the whole source. Documents without a value are left out.
pub(super) fn build(
    source: &Arc<Source>,
    budget: Budget,
    allowed: Documents,
) -> Result<Vec<Node<'_>>, Diagnostic> {
    let options =
        granit_parser::options! { flow_nesting_limit: budget.depth, block_nesting_limit: budget.depth };
    let mut builder = Builder {
        source,
        budget,
        allowed,
        nodes: 0,
        repeated: 0,
        documents: 0,
        open: Vec::new(),
        anchors: HashMap::new(),
        roots: Vec::new(),
    };
    for event in Parser::new_from_str_with_options(source.text(), options) {
        let (event, span) = event.map_err(|error| syntax::explain(source, &error))?;
        builder.take(event, span)?;
    }
    builder.roots.retain(|root| !matches!(root.kind, Kind::Null));
    Ok(builder.roots)
}

/// The nodes that aliases may repeat in all, in a document of any size: enough for any honest reuse of lists.
const MOST_REPEATED: usize = 200_000;

/// A tree that is being built.
struct Builder<'s> {
    source: &'s Arc<Source>,
    budget: Budget,
    allowed: Documents,
    /// The number of nodes, with those that aliases repeat.
    nodes: usize,
    /// The number of nodes that aliases repeat.
    repeated: usize,
    documents: usize,
    open: Vec<Open<'s>>,
    anchors: HashMap<usize, Anchored<'s>>,
    roots: Vec<Node<'s>>,
}

/// A list or map whose end is not reached yet.
struct Open<'s> {
    start: usize,
    anchor: usize,
    /// The number of nodes before the list or map.
    before: usize,
    /// The number of levels below, so far.
    height: usize,
    content: Content<'s>,
}

enum Content<'s> {
    List(Vec<Node<'s>>),
    Map { entries: Vec<(Node<'s>, Node<'s>)>, key: Option<Node<'s>> },
}

fn is_merge((key, _): &(Node<'_>, Node<'_>)) -> bool {
    matches!(&key.kind, Kind::Scalar { text, plain: true } if text == "<<")
}

/// A node that aliases repeat.
struct Anchored<'s> {
    node: Node<'s>,
    nodes: usize,
    height: usize,
}

impl<'s> Builder<'s> {
    fn take(&mut self, event: Event<'s>, span: granit_parser::Span) -> Result<(), Diagnostic> {
        let span = span.byte_range().map(|range| Span::new(range.start, range.end)).unwrap_or_default();
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag.as_deref(), span),
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", span)?;
                self.start(anchor, span, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", span)?;
                self.start(anchor, span, Content::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 && self.allowed == Documents::One {
                    Err(self.wrong(span, syntax::one_document()))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'s, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Diagnostic> {
        self.count(1, 0, span)?;
        self.check_tag(tag, "str", span)?;
        let plain = style == ScalarStyle::Plain && tag.is_none();
        let nothing = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
        let written = self.source.slice(span).trim_end().len();
        let span = Span::new(span.start(), span.start() + written);
        let node = Node { span, kind: if nothing { Kind::Null } else { Kind::Scalar { text, plain } } };
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes: 1, height: 0 });
        }
        self.put(node, 0);
        Ok(())
    }

    fn start(&mut self, anchor: usize, span: Span, content: Content<'s>) -> Result<(), Diagnostic> {
        self.count(1, 1, span)?;
        self.open.push(Open { start: span.start(), anchor, before: self.nodes - 1, height: 0, content });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), Diagnostic> {
        let Some(Open { start, anchor, before, height, content }) = self.open.pop() else { return Ok(()) };
        let (kind, last) = match content {
            Content::List(mut items) => {
                // Most lists have one item, and there may be a hundred thousand of them.
                items.shrink_to_fit();
                let last = items.last().map_or(0, |item| item.span.end());
                (Kind::List(items), last)
            }
            Content::Map { entries, .. } => {
                let last = entries.last().map_or(0, |(_, value)| value.span.end());
                let mut entries = self.merged(entries)?;
                entries.shrink_to_fit();
                (Kind::Map(entries), last)
            }
        };
        // A flow collection ends with its bracket; a block ends with its last value, not where the next one starts.
        let end = if self.source.slice(span).ends_with([']', '}']) { span.end() } else { last };
        let node = Node { span: Span::new(start, end.max(start)), kind };
        if anchor != 0 {
            let nodes = self.nodes - before;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, height: height + 1 });
        }
        self.put(node, height + 1);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Diagnostic> {
        let Some(Anchored { nodes, height, .. }) = self.anchors.get(&anchor) else {
            return Err(self.wrong(span, syntax::alias_of_itself()));
        };
        let (nodes, height) = (*nodes, *height);
        self.repeated = self.repeated.saturating_add(nodes);
        if self.repeated > MOST_REPEATED {
            return Err(self.wrong(span, syntax::expansion()));
        }
        self.count(nodes, height, span)?;
        if let Some(Anchored { node, .. }) = self.anchors.get(&anchor) {
            let node = node.clone();
            self.put(node, height);
        }
        Ok(())
    }

    fn put(&mut self, node: Node<'s>, height: usize) {
        let Some(open) = self.open.last_mut() else {
            self.roots.push(node);
            return;
        };
        open.height = open.height.max(height);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
        }
    }

    /// Adds the entries of `<<`. An entry of the map itself wins over one of `<<`.
    fn merged(&self, entries: Vec<(Node<'s>, Node<'s>)>) -> Result<Vec<(Node<'s>, Node<'s>)>, Diagnostic> {
        if !entries.iter().any(is_merge) {
            return Ok(entries);
        }
        let (merges, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_merge);
        let mut said: HashSet<String> =
            entries.iter().filter_map(|(key, _)| key.text().map(str::to_owned)).collect();
        for (key, value) in merges {
            let maps = match value.kind {
                Kind::List(items) => items,
                _ => vec![value],
            };
            for map in maps {
                let Kind::Map(more) = map.kind else {
                    return Err(self.wrong(key.span, syntax::merge_of_no_map()));
                };
                entries.extend(more.into_iter().filter(|(key, _)| match key.text() {
                    Some(text) => said.insert(text.to_owned()),
                    None => true,
                }));
            }
        }
        Ok(entries)
    }

    /// Counts nodes of a height in levels at the present depth, and refuses them beyond the budget.
    fn count(&mut self, nodes: usize, height: usize, span: Span) -> Result<(), Diagnostic> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.open.len() + height > self.budget.depth {
            return Err(self.wrong(span, syntax::nested()));
        }
        if self.nodes > self.budget.nodes {
            return Err(self.wrong(span, syntax::too_many()));
        }
        Ok(())
    }

    /// Refuses tags, because they change the meaning of a value; a tag that names the kind that the value has anyway passes.
    fn check_tag(&self, tag: Option<&Tag>, own: &str, span: Span) -> Result<(), Diagnostic> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema_tag(own) => {
                Err(self.wrong(span, syntax::no_tags(&tag.original())))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, span: Span, (message, help): syntax::Words) -> Diagnostic {
        Diagnostic::error(Code::YamlSyntax, message).at(Place::new(self.source, span)).maybe_help(help)
    }
}
