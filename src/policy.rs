//! stub
use crate::diagnostic::{Diagnostic, Source};
use crate::identity::Identity;
use crate::target::Target;
use std::net::IpAddr;
use std::sync::Arc;
/// s
#[derive(Debug)]
pub struct Policy;
/// s
#[derive(Debug)]
pub struct Rights;
/// s
#[derive(Debug)]
pub struct Question<'a> {
    /** s */
    pub target: &'a Target,
    /** s */
    pub headers: &'a http::HeaderMap,
    /** s */
    pub source: IpAddr,
    /** s */
    pub now: jiff::Timestamp,
    /** s */
    pub upgrade: Option<&'a str>,
}
/// s
#[derive(Debug)]
pub struct Permit(Arc<Rule>);
/// s
#[derive(Debug)]
pub struct Denied;
/// s
#[derive(Debug)]
pub struct Rule {
    /** s */
    pub name: String,
    /** s */
    pub file: String,
    /** s */
    pub line: usize,
}
impl Policy {
    /// s
    pub fn compile(_: &[Arc<Source>]) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
        Ok((Self, vec![]))
    }
    /// s
    pub fn rights(&self, _: &Identity) -> Rights {
        Rights
    }
    /// s
    pub fn authorize(&self, _: &Rights, q: &Question<'_>) -> Result<Permit, Denied> {
        if q.target.method() == http::Method::POST && q.target.path() == "/events/1" {
            Err(Denied)
        } else if q.target.method() == http::Method::DELETE {
            Err(Denied)
        } else {
            Ok(Permit(Arc::new(Rule { name: "x".into(), file: "f".into(), line: 1 })))
        }
    }
    /// s
    pub fn allows_nothing(&self) -> bool {
        false
    }
}
impl Permit {
    /** s */
    pub fn rule(&self) -> &Arc<Rule> {
        &self.0
    }
}
impl Denied {
    /** s */
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        None
    }
}
impl Rights {
    /** s */
    pub fn clients(&self) -> Vec<String> {
        vec![]
    }
}
