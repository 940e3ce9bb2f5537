//! Any text as a route, a pattern, a client name and a request: nothing panics, and the order of the policy files does not
//! change the decision.

use http::HeaderMap;
use sidegate::diagnostic::Source;
use sidegate::identity::{Attribute, Identity};
use sidegate::policy::{Host, Policy, Question};
use sidegate::target::Target;

/// Takes four lines: the route, the pattern, the common name of the client, the request.
pub fn run(text: &str) {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (route, pattern, name, request) = (line(), line(), line(), line());
    let quoted = |text: &str| text.replace('\'', "''").replace('\r', "");
    let permissions = format!("version: 1\npermissions:\n  p: ['{}']\n", quoted(route));
    let clients = format!(
        "version: 1\nclients:\n  - {{ name: c, match: {{ common_name: '{}' }}, permissions: [p] }}\n",
        quoted(pattern)
    );
    let permissions = Source::new("permissions.yaml", permissions);
    let clients = Source::new("clients.yaml", clients);
    let Ok(target) = request.parse::<Target>() else { return };
    let identity = Identity::from_attributes([(Attribute::CommonName, name.to_owned())]);
    let headers = HeaderMap::new();
    let question = Question {
        target: &target,
        host: Host::Named("shop.example"),
        headers: Some(&headers),
        source: [192, 0, 2, 1].into(),
        now: jiff::Timestamp::UNIX_EPOCH,
        upgrade: None,
    };
    let verdict = |sources: &[_]| {
        let policy = Policy::compile(sources).ok()?.0;
        Some(policy.authorize(&policy.rights(&identity), &question).is_ok())
    };
    assert_eq!(verdict(&[permissions.clone(), clients.clone()]), verdict(&[clients, permissions]));
}
