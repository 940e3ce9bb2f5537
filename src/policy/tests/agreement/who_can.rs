//! `policy who-can` held against the third opinion: its entries are just those whose routes fit the request, what it says
//! of conditions and denials is so, and nobody is let through whom it does not name.

use std::collections::BTreeSet;

use super::super::super::who_can::who_can;
use super::written::WrittenClient;
use super::*;

/// The client entries with a route whose method and path fit, whatever else must hold.
fn fitting(written: &Written, call: &Call) -> BTreeSet<String> {
    let fits = |client: &WrittenClient| written.given(client).any(|route| route.fits_shape(call));
    let numbered = written.clients.iter().enumerate().filter(|(_, client)| fits(client));
    numbered.map(|(number, _)| format!("c{number}")).collect()
}

/// The deny rules that name the client entry and have a route that fits.
fn denying(written: &Written, client: usize, call: &Call) -> usize {
    let denies = written.denies.iter().filter(|deny| {
        deny.clients.as_ref().is_none_or(|clients| clients.contains(&client))
            && written.routes_of(deny).any(|route| route.fits_shape(call))
    });
    denies.count()
}

#[test]
fn who_can_names_just_those_who_can() {
    let asked = Cell::new(0);
    let strategy = (written(), prop::collection::vec(identity(), 5), prop::collection::vec(call(), 10));
    let run = TestRunner::new(cases(3_500)).run(&strategy, |(written, identities, calls)| {
        let sources = written.yaml().map(|text| Source::new("p.yaml", text));
        let Ok((model, _)) = super::super::super::model(&sources) else { return Ok(()) };
        for call in &calls {
            let accesses = who_can(&model, &Put::of(call).target);
            let named: BTreeSet<String> =
                accesses.iter().map(|access| access.finding.entry.text.to_string()).collect();
            prop_assert_eq!(&named, &fitting(&written, call), "{:?}\n{}", call, written.yaml().concat());
            for access in &accesses {
                let number: usize = access.finding.entry.text[1..].parse().unwrap();
                prop_assert_eq!(access.denies.len(), denying(&written, number, call));
                let client = &written.clients[number];
                let unconditional = access.conditions.is_empty() && access.denies.is_empty();
                for identity in identities.iter().filter(|identity| client.is(identity)) {
                    let allowed = written.allows(identity, call);
                    prop_assert!(
                        !(access.always_denied && allowed),
                        "always denied, and allowed: {:?}",
                        identity
                    );
                    // Another entry may be forbidden what this one is not, and it means the same client.
                    let others = written.clients.iter().filter(|other| other.is(identity)).count();
                    prop_assert!(
                        !unconditional || others > 1 || allowed,
                        "nothing stands against {:?}",
                        identity
                    );
                }
            }
            for identity in &identities {
                let means = |name: &String| written.clients[name[1..].parse::<usize>().unwrap()].is(identity);
                prop_assert!(!written.allows(identity, call) || named.iter().any(means), "{:?}", identity);
                asked.set(asked.get() + 1);
            }
        }
        Ok(())
    });
    println!("{} questions", asked.get());
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(asked.get() >= QUESTIONS, "only {} questions were asked", asked.get());
}
