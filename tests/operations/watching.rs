//! Alerts, recording rules, the dashboard and the runbook use only metrics and reasons that the program has, and cover all of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sidegate::refusal::Reason;

use crate::support::tools::is_missing;
use crate::support::{Backend, Proxy};

const RUNBOOK: &str = include_str!("../../deploy/RUNBOOK.md");
/// The address of the runbook in the documentation of the crate.
const RUNBOOK_URL: &str = "https://docs.rs/sidegate/latest/sidegate/runbook/index.html#";

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&fs::read_to_string(deploy(name)).unwrap()).unwrap()
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {value}"))
}

/// Returns every rule for Prometheus.
fn rules() -> Vec<Value> {
    let rules = yaml("prometheus/sidegate.rules.yaml");
    list(&rules, "groups").flat_map(|group| list(group, "rules")).cloned().collect()
}

/// Returns the alerts by name.
fn alerts() -> BTreeMap<String, Value> {
    let alerts = rules().into_iter().filter(|rule| rule["alert"].is_string());
    alerts.map(|rule| (text(&rule, "alert").to_owned(), rule)).collect()
}

/// Returns the queries of the dashboard, with values for the variables of Grafana.
fn dashboard() -> Vec<String> {
    let dashboard = fs::read_to_string(deploy("grafana/sidegate.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let targets = list(&dashboard, "panels").flat_map(|panel| list(panel, "targets"));
    targets
        .map(|target| text(target, "expr").replace("$__rate_interval", "1m"))
        .map(|query| query.replace("$job", ".*").replace("$instance", ".*"))
        .collect()
}

/// Series of the running program: the names, each with its labels and their values.
type Series = BTreeMap<String, BTreeSet<(String, String)>>;

/// Returns the served series by name. A family without a sample yet counts by its `# TYPE`.
fn served() -> (Series, BTreeSet<String>) {
    let proxy = Proxy::in_front_of(&Backend::ok().url());
    proxy.connect().get("/events").unwrap();
    let page = proxy.admin.get("/metrics").text();
    let (mut series, mut families) = (Series::new(), BTreeSet::new());
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            families.insert(name.to_owned());
            let endings: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            series.extend(endings.iter().map(|ending| (format!("{name}{ending}"), BTreeSet::new())));
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            series.get_mut(name).unwrap_or_else(|| panic!("{line}")).extend(labels(rest));
        }
    }
    (series, families)
}

/// Returns `{a="b",c="d"} 1` as pairs. No value in these tests contains a quote or a comma.
fn labels(text: &str) -> Vec<(String, String)> {
    let inside = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    let pairs = inside.map_or("", |(inside, _)| inside).split(',');
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((
            name.trim().trim_end_matches('!').to_owned(),
            value.trim_start_matches('~').trim_matches('"').to_owned(),
        ))
    };
    pairs.filter_map(pair).collect()
}

