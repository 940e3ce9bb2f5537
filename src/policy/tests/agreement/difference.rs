//! `policy diff` compared with brute force: a reported difference is confirmed by an evaluator that shares no code with
//! the comparison, and if none is reported, no request of a small space differs.

mod edits;
mod space;

use proptest::test_runner::TestCaseError;

use super::super::super::diff::{ExampleRequest, PolicyDifference, RouteChange, diff};
use super::*;
use edits::edit;
use space::RequestSpace;

/// Returns policies that are small enough for brute force.
fn small() -> impl Strategy<Value = GeneratedPolicy> {
    generated_policy().prop_map(|mut generated| {
        let own = generated.permissions.iter_mut().flatten();
        for route in own.chain(generated.denies.iter_mut().flat_map(|deny| &mut deny.routes)) {
            route.segments.truncate(2);
        }
        generated
    })
}

fn models(both: [&GeneratedPolicy; 2]) -> Option<[Model; 2]> {
    let [old, new] = both.map(|generated| {
        let sources = generated.yaml().map(|text| Source::new("p.yaml", text));
        super::super::super::model(&sources).ok().map(|(model, _)| model)
    });
    Some([old?, new?])
}

/// The result of the comparison of all requests of a space.
struct Compared {
    /// True if a request is allowed in the second policy only.
    allowed: bool,
    /// True if a request is allowed in the first policy only.
    denied: bool,
    requests: usize,
}

fn brute_force(both: [&GeneratedPolicy; 2], models: &[Model; 2]) -> Compared {
    let world = RequestSpace::of(both);
    let policies = models.each_ref().map(|model| Policy::of(model.clone()));
    let calls: Vec<EngineRequest> = world.calls.iter().map(EngineRequest::of).collect();
    let (mut allowed, mut denied) = (false, false);
    for attributes in &world.identities {
        let identity = Identity::from_attributes(attributes.iter().cloned());
        let rights = policies.each_ref().map(|policy| policy.rights(&identity));
        for call in &calls {
            let question = call.question();
            let [old, new] = [0, 1].map(|at| policies[at].authorize(&rights[at], &question).is_ok());
            allowed |= new && !old;
            denied |= old && !new;
        }
    }
    Compared { allowed, denied, requests: world.identities.len() * calls.len() }
}

/// Returns an example in the form that the third evaluator reads.
fn call(request: &ExampleRequest) -> GeneratedRequest {
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    let target = request.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let segments = path[1..].split('/').map(leak).collect();
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let modes: Vec<_> =
        request.headers().into_iter().map(|(name, value)| (leak(name), leak(value))).collect();
    GeneratedRequest {
        method: leak(request.method.as_str()),
        segments: if path == "/" { Vec::new() } else { segments },
        query: leak(query),
        modes: Box::leak(modes.into_boxed_slice()),
        host: request.host.as_deref().map(leak),
        hour: (request.now.as_second() - start.as_second()).div_euclid(3_600),
        inside: matches!(request.source, std::net::IpAddr::V4(address) if address.octets()[0] == 10),
        upgrade: request.upgrade.is_some(),
    }
}

/// Checks that the two policies decide every example differently, in the reported direction.
fn examples_differ(
    both: [&GeneratedPolicy; 2],
    difference: &PolicyDifference<'_>,
) -> Result<(), TestCaseError> {
    for (changes, expected) in [(&difference.allowed, (false, true)), (&difference.denied, (true, false))] {
        for change in changes.iter().filter(|change| !change.websocket_only) {
            let call = call(&change.example);
            let [old, new] = both.map(|generated| generated.allows(&change.example.attributes, &call));
            prop_assert_eq!((old, new), expected, "{:?}", change);
            prop_assert!(change.route.methods.contains(&change.example.method));
        }
    }
    Ok(())
}

#[test]
fn a_difference_is_found_exactly_where_there_is_one() {
    let (requests, pairs, undecided) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let strategy = (small(), prop::collection::vec(edit(), 0..3));
    let run = TestRunner::new(cases(PAIRS)).run(&strategy, |(old, edits)| {
        let mut new = old.clone();
        edits.into_iter().for_each(|edit| edit.apply(&mut new));
        let routes = new.permissions.iter_mut().flatten();
        for route in routes.chain(new.denies.iter_mut().flat_map(|deny| &mut deny.routes)) {
            route.segments.truncate(2);
        }
        let both = [&old, &new];
        let Some(models) = models(both) else { return Ok(()) };
        let difference = diff(&models[0], &models[1], "2026-01-01T00:00:00Z".parse().unwrap());
        examples_differ(both, &difference)?;
        let compared = brute_force(both, &models);
        requests.set(requests.get() + compared.requests);
        pairs.set(pairs.get() + 1);
        undecided.set(undecided.get() + usize::from(!difference.undecided.is_empty()));
        let may = |is: bool| difference.undecided.iter().any(|open| open.allowed == is);
        let yaml = || format!("{}\n=====\n{}", old.yaml().concat(), new.yaml().concat());
        let seen = |list: &[RouteChange<'_>], is: bool| may(is) || !list.is_empty();
        prop_assert!(!compared.allowed || seen(&difference.allowed, true), "not seen as allowed\n{}", yaml());
        prop_assert!(!compared.denied || seen(&difference.denied, false), "not seen as denied\n{}", yaml());
        Ok(())
    });
    let (requests, pairs, undecided) = (requests.get(), pairs.get(), undecided.get());
    println!("{requests} requests to {pairs} pairs, {undecided} of them undecided");
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(requests >= QUESTIONS, "only {requests} requests were compared");
    assert!(undecided * 10 <= pairs, "{undecided} of {pairs} were not decided: that proves too little");
}

/// The number of pairs. Brute force takes most of the time; this many pairs take some seconds.
const PAIRS: u32 = 40;
