//! The documentation says of keys, metrics and paths what the program and the repository have.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use sidegate::config::{Effect, KEYS, Key, Presence};
use sidegate::diagnostic::Code;
use sidegate::target::{AllowedForms, PathForm, Target, TargetRules};

use crate::support::{Backend, Proxy, Setup};

const OPERATORS: &str = include_str!("../../deploy/README.md");

#[test]
fn every_key_of_the_configuration_is_documented_as_it_is() {
    let row = |key: &Key| {
        let default = match key.presence {
            Presence::Default(text) => format!("`{text}`"),
            Presence::Required => "required".to_owned(),
            Presence::Optional => "–".to_owned(),
        };
        let restart = if key.effect == Effect::AtStart { "yes" } else { "" };
        format!("| `{}` | {default} | {restart} | {} |", key.path, key.help)
    };
    let rows: Vec<String> = KEYS.iter().map(row).collect();
    assert_eq!(documented("keys"), rows);
}

/// Returns the rows of the table with this mark.
fn documented(mark: &str) -> Vec<&'static str> {
    let (_, after) = OPERATORS.split_once(&format!("<!-- {mark}:")).expect("the table");
    let (table, _) = after.split_once(&format!("<!-- /{mark} -->")).expect("the end of the table");
    table.lines().filter(|line| line.starts_with("| `")).collect()
}

#[test]
fn every_code_of_a_diagnostic_is_documented_as_it_is() {
    let rows: Vec<String> =
        Code::ALL.iter().map(|code| format!("| `{code}` | {} |", code.meaning())).collect();
    assert_eq!(documented("codes"), rows);
}

/// Source files name each code outside of its table and outside of tests.
#[test]
fn every_code_of_a_diagnostic_is_reported_by_something() {
    let mut sources = String::new();
    collect_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let words: HashSet<&str> = sources.split(|c: char| !c.is_alphanumeric() && c != ':').collect();
    for code in Code::ALL {
        assert!(words.contains(&*format!("Code::{code:?}")), "no source file reports `{code}`");
    }
}

/// Appends the text of all source files below a folder, each without its tests.
fn collect_sources(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            sources.push_str(text.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
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
        // A metric of something that has not happened has no series, so its labels are not compared.
        let start = format!("{}{{", quoted(row[1])[0]);
        if let Some(labels) = text.lines().find_map(|line| line.strip_prefix(&start)?.split_once('}')) {
            let names: Vec<_> =
                labels.0.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
            assert_eq!(names, quoted(row[3]), "{row:?}");
        }
    }
}

/// Returns the texts in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Every example is refused, and passes unchanged with its setting alone.
#[test]
fn refused_requests_and_the_settings_that_allow_them_are_documented() {
    let (_, after) = OPERATORS.split_once("<!-- refused:").expect("the table of what is refused");
    let (table, _) = after.split_once("<!-- /refused -->").expect("the end of that table");
    let mut settings = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (examples, setting) = (quoted(cells[1]), quoted(cells[2]).first().copied());
        assert!(!examples.is_empty(), "{row}");
        let form = setting.map(|name| PathForm::ALL.iter().find(|(form, _)| *form == name).expect(name));
        settings.extend(setting);
        let read = |example, allowed| {
            Target::from_text(&format!("GET {example}"), TargetRules { allowed, ..TargetRules::STRICT })
        };
        for example in &examples {
            assert!(read(example, AllowedForms::NONE).is_err(), "{example} is accepted");
            match form {
                None => assert!(read(example, AllowedForms::ALL).is_err(), "{example} can be allowed"),
                Some((_, form)) => {
                    assert!(read(example, AllowedForms::NONE.with(*form)).is_ok(), "{example}")
                }
            }
        }
        let backend = Backend::ok();
        let allowed: Vec<_> = setting.into_iter().collect();
        let proxy = Setup::new(&backend.url()).set("paths.allow", allowed).start();
        for example in &examples {
            let mut connection = proxy.connect();
            let expected = if form.is_some() { "200" } else { "400 ambiguous_request" };
            assert_eq!(connection.get(example).unwrap().verdict(), expected, "{example}");
        }
        let seen: Vec<_> = backend.received().iter().map(|request| request.start_line().to_owned()).collect();
        let forwarded: Vec<_> = examples.iter().map(|example| format!("GET {example} HTTP/1.1")).collect();
        assert_eq!(seen, if form.is_some() { forwarded } else { vec![] });
    }
    assert_eq!(settings, PathForm::ALL.map(|(name, _)| name));
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading_of_the_repository() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = prose(&page);
        for (_, after) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = after.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = if heading.is_empty() {
                file.exists()
            } else {
                file.is_file() && prose(&file).lines().any(|line| anchor(line).as_deref() == Some(heading))
            };
            if !found {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_path_that_a_page_names_is_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src/", "tests/", "deploy/", "policies/", "docs/", "findings/", ".ci/", ".cargo/"];
    let mut missing = Vec::new();
    for page in pages().into_iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        for code in quoted(&prose(&page)) {
            let is_path = code.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c));
            if is_path && folders.iter().any(|folder| code.starts_with(folder)) && !root.join(code).exists() {
                missing.push(format!("{}: {code}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Returns the pages of the repository: `*.md` at its top and in its folders of sources.
fn pages() -> Vec<PathBuf> {
    fn collect(folder: &Path, deep: bool, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if deep && path.is_dir() {
                collect(&path, deep, into);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    collect(root, false, &mut pages);
    for folder in ["docs", "policies", "deploy", "findings", "tests"] {
        collect(&root.join(folder), true, &mut pages);
    }
    pages
}

/// Returns a page without its fenced blocks, which hold programs and not links.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    let mut is_fenced = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fence && !is_fenced
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the anchor that GitHub and rustdoc give to a heading; `None` for another line.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}
