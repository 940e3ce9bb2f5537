//! A decision with its reasons as JSON, for `policy explain --format json` and for the admin API.

use serde_json::{Value, json};

use super::trace::{Evaluation, Finding, file_and_line};
use super::{Granted, Verdict, deciding_rule};

/// Returns the decision, the deciding rule, and the entries that granted, denied or nearly granted the request. The shape
/// is stable: programs read it.
pub(crate) fn explanation(verdict: &Verdict, evaluation: Evaluation<'_, '_>) -> Value {
    let rule = deciding_rule(verdict);
    let findings = |findings: Vec<Finding<'_>>| -> Vec<Value> { findings.iter().map(finding).collect() };
    let misses = if verdict.is_ok() { Vec::new() } else { evaluation.near_misses() };
    let misses: Vec<Value> = misses
        .iter()
        .map(|miss| {
            json!({
                "name": miss.entry.text, "permission": miss.permission.text, "route": miss.route.text,
                "at": file_and_line(&miss.entry.place), "because": miss.because,
            })
        })
        .collect();
    let mut explained = json!({
        "decision": if verdict.is_ok() { "allow" } else { "deny" },
        "upgrade": verdict.as_ref().is_ok_and(Granted::allows_upgrade),
        "rule": rule.map(|rule| json!({ "name": rule.name, "file": rule.file, "line": rule.line })),
        "clients": evaluation.clients().map(|client| &*client.entry.name.text).collect::<Vec<_>>(),
        "grants": findings(evaluation.grants()),
        "denies": findings(evaluation.denies()),
        "near_misses": misses,
    });
    // The field is present only if a route has time limits, so that the output for other policies stays as it was.
    let timeouts = verdict.as_ref().map(Granted::timeouts).unwrap_or_default();
    if let (false, Some(fields)) = (timeouts.is_empty(), explained.as_object_mut()) {
        let limits = timeouts.named().map(|(name, limit)| (name.to_owned(), limit.to_string().into()));
        fields.insert("timeouts".to_owned(), Value::Object(limits.collect()));
    }
    explained
}

fn finding(finding: &Finding<'_>) -> Value {
    json!({
        "name": finding.entry.text, "at": file_and_line(&finding.entry.place), "roles": finding.roles,
        "permission": finding.permission.text, "route": finding.route.text, "route_at": file_and_line(&finding.route.place),
    })
}
