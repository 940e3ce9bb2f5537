//! A route, a pattern, a client and a request of any text: nothing crashes, and what is denied to a client is not
//! allowed because files come in another order.

use http::HeaderMap;
use sidegate::diagnostic::Source;
use sidegate::identity::{Attribute, Identity};
use sidegate::policy::{Host, Policy, Question};
use sidegate::target::Target;

/// Four lines: the route, the pattern, the client's common name, the request.
pub fn run(text: &str) {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (route, pattern, name, request) = (line(), line(), line(), line());
    let quoted = |text: &str| text.replace('\'', "''").replace('\r', "");
    let what = format!("version: 1\npermissions:\n  p: ['{}']\n", quoted(route));
    let who = format!(
        "version: 1\nclients:\n  - {{ name: c, match: {{ common_name: '{}' }}, permissions: [p] }}\n",
        quoted(pattern)
    );
    let (what, who) = (Source::new("what.yaml", what), Source::new("who.yaml", who));
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
    assert_eq!(verdict(&[what.clone(), who.clone()]), verdict(&[who, what]));
}
