//! `policy who-can` compared with the third evaluator: it lists exactly the entries with a route that fits the request,
//! its conditions and deny rules are true, and no client is allowed without a listed entry.

use std::collections::BTreeSet;

use super::super::super::who_can::who_can;
use super::generated::GeneratedClient;
use super::*;

/// Returns the client entries with a route whose method and path fit, without the other conditions.
fn fitting(generated: &GeneratedPolicy, call: &GeneratedRequest) -> BTreeSet<String> {
    let fits = |client: &GeneratedClient| generated.given(client).any(|route| route.fits_shape(call));
    let numbered = generated.clients.iter().enumerate().filter(|(_, client)| fits(client));
    numbered.map(|(number, _)| format!("c{number}")).collect()
}

/// Returns the number of deny rules that name the client entry and have a route that fits.
fn denying(generated: &GeneratedPolicy, client: usize, call: &GeneratedRequest) -> usize {
    let denies = generated.denies.iter().filter(|deny| {
        deny.clients.as_ref().is_none_or(|clients| clients.contains(&client))
            && generated.routes_of(deny).any(|route| route.fits_shape(call))
    });
    denies.count()
}

#[test]
fn who_can_lists_exactly_the_entries_that_can() {
    let asked = Cell::new(0);
    let strategy =
        (generated_policy(), prop::collection::vec(identity(), 5), prop::collection::vec(call(), 10));
    let run = TestRunner::new(cases(3_500)).run(&strategy, |(generated, identities, calls)| {
        let sources = generated.yaml().map(|text| Source::new("p.yaml", text));
        let Ok((model, _)) = super::super::super::model(&sources) else { return Ok(()) };
        for call in &calls {
            let accesses = who_can(&model, &EngineRequest::of(call).target);
            let named: BTreeSet<String> =
                accesses.iter().map(|access| access.finding.entry.text.to_string()).collect();
            prop_assert_eq!(&named, &fitting(&generated, call), "{:?}\n{}", call, generated.yaml().concat());
            for access in &accesses {
                let number: usize = access.finding.entry.text[1..].parse().unwrap();
                prop_assert_eq!(access.denies.len(), denying(&generated, number, call));
                let client = &generated.clients[number];
                let unconditional = access.conditions.is_empty() && access.denies.is_empty();
                for identity in identities.iter().filter(|identity| client.is(identity)) {
                    let allowed = generated.allows(identity, call);
                    prop_assert!(
                        !(access.always_denied && allowed),
                        "always denied, and allowed: {:?}",
                        identity
                    );
                    // A deny rule may forbid another entry that matches the same client.
                    let others = generated.clients.iter().filter(|other| other.is(identity)).count();
                    prop_assert!(!unconditional || others > 1 || allowed, "nothing forbids {:?}", identity);
                }
            }
            for identity in &identities {
                let means =
                    |name: &String| generated.clients[name[1..].parse::<usize>().unwrap()].is(identity);
                prop_assert!(!generated.allows(identity, call) || named.iter().any(means), "{:?}", identity);
                asked.set(asked.get() + 1);
            }
        }
        Ok(())
    });
    println!("{} questions", asked.get());
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(asked.get() >= QUESTIONS, "only {} questions were asked", asked.get());
}
