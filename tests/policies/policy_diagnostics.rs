//! The diagnostic of each kind of mistake in a policy is the committed one: `policy_diagnostics/NAME.yaml` gives `NAME.stderr`.
//! `UPDATE_SNAPSHOTS=1` writes the files again; read the changes before you commit them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::proxy::program;

/// Cases 50, 53 and 54: mistakes of authors are reported.
#[test]
fn every_diagnostic_is_the_committed_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/policy_diagnostics");
    let mut wrong = Vec::new();
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| Path::new(name).extension().is_some_and(|ending| ending == "yaml"));
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        let output = Command::new(program())
            .args(["policy", "check", "--strict", "--at", "2026-11-24T00:00:00Z"])
            .arg(&name)
            .current_dir(&folder)
            .output()
            .unwrap();
        let output_text = String::from_utf8(output.stderr).unwrap();
        let expected = folder.join(&name).with_extension("stderr");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&expected, &output_text).unwrap();
        }
        let lints = name.to_string_lossy().starts_with("lints");
        assert_eq!(output.status.code(), Some(if lints { 1 } else { 2 }), "{name:?}");
        if fs::read_to_string(&expected).unwrap_or_default() != output_text {
            wrong.push(format!("{name:?}:\n{output_text}"));
        }
    }
    assert!(wrong.is_empty(), "these diagnostics differ from the committed ones:\n{}", wrong.join("\n"));
}

#[test]
fn shipped_policies_have_no_problem_and_pass_their_tests() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let folders = [policies.clone(), policies.join("examples"), policies.join("examples/peers")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")) {
        for verb in [
            ["check", "--strict", "--at", "2026-11-24T00:00:00Z"].as_slice(),
            &["test", "--min-coverage", "100"],
        ] {
            let output = Command::new(program()).arg("policy").args(verb).arg(&path).output().unwrap();
            let output_text = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{verb:?} {path:?}:\n{output_text}");
        }
    }
}
