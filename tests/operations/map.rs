//! The map of the crate is true: a module uses only modules that stand before it in the table of `src/lib.rs`, and in the
//! data path only modules after it in the table of `src/proxy.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Uses within a room whose modules do not know each other: the forwarder takes nothing but what was admitted.
const ALLOWED: [(&str, &str); 1] = [("forward", "admission")];

/// The room whose modules do not know each other.
const STRANGERS: &str = "services";

#[derive(Debug)]
struct Room {
    name: String,
    modules: Vec<String>,
}

#[test]
fn every_module_stands_in_the_map_once() {
    let mut listed: Vec<String> = rooms().into_iter().flat_map(|room| room.modules).collect();
    listed.sort();
    let mut modules = modules_of(&source().join("lib.rs"));
    modules.sort();
    assert_eq!(listed, modules, "left: the table of src/lib.rs, right: its modules");
}

#[test]
fn no_module_uses_one_that_stands_after_it() {
    let rooms = rooms();
    let order: Vec<&str> = rooms.iter().flat_map(|room| &room.modules).map(String::as_str).collect();
    let place = |module: &str| order.iter().position(|listed| *listed == module);
    let strangers = rooms.iter().find(|room| room.name == STRANGERS).expect("the room of the services");
    let mut wrong = Vec::new();
    for (file, module, used) in uses("crate::", &source()) {
        let (from, to) = (place(&module), place(&used));
        let knows_a_stranger = module != used
            && strangers.modules.contains(&module)
            && strangers.modules.contains(&used)
            && !ALLOWED.contains(&(&module, &used));
        if to.is_none() || to > from || knows_a_stranger {
            wrong.push(format!("{} uses crate::{used}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_data_path_has_one_direction() {
    let order = column(&fs::read_to_string(source().join("proxy.rs")).unwrap(), 0);
    assert_eq!(sorted(&order), sorted(&modules_of(&source().join("proxy.rs"))));
    let place = |module: &str| order.iter().position(|listed| listed == module);
    let mut wrong = Vec::new();
    for (file, module, used) in uses("crate::proxy::", &source().join("proxy")) {
        if place(&used).is_none() || place(&used) < place(&module) {
            wrong.push(format!("{} uses crate::proxy::{used}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_paths_sees_every_form() {
    let code = "use crate::stop::Order;\nuse crate::{admin::Running, policy};\n// crate::cli\nfn f() { crate::live::x() }\n#[cfg(test)]\nmod tests { use crate::demo; }\n";
    let found = paths("crate::", &code_without_tests(code));
    assert_eq!(found, ["admin", "live", "policy", "stop"]);
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms of the table in `src/lib.rs`, top to bottom.
fn rooms() -> Vec<Room> {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let rows = rows(&text).filter(|cells| cells.len() == 3 && names(&cells[1]).next().is_some());
    let rooms: Vec<Room> = rows
        .map(|cells| Room { name: cells[0].clone(), modules: names(&cells[1]).map(str::to_owned).collect() })
        .collect();
    assert!(rooms.len() > 5, "src/lib.rs has no table of rooms");
    rooms
}

/// The cells of each row of the tables in a module's documentation.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    text.lines().filter_map(|line| {
        let row = line.strip_prefix("//! |")?.strip_suffix('|')?;
        Some(row.split('|').map(|cell| cell.trim().to_owned()).collect())
    })
}

fn column(text: &str, number: usize) -> Vec<String> {
    rows(text).filter_map(|cells| names(&cells[number]).next().map(str::to_owned)).collect()
}

/// The modules that a cell links: ``[`name`]``.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split("[`").skip(1).filter_map(|rest| rest.split_once("`]")).map(|(name, _)| name)
}

/// The modules that a file declares, without those that only show a page of documentation.
fn modules_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let declared = text.lines().filter_map(|line| {
        let name = line
            .strip_suffix(';')?
            .strip_prefix("pub mod ")
            .or_else(|| line.strip_suffix(';')?.strip_prefix("pub(crate) mod "))?;
        Some(name.to_owned())
    });
    declared.collect()
}

/// Every use of a path with this prefix below a folder: the file, the module of the folder that the file belongs to, the
/// module used.
fn uses(prefix: &str, folder: &Path) -> Vec<(PathBuf, String, String)> {
    let mut all = BTreeMap::new();
    for file in files(folder) {
        let inner = file.strip_prefix(folder).unwrap();
        let module = inner.components().next().unwrap().as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        let is_root = folder == source() && ["lib", "main"].contains(&module.as_str());
        let is_test = inner
            .components()
            .any(|part| ["tests", "tests.rs"].contains(&&*part.as_os_str().to_string_lossy()));
        if is_root || is_test {
            continue;
        }
        for used in paths(prefix, &code_without_tests(&fs::read_to_string(&file).unwrap())) {
            all.insert((file.clone(), used.clone()), (file.clone(), module.clone(), used));
        }
    }
    assert!(all.len() > 10, "no uses of {prefix} in {}", folder.display());
    all.into_values().collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let nested = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    nested.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The code without comments and without the module of unit tests, which may use the demo's certificates.
fn code_without_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules behind a prefix, in `prefix::module` and in `prefix::{module, …}`.
fn paths(prefix: &str, code: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect::<String>()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                found.extend(list.split('}').next().unwrap().split(',').map(|item| word(item.trim())))
            }
            None => found.push(word(rest)),
        }
    }
    found.retain(|name| !name.is_empty() && !name.starts_with(char::is_uppercase));
    sorted(&found)
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    names
}
