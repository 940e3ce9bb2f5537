//! The playground: a question (who, what, when) to the running policy, or to one that is tried out. It changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Answer, json as answered};
use super::ApiContext;
use crate::client_headers;
use crate::diagnostic::{Diagnostic, Source};
use crate::identity::{Attribute, Identity, Unauthenticated, judge};
use crate::live::Live;
use crate::pem;
use crate::policy::explanation::explanation;
use crate::policy::identity_text::parse_identity;
use crate::policy::lint::lint;
use crate::policy::test_run::{DEFAULT_SOURCE, trace_lines};
use crate::policy::trace::Evaluation;
use crate::policy::{self, Model, Policy};
use crate::target::{Target, TargetRules, is_host};

/// A question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuestion {
    /// The client, by the attributes of a certificate, as `common_name=order-producer,organization=Shop`.
    #[serde(default)]
    client: Option<String>,
    /// The client, by a certificate and its intermediates in PEM, judged as the proxy would judge them.
    #[serde(default)]
    certificate: Option<String>,
    /// The request; without one, only the policy is checked.
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    /// The host that the request names.
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    upgrade: Option<String>,
    #[serde(default)]
    source: Option<IpAddr>,
    /// The time; now, if none is given.
    #[serde(default)]
    at: Option<Timestamp>,
    /// Files of the policy, by their names, with their new content.
    #[serde(default)]
    edited: BTreeMap<String, String>,
}

/// The request of a question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: String,
    pub(super) host: Option<String>,
    /// Headers as they are judged, after stripping.
    pub(super) headers: HeaderMap,
    pub(super) source: IpAddr,
    pub(super) now: Timestamp,
    pub(super) upgrade: Option<String>,
    pub(super) rules: TargetRules,
}

/// The policy's answer to a question, with everything that speaks for and against it.
///
/// # Errors
/// The proxy would never judge this request.
pub(super) fn explained(
    model: &Model,
    policy: &Policy,
    identity: &Identity,
    question: &Question,
) -> Result<Value, String> {
    let target = Target::from_text(&question.request, question.rules)
        .map_err(|flaw| format!("`{}` is never judged: {flaw}", question.request))?;
    let asked = policy::Question {
        target: &target,
        host: question.host.as_deref().into(),
        headers: Some(&question.headers),
        source: question.source,
        now: question.now,
        upgrade: question.upgrade.as_deref().map(policy::Upgrade::from_name),
    };
    let verdict = policy.authorize(&policy.rights(identity), &asked);
    let evaluation = Evaluation { model, identity, question: &asked };
    let mut told = explanation(&verdict, evaluation);
    if let Some(told) = told.as_object_mut() {
        told.insert("facts".to_owned(), json!(trace_lines(evaluation)));
    }
    Ok(told)
}

