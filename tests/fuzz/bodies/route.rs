//! Any text as a route and a request: each diagnostic points into the text, and a route without special characters matches
//! exactly the request of the same text.

use http::HeaderMap;
use sidegate::diagnostic::{Diagnostic, Source};
use sidegate::identity::Identity;
use sidegate::policy::{Host, Policy, Question};
use sidegate::target::Target;

/// Takes two lines: the route and the request.
pub fn run(text: &str) {
    let (route, request) = text.split_once('\n').unwrap_or((text, ""));
    // YAML has the escapes of JSON, so every text can be quoted as JSON.
    let quoted = serde_json::to_string(route).unwrap();
    let written = format!(
        "version: 1\npermissions: {{ p: {quoted} }}\nclients: [{{ name: c, match: {{ any: true }}, permissions: [p] }}]\n"
    );
    let source = Source::new("fuzz.yaml", written);
    let policy = match Policy::compile(std::slice::from_ref(&source)) {
        Ok((policy, _)) => policy,
        Err(problems) => return problems.iter().for_each(|problem| assert_points_into(problem, &source)),
    };
    let is_literal = !route.contains(['*', '{', '%', '|', '!', '$', '&', '\'', '+', ',', ';', '=']);
    if let (true, Ok(own)) = (is_literal, route.parse::<Target>()) {
        assert!(allows(&policy, &own), "`{route}` does not match itself");
    }
    if let Ok(target) = request.parse::<Target>()
        && is_literal
        && allows(&policy, &target)
    {
        let is_same = route.parse::<Target>().is_ok_and(|own| own.path() == target.path());
        assert!(is_same || target.path().contains('%'), "`{route}` matches `{request}`");
    }
}

fn assert_points_into(problem: &Diagnostic, source: &Source) {
    let place = problem.place.as_ref().expect("a diagnostic of a route has a place");
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
