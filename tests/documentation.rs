//! What the documentation says of keys and metrics is what the program has.

use std::collections::BTreeSet;

use sidegate::config::KEYS;

use crate::support::{Backend, Proxy};

const OPERATORS: &str = include_str!("../deploy/README.md");

#[test]
fn every_key_of_the_configuration_is_documented_as_it_is() {
    let rows: Vec<String> = KEYS
        .iter()
        .map(|key| {
            let default =
                if key.default.is_empty() { "–".to_owned() } else { format!("`{}`", key.default) };
            format!("| `{}` | {default} | {} |", key.path, key.help)
        })
        .collect();
    let (_, after) = OPERATORS.split_once("<!-- keys:").expect("the table of keys");
    let (table, _) = after.split_once("<!-- /keys -->").expect("the end of the table of keys");
    let documented: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(documented, rows);
}

#[test]
fn every_metric_is_documented() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let text = proxy.admin.get("/metrics").text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let served: BTreeSet<&str> = lines.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let rows = OPERATORS.lines().filter_map(|line| line.strip_prefix("| `sidegate_"));
    let documented: BTreeSet<String> =
        rows.filter_map(|row| Some(format!("sidegate_{}", row.split_once('`')?.0))).collect();
    assert_eq!(documented.iter().map(String::as_str).collect::<BTreeSet<_>>(), served);
}
