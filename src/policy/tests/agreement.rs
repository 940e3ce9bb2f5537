//! Three evaluators, compared on generated policies, identities and requests: the compiled policy, the evaluation that
//! explains decisions, and a third one that shares no code with either. Each policy is also compiled in another order,
//! which must change nothing.

mod difference;
mod evaluator;
mod who_can;
mod generated;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::super::trace::Evaluation;
use super::*;
use generated::{GeneratedPolicy, GeneratedRequest, call, generated_policy, identity};

/// A generated request in the form that the engine takes.
struct EngineRequest {
    target: Target,
    host: Option<&'static str>,
    headers: HeaderMap,
    source: IpAddr,
    now: Timestamp,
    upgrade: Option<Upgrade>,
}

impl EngineRequest {
    fn of(call: &GeneratedRequest) -> Self {
        let path: String = call.segments.iter().map(|segment| format!("/{segment}")).collect();
        let path = if path.is_empty() { "/" } else { &path };
        let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        let mut headers = HeaderMap::new();
        for (name, value) in call.modes {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Self {
            target: format!("{} {path}{query}", call.method).parse().unwrap(),
            host: call.host,
            headers,
            source: if call.inside { [10, 1, 1, 1] } else { [192, 0, 2, 1] }.into(),
            now: start + jiff::SignedDuration::from_hours(call.hour),
            upgrade: call.upgrade.then_some(Upgrade::WebSocket),
        }
    }

    fn question(&self) -> Question<'_> {
        let Self { target, host, headers, source, now, upgrade } = self;
        Question {
            target,
            host: (*host).into(),
            headers: Some(headers),
            source: *source,
            now: *now,
            upgrade: *upgrade,
        }
    }
}

/// True if the request is allowed, and true if the switch of protocols is allowed too.
type Answer = (bool, bool);

fn answer(verdict: &Result<Granted, Denied>) -> Answer {
    (verdict.is_ok(), verdict.as_ref().is_ok_and(Granted::allows_upgrade))
}

/// Returns the result of the evaluation that explains decisions. The rule that decided must be among its findings.
fn plain(evaluation: Evaluation<'_, '_>, verdict: &Result<Granted, Denied>) -> Answer {
    let (grants, denies) = (evaluation.grants(), evaluation.denies());
    let rule = match verdict {
        Ok(permit) => Some((permit.rule(), &grants)),
        Err(denied) => denied.rule().map(|rule| (rule, &denies)),
    };
    if let Some((rule, findings)) = rule {
        assert!(findings.iter().any(|finding| finding.entry.text == rule.name), "{rule:?}");
    }
    let allowed = denies.is_empty() && !grants.is_empty();
    let asked = evaluation.question.upgrade.is_some();
    (allowed, allowed && asked && grants.iter().any(|finding| finding.route.upgrade))
}

/// The number of questions that each run puts to all three evaluators, at least.
const QUESTIONS: usize = 100_000;

#[test]
fn three_evaluators_agree_in_any_order() {
    let asked = Cell::new(0);
    let strategy = (
        generated_policy(),
        1..u64::MAX,
        prop::collection::vec(identity(), 5),
        prop::collection::vec(call(), 10),
    );
    let run = TestRunner::new(cases(3_500)).run(&strategy, |(generated, order, identities, calls)| {
        let sources = generated.yaml().map(|text| Source::new("p.yaml", text));
        let Ok((model, _)) = super::super::model(&sources) else {
            // A route uses a capture that no entry has. The tests of diagnostics cover that.
            return Ok(());
        };
        let policy = Policy::compile(&sources).unwrap().0;
        let other = generated.yaml_in_order(order).map(|text| Source::new("p.yaml", text));
        let other = match Policy::compile(&other) {
            Ok((policy, _)) => policy,
            Err(problems) => panic!("only in another order: {}\n{}", problems[0], other[0].text()),
        };
        for attributes in &identities {
            let identity = Identity::from_attributes(attributes.iter().cloned());
            let (rights, other_rights) = (policy.rights(&identity), other.rights(&identity));
            for call in &calls {
                let put = EngineRequest::of(call);
                let question = put.question();
                let verdict = policy.authorize(&rights, &question);
                let evaluation = Evaluation { model: &model, identity: &identity, question: &question };
                let plain = plain(evaluation, &verdict);
                let in_other_order = answer(&other.authorize(&other_rights, &question));
                let third = (generated.allows(attributes, call), generated.allows_switch(attributes, call));
                prop_assert_eq!(
                    (answer(&verdict), plain, in_other_order),
                    (third, third, third),
                    "{:?} {:?}\n{}",
                    attributes,
                    call,
                    generated.yaml().concat()
                );
                asked.set(asked.get() + 1);
            }
        }
        Ok(())
    });
    println!("{} questions", asked.get());
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(asked.get() >= QUESTIONS, "only {} questions were asked", asked.get());
}
