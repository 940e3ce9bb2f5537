//! Without the feature `otel` nothing is traced: there can be no tracer, and what would need one is no code at all.

use super::{Begun, Ended, Handshaken, RequestIds};
use crate::trace_context::TraceContext;

/// There is none.
#[derive(Clone, Debug)]
pub enum Tracer {}

/// There is none.
#[derive(Debug)]
pub enum Trace {}

impl Tracer {
    /// Nothing is traced.
    pub fn begin(
        &self,
        _begun: &Begun<'_>,
        _ids: &RequestIds,
        _handshake: impl FnOnce() -> Option<Handshaken>,
    ) -> Option<Box<Trace>> {
        match *self {}
    }

    /// Spans that nobody will see.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        match *self {}
    }
}

impl Trace {
    /// What the backend is told.
    #[must_use]
    pub fn onward(&self) -> TraceContext {
        match *self {}
    }

    /// The client is known.
    pub fn is_of(&mut self, _client: &str) {
        match *self {}
    }

    /// It is decided.
    pub fn decided(&mut self, _rule: Option<&str>) {
        match *self {}
    }

    /// It is over.
    pub fn end(self, _ended: Ended) {
        match self {}
    }
}
