//! What the documentation says of keys and metrics is what the program has.

use std::collections::BTreeMap;

use sidegate::config::KEYS;
use sidegate::target::{Allowed, Form, Rules, Target};

use crate::support::{Backend, Proxy, Setup};

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
fn every_metric_is_documented_with_its_type_and_labels() {
    let backend = Backend::ok();
    let proxy = Proxy::in_front_of(&backend.url());
    let text = proxy.admin.get("/metrics").text();
    let mut served = BTreeMap::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        served.insert(name, kind);
    }
    let rows: Vec<Vec<&str>> = OPERATORS
        .lines()
        .filter(|line| line.starts_with("| `sidegate_"))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    let documented: BTreeMap<_, _> = rows.iter().map(|row| (quoted(row[1])[0].to_owned(), row[2])).collect();
    assert_eq!(documented, served);
    for row in rows {
        // What has not happened yet has no series to show its labels.
        let start = format!("{}{{", quoted(row[1])[0]);
        if let Some(labels) = text.lines().find_map(|line| line.strip_prefix(&start)?.split_once('}')) {
            let names: Vec<_> =
                labels.0.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
            assert_eq!(names, quoted(row[3]), "{row:?}");
        }
    }
}

/// The texts in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Every example is refused, and passes with its setting alone, as the bytes that it is.
#[test]
fn what_is_refused_and_what_would_allow_it_is_documented_as_it_is() {
    let (_, after) = OPERATORS.split_once("<!-- refused:").expect("the table of what is refused");
    let (table, _) = after.split_once("<!-- /refused -->").expect("the end of that table");
    let mut settings = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (examples, setting) = (quoted(cells[1]), quoted(cells[2]).first().copied());
        assert!(!examples.is_empty(), "{row}");
        let form = setting.map(|name| Form::ALL.iter().find(|(form, _)| *form == name).expect(name));
        settings.extend(setting);
        let read =
            |example, allowed| Target::of_text(&format!("GET {example}"), Rules { allowed, ..Rules::STRICT });
        for example in &examples {
            assert!(read(example, Allowed::NONE).is_err(), "{example} is accepted");
            match form {
                None => assert!(read(example, Allowed::ALL).is_err(), "{example} can be allowed"),
                Some((_, form)) => assert!(read(example, Allowed::NONE.with(*form)).is_ok(), "{example}"),
            }
        }
        let backend = Backend::ok();
        let allowed: Vec<_> = setting.into_iter().collect();
        let proxy = Setup::new(&backend.url()).set("paths.allow", allowed).start();
        for example in &examples {
            let mut connection = proxy.producer().connect(proxy.address).unwrap();
            let expected = if form.is_some() { "200" } else { "400 ambiguous_request" };
            assert_eq!(connection.get(example).unwrap().verdict(), expected, "{example}");
        }
        let seen: Vec<_> = backend.received().iter().map(|request| request.start_line().to_owned()).collect();
        let forwarded: Vec<_> = examples.iter().map(|example| format!("GET {example} HTTP/1.1")).collect();
        assert_eq!(seen, if form.is_some() { forwarded } else { vec![] });
    }
    assert_eq!(settings, Form::ALL.map(|(name, _)| name));
}
