//! The check of a file of one mebibyte ends within its time and prints a readable amount of text, for every content of the
//! file.

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::support::proxy::program;

/// Maximum size of a policy file in these tests, in bytes.
const SIZE: usize = 1 << 20;

/// Limit of CPU time in seconds, which does not depend on the load of the machine. A check takes some seconds in a debug
/// build; a cost that grows with the square of the size would take thousands.
const MAX_CPU_SECONDS: u32 = 60;

/// Returns `head`, as many numbered `unit`s as fit (`#` is the number), and `tail`.
fn filled(head: &str, unit: &str, tail: &str) -> String {
    let mut text = head.to_owned();
    for number in 0.. {
        let next = unit.replace('#', &number.to_string());
        if text.len() + next.len() + tail.len() > SIZE {
            break;
        }
        text += &next;
    }
    text + tail
}

/// Returns numbered `unit`s (`#` is the number), separated by commas.
fn listed(unit: &str, count: usize) -> String {
    (0..count).map(|number| unit.replace('#', &number.to_string())).collect::<Vec<_>>().join(", ")
}

/// Returns aliases of aliases, each repeated ten times.
fn alias_bomb() -> String {
    let bomb = (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
    format!("version: 1\na0: &a0 [x, x, x, x, x]\n{}", bomb.collect::<String>())
}

/// Returns names, files, and a text that the output must contain.
fn files() -> Vec<(&'static str, String, &'static str)> {
    let deny = "request: GET /b#, expect: deny";
    let (clients, requests) = (listed("c#: { common_name: a }", 12_000), listed("GET /#", 30_000));
    let ten = listed("c#: { common_name: a }", 10);
    vec![
        ("brackets", "[".repeat(100_000), "nested too deeply"),
        ("braces", format!("version: 1\npermissions: {}", "{a: ".repeat(100_000)), "nested too deeply"),
        ("an alias bomb", alias_bomb(), "the YAML aliases (`*name`) expand to too many values"),
        ("one line of mistakes", filled("permissions: { p: [", "x, ", "x] }\n"), "is not a route"),
        ("unknown keys", filled("version: 1\n", "permission#: 1\n", ""), "more problems are not shown"),
        ("a repeated key", filled("version: 1\n", "roles: 1\n", ""), "more problems are not shown"),
        ("a key of a mebibyte", filled("version: 1\n? ", "aaaaaaa", "\n: 1\n"), "unknown key"),
        ("unknown names", filled("version: 1\nroles:\n", "  r#: [q#]\n", ""), "more problems are not shown"),
        (
            "unknown zones",
            filled(
                "version: 1\nclients:\n",
                "  - { name: c#, match: { any: true }, when: { days: mon, zone: Europe/Berl# } }\n",
                "",
            ),
            "unknown time zone",
        ),
        ("merges", filled("version: 1\npermissions: {", "<<: {}, ", "a: GET / }\n"), "unused-permission"),
        (
            "a merge of many keys",
            format!(
                "version: 1\nroles: &a {{ {} }}\npermissions: {{ {}, <<: *a }}\n",
                listed("k#: []", 40_000),
                listed("x#: GET /", 30_000)
            ),
            "more problems are not shown",
        ),
        (
            "patterns over names",
            filled(
                &format!("version: 1\npermissions: {{ {} }}\nroles:\n", listed("p#: GET /a", 30_000)),
                "  r#: \"*#\"\n",
                "",
            ),
            "the patterns match too many names",
        ),
        (
            "roles with the pattern `*`",
            filled("version: 1\npermissions: { p: GET /a }\nroles:\n", "  r#: \"*\"\n", ""),
            "the patterns match too many names",
        ),
        (
            "a chain of roles",
            filled("version: 1\nroles:\n", "  r#: [s#]\n  s#: [r#]\n", ""),
            "contains itself",
        ),
        (
            "tests of an unknown client",
            filled(
                &format!("version: 1\npermissions: {{ {} }}\ntests:\n", listed("p#: GET /a#", 20_000)),
                &format!("  - {{ name: t, client: {{ common_name: a }}, {deny} }}\n"),
                "",
            ),
            "more problems are not shown",
        ),
        (
            "a matrix of tests",
            format!(
                "version: 1\ntests:\n  - {{ name: m, clients: {{ {clients} }}, requests: [{requests}], allow: {{}} }}\n"
            ),
            "there are more than 100000 test requests",
        ),
        (
            "a long list of allowed requests",
            format!(
                "version: 1\ntests:\n  - {{ name: m, clients: {{ {ten} }}, requests: [{requests}], allow: {{ c1: [{requests}] }} }}\n"
            ),
            "there are more than 100000 test requests",
        ),
        (
            "grants and denials",
            filled(
                &format!(
                    "version: 1\npermissions: {{ {} }}\nroles: {{ all: [\"p*\"] }}\nclients: [{}]\ndeny:\n",
                    listed("p#: GET /a#", 2_000),
                    listed("{ name: c#, match: { any: true }, roles: [all] }", 900)
                ),
                "  - { name: d#, routes: GET /a# }\n",
                "",
            ),
            "",
        ),
        (
            "a pattern of stars",
            filled("version: 1\nclients: [{ name: a, match: { common_name: \"", "*a", "\" } }]\n"),
            "gives-nothing",
        ),
        (
            "hosts of several routes",
            filled(
                "version: 1\npermissions:\n  p: [{ route: GET /a, hosts: &h [",
                "a#.example, ",
                "a] }, { route: GET /b, hosts: *h }, { route: GET /a, hosts: *h }]\n",
            ),
            "covered-route",
        ),
        (
            "malformed hosts",
            filled("version: 1\npermissions: { p: [{ route: GET /, hosts: [", "a#/b, ", "a] }] }\n"),
            "more problems are not shown",
        ),
        (
            "paths that differ in case",
            filled("version: 1\npermissions: { p: [", "GET /a#, GET /A#, ", "GET /] }\n"),
            "more problems are not shown",
        ),
    ]
}

/// Case 53: policies that are expensive to check.
#[test]
fn a_policy_of_one_mebibyte_is_checked_within_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (what, text, expected) in files() {
        assert!(text.len() <= SIZE, "{what}: {}", text.len());
        let path = folder.path().join("p.yaml");
        fs::write(&path, text).unwrap();
        let start = Instant::now();
        let script = format!("ulimit -t {MAX_CPU_SECONDS} && exec \"$0\" policy check --strict \"$1\"");
        let output = Command::new("sh").args(["-c", &script]).arg(program()).arg(&path).output().unwrap();
        let (time, output_text) = (start.elapsed(), String::from_utf8(output.stderr).unwrap());
        println!("{what}: {time:?}, {} bytes", output_text.len());
        let is_right = matches!(output.status.code(), Some(0..=2))
            && output_text.len() < SIZE
            && output_text.contains(expected);
        if !is_right {
            let beginning: String = output_text.chars().take(600).collect();
            wrong.push(format!(
                "{what}: {:?}, {time:?}, {} bytes:\n{beginning}",
                output.status,
                output_text.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
