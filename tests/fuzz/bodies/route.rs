//! Any text as a route, and a request: what is said of the text points into it, and a route of letters alone means the
//! request that it spells and no other.

use http::HeaderMap;
use sidegate::diagnostic::{Diagnostic, Source};
use sidegate::identity::Identity;
use sidegate::policy::{Host, Policy, Question};
use sidegate::target::Target;

/// The first line is the route, the second the request.
pub fn run(text: &str) {
    let (route, request) = text.split_once('\n').unwrap_or((text, ""));
    // JSON's escapes are YAML's, so any text can stand in a policy.
    let quoted = serde_json::to_string(route).unwrap();
    let written = format!(
        "version: 1\npermissions: {{ p: {quoted} }}\nclients: [{{ name: c, match: {{ any: true }}, permissions: [p] }}]\n"
    );
    let source = Source::new("fuzz.yaml", written);
    let policy = match Policy::compile(std::slice::from_ref(&source)) {
        Ok((policy, _)) => policy,
        Err(problems) => return problems.iter().for_each(|problem| points_into(problem, &source)),
    };
    let literal = !route.contains(['*', '{', '%', '|', '!', '$', '&', '\'', '+', ',', ';', '=']);
    if let (true, Ok(own)) = (literal, route.parse::<Target>()) {
        assert!(allows(&policy, &own), "`{route}` does not mean itself");
    }
    if let Ok(asked) = request.parse::<Target>()
        && literal
        && allows(&policy, &asked)
    {
        let same = route.parse::<Target>().is_ok_and(|own| own.path() == asked.path());
        assert!(same || asked.path().contains('%'), "`{route}` means `{request}`");
    }
}

fn points_into(problem: &Diagnostic, source: &Source) {
    let place = problem.place.as_ref().expect("a route stands somewhere");
    assert!(
        place.span.end() <= source.text().len()
            && source.text().get(place.span.start()..place.span.end()).is_some()
    );
    assert!(problem.human(sidegate::diagnostic::Colour::Never).chars().all(|c| c == '\n' || !c.is_control()));
}

fn allows(policy: &Policy, target: &Target) -> bool {
    let headers = HeaderMap::new();
    let question = Question {
        target,
        host: Host::Named("shop.example"),
        headers: Some(&headers),
        source: [192, 0, 2, 1].into(),
        now: jiff::Timestamp::UNIX_EPOCH,
        upgrade: None,
    };
    policy.authorize(&policy.rights(&Identity::from_attributes([])), &question).is_ok()
}
