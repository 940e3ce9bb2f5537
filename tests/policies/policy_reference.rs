//! `policies/README.md` is correct: it has every key, its examples are valid, and its mistakes give the diagnostics that it
//! shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::proxy::program;

const AUTHORS: &str = include_str!("../../policies/README.md");
const SCHEMA: &str = include_str!("../../policies/policy.schema.json");

/// A table of keys: its title, the place of the keys in the schema, and the other required entries of such a mapping.
struct Table {
    title: &'static str,
    schema: &'static str,
    required: &'static [&'static str],
}

const TABLES: [Table; 10] = [
    Table { title: "A file", schema: "/properties", required: &[] },
    Table {
        title: "A route in its long form",
        schema: "/$defs/route/anyOf/1/properties",
        required: &["route: GET /reports"],
    },
    Table {
        title: "`timeouts`",
        schema: "/$defs/route/anyOf/1/properties/timeouts/properties",
        required: &[],
    },
    Table {
        title: "A client entry",
        schema: "/properties/clients/items/properties",
        required: &["name: a", "match: { common_name: a }"],
    },
    Table { title: "`match`", schema: "/$defs/match/properties", required: &[] },
    Table { title: "`when`", schema: "/$defs/when/properties", required: &[] },
    Table {
        title: "`limits`",
        schema: "/properties/clients/items/properties/limits/properties",
        required: &[],
    },
    Table {
        title: "A deny rule",
        schema: "/properties/deny/items/properties",
        required: &["name: d", "permissions: [p]"],
    },
    Table {
        title: "A test",
        schema: "/properties/tests/items/anyOf/0/properties",
        required: &["name: t", "client: { common_name: a }", "request: GET /events", "expect: allow"],
    },
    Table {
        title: "A test of clients times requests",
        schema: "/properties/tests/items/anyOf/1/properties",
        required: &[
            "name: t",
            "clients: { x: { common_name: x } }",
            "requests: [GET /events]",
            "allow: { x: \"*\" }",
        ],
    },
];

/// A row of a table.
struct Row<'r> {
    key: &'r str,
    example: &'r str,
    mistake: &'r str,
    message: &'r str,
}

impl Table {
    fn rows(&self) -> Vec<Row<'static>> {
        let (_, tables) = AUTHORS.split_once("\n## Every key\n").unwrap();
        let (_, after) = tables.split_once(&format!("\n### {}\n", self.title)).expect(self.title);
        let lines = after.lines().take_while(|line| !line.starts_with('#'));
        let rows = lines.filter(|line| line.starts_with("| `")).map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [key, _, _, example, mistake, message] = cells[..] else { panic!("six cells: {line}") };
            let bare = |cell: &'static str| {
                cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).expect(cell)
            };
            Row { key: bare(key), example: bare(example), mistake: bare(mistake), message }
        });
        rows.collect()
    }

    /// Returns a policy with a mapping of this kind that has this entry.
    fn policy(&self, key: &str, entry: &str) -> String {
        // A test has either a client or a certificate.
        let replaced = if key == "certificate" { "client" } else { key };
        let is_kept = |other: &&&str| !other.starts_with(&format!("{replaced}:"));
        let mut entries: Vec<&str> = self.required.iter().filter(is_kept).copied().collect();
        entries.push(entry);
        entries.extend(match key {
            "burst" => Some("requests_per_second: 1"),
            "zone" => Some("days: [mon]"),
            _ => None,
        });
        let mapping = format!("{{ {} }}", entries.join(", "));
        let mut parts = vec![
            ("version", "1".to_owned()),
            ("permissions", "{ p: [GET /events], \"events:read\": [GET /events] }".to_owned()),
            ("roles", "{ r: [p] }".to_owned()),
            ("clients", "[{ name: a, match: { common_name: a }, roles: [r] }]".to_owned()),
        ];
        let client = |what: &str| format!("[{{ name: a, roles: [r], {what} }}]");
        let (part, value) = match self.title {
            "A file" => (key, entry.split_once(": ").unwrap().1.to_owned()),
            "A route in its long form" => ("permissions", format!("{{ p: [{mapping}] }}")),
            "`timeouts`" => {
                ("permissions", format!("{{ p: [{{ route: GET /events, timeouts: {mapping} }}] }}"))
            }
            "A client entry" => ("clients", format!("[{mapping}]")),
            "`match`" => ("clients", client(&format!("match: {mapping}"))),
            "`when`" | "`limits`" => {
                let name = self.title.trim_matches('`');
                ("clients", client(&format!("match: {{ common_name: a }}, {name}: {mapping}")))
            }
            "A deny rule" => ("deny", format!("[{mapping}]")),
            _ => ("tests", format!("[{mapping}]")),
        };
        parts.retain(|(name, _)| *name != part);
        // The entry may remove names to which other parts of the policy refer; these parts are left out.
        let keeps = |name: &str| match (self.title, part) {
            ("A file", "permissions") => name == "version",
            ("A file", "roles") => name != "clients",
            _ => true,
        };
        parts.retain(|(name, _)| keeps(name));
        parts.push((part, value));
        parts.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }
}

/// Returns the exit code and the problems of `policy check`.
fn check(policy: &str) -> (Option<i32>, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    fs::write(&path, policy).unwrap();
    let output = Command::new(program())
        .args(["policy", "check", "--format", "json", "--at", "2026-11-24T00:00:00Z"])
        .arg(&path)
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), answer["problems"].as_array().unwrap().clone())
}

#[test]
fn every_key_is_in_the_readme_for_authors() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for table in TABLES {
        let known: BTreeSet<&str> = schema
            .pointer(table.schema)
            .and_then(Value::as_object)
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let documented: BTreeSet<&str> = table.rows().iter().map(|row| row.key).collect();
        assert_eq!(documented, known, "{}", table.title);
    }
}

#[test]
fn every_example_of_the_readme_is_valid_and_every_mistake_gives_its_message() {
    let mut wrong = Vec::new();
    for table in TABLES {
        for Row { key, example, mistake, message } in table.rows() {
            let policy = table.policy(key, example);
            let (code, problems) = check(&policy);
            if code != Some(0) {
                wrong.push(format!("the example of `{key}`: {problems:#?}\n{policy}"));
            }
            let policy = table.policy(key, &format!("{key}: {mistake}"));
            let (_, problems) = check(&policy);
            if !problems.iter().any(|problem| problem["message"] == message) {
                wrong.push(format!("the mistake of `{key}`, `{message}`: {problems:#?}\n{policy}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The messages in the text of the page are messages of committed diagnostics, which another promise compares with the program.
#[test]
fn every_message_of_the_readme_is_printed_by_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/policy_diagnostics");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let printed = files.filter(|path| path.extension().is_some_and(|ending| ending == "stderr"));
    let printed: String = printed.map(|path| fs::read_to_string(path).unwrap()).collect();
    let printed: BTreeSet<&str> = printed.lines().map(str::trim_start).collect();
    let mut blocks: Vec<&str> = Vec::new();
    for part in AUTHORS.split("```text\n").skip(1) {
        blocks.extend(part.split("```").next());
    }
    assert!(blocks.len() > 5);
    let lines = blocks.iter().flat_map(|block| block.lines()).map(str::trim_start);
    let missing: Vec<&str> = lines.filter(|line| !printed.contains(line)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