/// Returns the names of the series in a query, each with the labels that the query selects.
fn selectors(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    let places = query.match_indices("sidegate").filter(|(at, _)| {
        let before = query[..*at].chars().last();
        // "sidegate" alone is a value of a label.
        let is_series = query[at + "sidegate".len()..].starts_with(['_', ':']);
        is_series && before.is_none_or(|before| !before.is_alphanumeric() && !"_:\"".contains(before))
    });
    let selector = |at: usize| {
        let rest = &query[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        (rest[..end].to_owned(), labels(&rest[end..]))
    };
    places.map(|(at, _)| selector(at)).collect()
}

#[test]
fn every_query_of_alerts_and_dashboard_names_series_and_labels_that_exist() {
    let (series, _) = served();
    let rules = rules();
    let records: BTreeSet<_> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let queries = rules.iter().map(|rule| text(rule, "expr").to_owned()).chain(dashboard());
    let mut looked_at = 0;
    for query in queries {
        let selectors = selectors(&query);
        assert!(!selectors.is_empty(), "{query}");
        for (name, asked) in selectors {
            looked_at += 1;
            if name.contains(':') {
                assert!(records.contains(name.as_str()), "nothing records `{name}`: {query}");
                continue;
            }
            let seen = series.get(&name).unwrap_or_else(|| panic!("there is no `{name}`: {query}"));
            for (label, values) in
                asked.iter().filter(|(label, _)| !["job", "instance"].contains(&label.as_str()))
            {
                for value in values.split('|') {
                    let is_there = seen.contains(&(label.clone(), value.to_owned()));
                    assert!(is_there, "`{name}` has no `{label}={value}`: {query}; it has {seen:?}");
                }
            }
        }
    }
    assert!(looked_at > 60, "{looked_at}");
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let (_, families) = served();
    let shown: Vec<_> = dashboard().iter().flat_map(|query| selectors(query)).map(|(name, _)| name).collect();
    let recorded = rules();
    let recorded: Vec<_> = recorded
        .iter()
        .filter(|rule| rule["record"].as_str().is_some_and(|record| shown.iter().any(|name| name == record)))
        .flat_map(|rule| selectors(text(rule, "expr")))
        .map(|(name, _)| name)
        .collect();
    for family in families {
        assert!(
            shown.iter().chain(&recorded).any(|name| name.starts_with(&family)),
            "`{family}` is on no panel of deploy/grafana/sidegate.json"
        );
    }
}

/// `promtool` loads the rules, runs the test of each alert, and parses the queries of the dashboard.
#[test]
fn prometheus_accepts_the_rules_and_the_queries_of_the_dashboard() {
    if is_missing("promtool", Command::new("promtool").arg("--version")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The queries are written as recording rules, for the tool to parse. Rules of one name must differ by a label.
    let record = |(number, query): (usize, &String)| json!({ "record": "dashboard", "expr": query, "labels": { "query": number.to_string() } });
    let queries: Vec<_> = dashboard().iter().enumerate().map(record).collect();
    let file = folder.path().join("dashboard.yaml");
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": queries }] });
    fs::write(&file, groups.to_string()).unwrap();
    let rules = deploy("prometheus/sidegate.rules.yaml");
    let tests = ["prometheus/sidegate.tests.yaml", "prometheus/sidegate.tests.weeks.yaml"].map(deploy);
    for command in [
        Command::new("promtool").args(["check", "rules"]).arg(rules).arg(file),
        Command::new("promtool").args(["test", "rules"]).args(tests),
    ] {
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn every_alert_has_a_description_a_link_to_its_section_and_a_test() {
    let mut tested = BTreeMap::<String, (bool, bool)>::new();
    for file in ["prometheus/sidegate.tests.yaml", "prometheus/sidegate.tests.weeks.yaml"] {
        let tests = yaml(file);
        for case in list(&tests, "tests").flat_map(|test| list(test, "alert_rule_test")) {
            let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
            let (fired, silent) = tested.entry(text(case, "alertname").to_owned()).or_default();
            *fired |= fires;
            *silent |= !fires;
        }
    }
    let alerts = alerts();
    for (name, alert) in &alerts {
        let annotations = &alert["annotations"];
        assert!(
            !text(annotations, "summary").is_empty() && !text(annotations, "description").is_empty(),
            "{name}"
        );
        assert_eq!(text(annotations, "runbook_url"), format!("{RUNBOOK_URL}{}", name.to_lowercase()));
        assert!(["critical", "warning", "info"].contains(&text(&alert["labels"], "severity")), "{name}");
        assert!(tested.get(name).is_some_and(|(fired, _)| *fired), "no test in which `{name}` fires");
    }
    let silent = tested.values().filter(|(_, silent)| *silent).count();
    assert!(silent >= alerts.len() - 1, "{tested:?}");
    assert_eq!(tested.keys().collect::<Vec<_>>(), alerts.keys().collect::<Vec<_>>());
}

/// Returns the headings of a section of the runbook.
fn sections(of: &str) -> BTreeSet<String> {
    let (_, after) =
        RUNBOOK.split_once(&format!("\n## {of}\n")).unwrap_or_else(|| panic!("no section `{of}`"));
    let section = after.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect()
}

#[test]
fn the_runbook_has_every_refusal_and_every_alert() {
    let reasons: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.row().reason.to_owned()).collect();
    assert_eq!(sections("Refusals"), reasons);
    let alerts: BTreeSet<_> = alerts().into_keys().collect();
    assert_eq!(sections("Alerts"), alerts);
}