/// Answers a question.
pub(super) fn answer(context: &ApiContext, asked: ExplainQuestion) -> Answer {
    let live = context.running.live();
    let now = asked.at.unwrap_or_else(Timestamp::now);
    let (tried, problems) = match asked.edited.is_empty() {
        true => (None, Vec::new()),
        false => tried(&live, &asked.edited, now),
    };
    let is_valid = asked.edited.is_empty() || tried.is_some();
    let certificate = asked.certificate.as_deref().map(|pem| Presented::of(pem, &live, now));
    let mut said = json!({
        "generation": live.generation,
        "valid": is_valid,
        "problems": problems.iter().map(Diagnostic::json).collect::<Vec<_>>(),
        "certificate": certificate.as_ref().map(Presented::json),
    });
    let explained =
        is_valid.then(|| asked.put(context, &live, tried.as_ref(), certificate.as_ref(), now)).flatten();
    let (explanation, unexplained) = match explained {
        Some(Ok(explanation)) => (Some(explanation), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    if let Some(said) = said.as_object_mut() {
        said.insert("explanation".to_owned(), json!(explanation));
        said.insert("unexplained".to_owned(), json!(unexplained));
    }
    answered(StatusCode::OK, &said)
}

/// The running policy, with the new content of some of its files.
fn tried(
    live: &Live,
    edited: &BTreeMap<String, String>,
    now: Timestamp,
) -> (Option<(Model, Policy)>, Vec<Diagnostic>) {
    let sources: Vec<Arc<Source>> = live
        .sources
        .iter()
        .map(|source| match edited.get(source.name()) {
            Some(text) => Source::new(source.name(), text.as_str()),
            None => Arc::clone(source),
        })
        .collect();
    match policy::model(&sources) {
        Ok((model, _)) => {
            let warnings = lint(&model, now);
            let policy = Policy::of(model.clone());
            (Some((model, policy)), warnings)
        }
        Err(problems) => (None, problems),
    }
}

impl ExplainQuestion {
    /// The request; `None` if the question has none.
    fn put(
        &self,
        context: &ApiContext,
        live: &Live,
        tried: Option<&(Model, Policy)>,
        certificate: Option<&Presented>,
        now: Timestamp,
    ) -> Option<Result<Value, String>> {
        let (method, path) = (self.method.as_deref()?, self.path.as_deref()?);
        let question = Question {
            request: format!("{method} {path}"),
            host: match host(self.host.as_deref()) {
                Ok(host) => host,
                Err(why) => return Some(Err(why)),
            },
            headers: match headers(&self.headers, live) {
                Ok(headers) => headers,
                Err(why) => return Some(Err(why)),
            },
            source: self.source.unwrap_or(DEFAULT_SOURCE),
            now,
            upgrade: self.upgrade.clone(),
            rules: live.paths,
        };
        let identity = match (certificate, &self.client) {
            (Some(presented), _) => presented.identity.clone(),
            (None, Some(text)) => match parse_identity(text) {
                Ok(identity) => Some(identity),
                Err(problem) => return Some(Err(told(&problem))),
            },
            (None, None) => None,
        };
        let identity = identity?;
        Some(match tried {
            Some((model, policy)) => explained(model, policy, &identity, &question),
            None => match context.models.of(live) {
                Some(matrix) => explained(&matrix.model, &live.policy, &identity, &question),
                None => Err("the policy could not be read again".to_owned()),
            },
        })
    }
}

fn told(problem: &Diagnostic) -> String {
    match &problem.help {
        Some(help) => format!("{}; {help}", problem.message),
        None => problem.message.clone(),
    }
}

fn host(written: Option<&str>) -> Result<Option<String>, String> {
    let Some(text) = written.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    match is_host(text) {
        true => Ok(Some(text.to_owned())),
        false => Err(format!(
            "`{text}` is not the host of a request; write it as clients send it, as in `shop.example:8443`"
        )),
    }
}

fn headers(written: &BTreeMap<String, String>, live: &Live) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        let (name, value) = header.ok_or_else(|| format!("`{name}` is no header"))?;
        if name == HOST {
            return Err(format!("`{name}` is no header to a policy; name the host in `host`"));
        }
        headers.append(name, value);
    }
    client_headers::strip(&mut headers, &live.identity_headers.stripped, client_headers::Sender::Client);
    Ok(headers)
}

/// A certificate that was pasted.
struct Presented {
    verdict: Result<Timestamp, String>,
    /// The content of the certificate, valid or not.
    identity: Option<Identity>,
}

impl Presented {
    fn of(text: &str, live: &Live, now: Timestamp) -> Self {
        let chain = match pem::certificates(text.as_bytes()) {
            Ok(chain) => chain,
            Err(flaw) => return Self::unread(format!("there is no certificate that can be read: {flaw}")),
        };
        let verdict = judge(&chain, &live.trust, now).map(|valid| valid.valid_until);
        Self {
            verdict: verdict.map_err(|because| match because {
                Unauthenticated::Invalid(flaw) => flaw.to_string(),
                Unauthenticated::NoCertificate => "there is no certificate".to_owned(),
            }),
            identity: chain.first().and_then(|leaf| Identity::from_certificate(leaf).ok()),
        }
    }

    const fn unread(why: String) -> Self {
        Self { verdict: Err(why), identity: None }
    }

    fn json(&self) -> Value {
        let values = |attribute: Attribute| -> Vec<&str> {
            self.identity.iter().flat_map(|identity| identity.values(attribute)).collect()
        };
        let identity: Map<String, Value> = Attribute::ALL
            .into_iter()
            .map(|attribute| (attribute.name().to_owned(), values(attribute)))
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| (name, json!(values)))
            .collect();
        json!({
            "valid": self.verdict.is_ok(),
            "valid_until": self.verdict.as_ref().ok(),
            "detail": self.verdict.as_ref().err(),
            "identity": identity,
        })
    }
}
