//! The last refusals, and the explanation of each.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::body::{Answer, compact, json as answered};
use super::explain::{Question, explained};
use super::query::{Query, has_all};
use super::{ApiContext, nothing};
use crate::identity::Identity;
use crate::refusal::Reason;
use crate::telemetry::Refused;

/// Most refusals of one answer.
const MAX_REFUSALS: usize = 1_000;

/// The last refusals, the newest first: those with `reason`, if it is given, that have all words of `q`.
pub(super) fn list(context: &ApiContext, query: &Query) -> Answer {
    let (words, reason) = (query.words("q"), query.text("reason"));
    let all = context.running.refusals();
    let kept = all.len();
    let such = all.iter().filter(|refused| {
        let row = refused.reason.row();
        (reason.is_empty() || reason == row.reason || reason == row.status.as_str())
            && has_all(&text(refused), &words)
    });
    let found: Vec<Value> = such
        .take(query.number("limit", MAX_REFUSALS, MAX_REFUSALS))
        .map(|refused| refusal(refused))
        .collect();
    compact(&json!({ "kept": kept, "refusals": found }))
}

/// The text that is searched.
fn text(refused: &Refused) -> String {
    let client = refused.client.as_deref().unwrap_or_default();
    let method = refused.request.method.as_ref().map_or("-", http::Method::as_str);
    let rule = refused.rule.as_ref().map_or("", |rule| &*rule.name);
    let (path, source, id) = (&refused.request.path, refused.source, refused.request_id.as_str());
    let row = refused.reason.row();
    format!(
        "{client} {method} {path} {source} {id} {} {} {} {rule}",
        row.status.as_u16(),
        row.reason,
        refused.detail
    )
}

/// One refusal, in a line.
pub(in super::super) fn refusal(refused: &Refused) -> Value {
    let row = refused.reason.row();
    let is_known = !matches!(refused.reason, Reason::NotAuthenticated | Reason::InvalidCertificate);
    json!({
        "request_id": refused.request_id.as_str(),
        "at": refused.time,
        "client": refused.client,
        "authenticated": is_known,
        "source": refused.source,
        "method": refused.request.method.as_ref().map(http::Method::as_str),
        "path": refused.request.path,
        "status": row.status.as_u16(),
        "reason": row.reason,
        "detail": refused.detail,
        "rule": refused.rule.as_ref().map(|rule| json!({ "name": rule.name, "file": rule.file, "line": rule.line })),
        "generation": refused.generation,
    })
}

/// One refusal, by its `id`, with its explanation by the running policy.
pub(super) fn one(context: &ApiContext, query: &Query) -> Answer {
    let id = query.text("id");
    let all = context.running.refusals();
    let Some(refused) = all.iter().find(|refused| refused.request_id.as_str() == id) else {
        return nothing("no such refusal is kept any more");
    };
    let (explanation, unexplained) = match explanation(context, refused) {
        Ok(explanation) => (Some(explanation), None),
        Err(why) => (None, Some(why)),
    };
    let live = context.running.live();
    answered(
        StatusCode::OK,
        &json!({
            "refusal": refusal(refused),
            "explanation": explanation,
            "unexplained": unexplained,
            "incomplete": refused.request.is_cut,
            "generation": live.generation,
        }),
    )
}

/// The explanation as `policy explain` gives it, for the time of the refusal.
fn explanation(context: &ApiContext, refused: &Refused) -> Result<Value, String> {
    match refused.reason {
        Reason::NotAuthenticated | Reason::InvalidCertificate => {
            return Err("the client is not authenticated, so the policy does not judge it".to_owned());
        }
        Reason::AmbiguousRequest | Reason::HeadersTooLarge => {
            return Err("it was refused before the policy was asked".to_owned());
        }
        _ => {}
    }
    let leaf = refused.chain.as_ref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or("its certificate chain was too long to be kept")?;
    let identity = Identity::from_certificate(leaf).map_err(|flaw| flaw.to_string())?;
    let method = refused.request.method.as_ref().ok_or("its method was too long to be kept")?;
    let query = refused.request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let live = context.running.live();
    let question = Question {
        request: format!("{method} {}{query}", refused.request.path),
        host: refused.request.host.as_ref().map(ToString::to_string),
        headers: refused.request.headers.clone(),
        source: refused.source.ip(),
        now: refused.judged_at,
        upgrade: None,
        rules: live.paths,
    };
    let matrix = context.models.of(&live).ok_or("the policy could not be read again")?;
    explained(&matrix.model, &live.policy, &identity, &question)
}
