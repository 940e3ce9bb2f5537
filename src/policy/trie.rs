//! The tree of all routes of a policy, by the segments of their paths. Each decision walks the tree once, so that the cost of
//! a decision does not grow with the number of routes.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use foldhash::fast::FixedState;
use http::Method;

use super::RouteTimeouts;
use super::condition::{HeaderCondition, QueryCondition};
use super::host::HostPattern;
use super::route::{Glob, KNOWN_METHODS, Methods, Route, Segment, Variable, method_bit};
use crate::target::Segments;

/// The tree of routes. The entries for a path stand at the node where the path ends, and at each `**` on the way there.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Box<[Node]>,
    entries: Box<[Entry]>,
    conditions: Box<[RouteConditions]>,
    methods: MethodBits,
}

/// A route of a permission, at the node where the route's path ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) permission: u32,
    conditions: u32,
    methods: u64,
}

/// The conditions of a route beyond its methods and the shape of its path, and what else it gives. Most routes have none.
#[derive(Debug, Default)]
pub(super) struct RouteConditions {
    /// Segments, by index, that must equal the value of a variable (`{client.NAME}`).
    pub(super) variables: Box<[(usize, Variable)]>,
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) query: Box<[QueryCondition]>,
    pub(super) headers: Box<[HeaderCondition]>,
    pub(super) upgrade: bool,
    pub(super) timeouts: RouteTimeouts,
}

/// The index of an entry without [`RouteConditions`].
const NO_CONDITIONS: u32 = u32::MAX;

#[derive(Debug, Default)]
struct Node {
    literals: Literals,
    globs: Option<Box<Globs>>,
    /// Child for any segment that is not empty; 0 for none, because node 0 is the root, which is no node's child.
    any: u32,
    /// Entries of routes whose path ends here.
    ends: Range<u32>,
    /// Entries of routes whose path ends here with `**`.
    rest: Range<u32>,
}

#[derive(Debug)]
enum Literals {
    Few(Box<[(Box<[u8]>, u32)]>),
    Many(HashMap<Box<[u8]>, u32, FixedState>),
}

/// The most literals that are compared one by one. With more, a hash table is faster.
const FEW: usize = 6;

/// The segments with `*` below a node, found by the bytes that they start with.
#[derive(Debug, Default)]
struct Globs {
    /// Lengths of the prefixes that occur, ascending.
    lengths: Box<[usize]>,
    by_prefix: HashMap<Box<[u8]>, Vec<(Glob, u32)>, FixedState>,
}

impl Trie {
    /// Returns the conditions of an entry's route, if the route has any.
    pub(super) fn conditions(&self, entry: &Entry) -> Option<&RouteConditions> {
        self.conditions.get(entry.conditions as usize)
    }

    /// Returns the bit that stands for a method.
    pub(super) fn bit(&self, method: &Method) -> u64 {
        self.methods.bit(method)
    }

    /// Visits the entries of every node that matches the path, until `visit` breaks. The entries of one node are sorted by
    /// permission.
    pub(super) fn walk<'t, B>(
        &'t self,
        segments: Segments<'_>,
        mut visit: impl FnMut(&'t [Entry]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match self.nodes.first() {
            Some(root) => self.step(root, segments, &mut visit),
            None => ControlFlow::Continue(()),
        }
    }

    fn step<'t, B>(
        &'t self,
        node: &'t Node,
        mut segments: Segments<'_>,
        visit: &mut impl FnMut(&'t [Entry]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.visit(&node.rest, visit)?;
        let Some(segment) = segments.next() else { return self.visit(&node.ends, visit) };
        if let Some(child) = node.literals.find(segment) {
            self.descend(child, segments.clone(), visit)?;
        }
        if node.any != 0 && !segment.is_empty() {
            self.descend(node.any, segments.clone(), visit)?;
        }
        if let Some(globs) = &node.globs {
            for child in globs.matching(segment) {
                self.descend(child, segments.clone(), visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn descend<'t, B>(
        &'t self,
        child: u32,
        segments: Segments<'_>,
        visit: &mut impl FnMut(&'t [Entry]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match self.nodes.get(child as usize) {
            Some(node) => self.step(node, segments, visit),
            None => ControlFlow::Continue(()),
        }
    }

    fn visit<'t, B>(
        &'t self,
        range: &Range<u32>,
        visit: &mut impl FnMut(&'t [Entry]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if range.is_empty() {
            return ControlFlow::Continue(());
        }
        visit(self.entries.get(range.start as usize..range.end as usize).unwrap_or_default())
    }
}

impl Entry {
    pub(super) const fn allows(&self, bit: u64) -> bool {
        self.methods & bit != 0
    }
}

impl Default for Literals {
    fn default() -> Self {
        Self::Few(Box::default())
    }
}

impl Literals {
    fn find(&self, segment: &[u8]) -> Option<u32> {
        match self {
            Self::Few(few) => few.iter().find(|(literal, _)| **literal == *segment).map(|(_, child)| *child),
            Self::Many(many) => many.get(segment).copied(),
        }
    }
}

impl Globs {
    fn matching<'g>(&'g self, segment: &'g [u8]) -> impl Iterator<Item = u32> + 'g {
        let prefixes = self.lengths.iter().map_while(|length| segment.get(..*length));
        let candidates = prefixes.filter_map(|prefix| self.by_prefix.get(prefix)).flatten();
        candidates.filter(|(glob, _)| glob.matches(segment)).map(|(_, child)| *child)
    }
}

/// The bits of methods: one for each method that a route names, and one for all other methods.
#[derive(Debug, Default)]
struct MethodBits {
    /// Methods that routes name beyond the nine well-known methods, in the order of their bits.
    others: Vec<Method>,
}

/// The bit of all methods that no route names. Only routes for `*` have this bit.
const OTHER: u64 = 1 << 63;

impl MethodBits {
    fn bit(&self, method: &Method) -> u64 {
        match method_bit(method) {
            Some(bit) => u64::from(bit),
            None => self
                .others
                .iter()
                .position(|other| other == method)
                .map_or(OTHER, |at| 1 << (at + KNOWN_METHODS.len())),
        }
    }

    fn mask(&mut self, methods: &Methods) -> u64 {
        let Methods::Listed { known, others } = methods else { return u64::MAX };
        others.iter().fold(u64::from(*known), |mask, method| mask | self.intern(method))
    }

    fn intern(&mut self, method: &Method) -> u64 {
        if !self.others.contains(method) {
            self.others.push(method.clone());
        }
        self.bit(method)
    }
}

/// The most methods beyond the well-known ones that the routes of one policy may name: each has a bit of a `u64`.
pub(super) const MAX_OTHER_METHODS: usize = 50;

/// A tree under construction.
#[derive(Debug)]
pub(super) struct TrieBuilder {
    nodes: Vec<NodeBuilder>,
    conditions: Vec<RouteConditions>,
    methods: MethodBits,
}

#[derive(Debug, Default)]
struct NodeBuilder {
    literals: HashMap<Box<[u8]>, u32, FixedState>,
    globs: HashMap<Glob, u32, FixedState>,
    any: u32,
    ends: Vec<Entry>,
    rest: Vec<Entry>,
}

impl TrieBuilder {
    pub(super) fn new() -> Self {
        Self { nodes: vec![NodeBuilder::default()], conditions: Vec::new(), methods: MethodBits::default() }
    }

    /// Adds a route of the permission with this number.
    pub(super) fn add(&mut self, permission: u32, route: &Route) {
        let mut at = 0;
        for segment in &route.path.segments {
            at = self.child(at, segment);
        }
        let entry = Entry {
            permission,
            conditions: self.conditions(route),
            methods: self.methods.mask(&route.methods),
        };
        if let Some(node) = self.nodes.get_mut(at as usize) {
            if route.path.rest { node.rest.push(entry) } else { node.ends.push(entry) }
        }
    }

    fn child(&mut self, at: u32, segment: &Segment) -> u32 {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let Some(node) = self.nodes.get_mut(at as usize) else { return 0 };
        let child = match segment {
            Segment::Literal(bytes) => match node.literals.get(bytes) {
                Some(child) => *child,
                None => *node.literals.entry(bytes.clone()).or_insert(next),
            },
            Segment::Glob(glob) => *node.globs.entry(glob.clone()).or_insert(next),
            Segment::Any | Segment::Client(_) => {
                if node.any == 0 {
                    node.any = next;
                }
                node.any
            }
        };
        if child == next {
            self.nodes.push(NodeBuilder::default());
        }
        child
    }

    fn conditions(&mut self, route: &Route) -> u32 {
        let variables = route.path.segments.iter().enumerate().filter_map(|(index, segment)| match segment {
            Segment::Client(variable) => Some((index, variable.clone())),
            _ => None,
        });
        let variables: Box<[(usize, Variable)]> = variables.collect();
        if variables.is_empty() && !route.is_conditional() && !route.upgrade && route.timeouts.is_empty() {
            return NO_CONDITIONS;
        }
        let (hosts, query, headers) = (route.hosts.clone(), route.query.clone(), route.headers.clone());
        let (upgrade, timeouts) = (route.upgrade, route.timeouts);
        self.conditions.push(RouteConditions { variables, hosts, query, headers, upgrade, timeouts });
        u32::try_from(self.conditions.len() - 1).unwrap_or(NO_CONDITIONS)
    }

    pub(super) fn finish(self) -> Trie {
        let mut entries = Vec::new();
        let nodes = self.nodes.into_iter().map(|node| node.finish(&mut entries)).collect();
        Trie { nodes, entries: entries.into(), conditions: self.conditions.into(), methods: self.methods }
    }
}

impl NodeBuilder {
    fn finish(self, entries: &mut Vec<Entry>) -> Node {
        let literals = match self.literals.len() {
            0..=FEW => Literals::Few(self.literals.into_iter().collect()),
            _ => Literals::Many(self.literals),
        };
        let globs = (!self.globs.is_empty()).then(|| Box::new(Globs::of(self.globs)));
        Node {
            literals,
            globs,
            any: self.any,
            ends: moved(self.ends, entries),
            rest: moved(self.rest, entries),
        }
    }
}

impl Globs {
    fn of(globs: HashMap<Glob, u32, FixedState>) -> Self {
        let mut found = Self::default();
        for (glob, child) in globs {
            found.by_prefix.entry(glob.prefix().into()).or_default().push((glob, child));
        }
        let mut lengths: Vec<usize> = found.by_prefix.keys().map(|prefix| prefix.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        found.lengths = lengths.into();
        found
    }
}

fn moved(mut own: Vec<Entry>, entries: &mut Vec<Entry>) -> Range<u32> {
    own.sort_by_key(|entry| entry.permission);
    let start = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    entries.append(&mut own);
    start..u32::try_from(entries.len()).unwrap_or(u32::MAX)
}
