//! Manual pages and completions are generated from the definition of the command line, and work in `man` and in shells. The
//! version names the commit.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::proxy::run;
use crate::support::tools::is_missing;
use crate::support::{Backend, Proxy};

/// Returns the standard output of a command that succeeds.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let finished = run(arguments);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    finished.stdout
}

/// Returns the output of a tool that succeeds.
#[track_caller]
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{command:?}: {out}\n{err}");
    out
}

#[test]
fn the_version_names_a_commit() {
    let text = printed(&["--version"]);
    let commit = text.trim_end().strip_prefix(concat!("sidegate ", env!("CARGO_PKG_VERSION"), " ("));
    let commit = commit.and_then(|rest| rest.strip_suffix(')')).unwrap_or_else(|| panic!("{text}"));
    let is_hash = |text: &str| text.len() == 12 && text.chars().all(|digit| digit.is_ascii_hexdigit());
    let is_commit = is_hash(commit.strip_suffix("-modified").unwrap_or(commit));
    assert!(is_commit || ["development", "unknown"].contains(&commit), "{commit}");
    assert_eq!(
        printed(&["policy", "check", "--version"]).split_once(' ').unwrap().1,
        text.split_once(' ').unwrap().1
    );

    let mut proxy = Proxy::in_front_of(&Backend::ok().url());
    assert_eq!(proxy.admin.status()["commit"], commit);
    assert!(proxy.process.log().contains(&format!(r#""commit":"{commit}""#)), "{}", proxy.process.log());
}

#[test]
fn every_command_has_a_manual_page_that_man_can_show() {
    let folder = tempfile::tempdir().unwrap();
    printed(&["man", "--to", folder.path().to_str().unwrap()]);
    let files =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files.collect();
    for name in
        ["sidegate.1", "sidegate-run.1", "sidegate-policy.1", "sidegate-policy-check.1", "sidegate-man.1"]
    {
        assert!(files.contains(name), "{name}: {files:?}");
    }
    for name in &files {
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        let command = name.strip_suffix(".1").unwrap();
        assert!(text.contains(&format!(".TH {command} 1")), "{name}: {text}");
        // A page refers only to existing pages.
        let referred = text.split_whitespace().filter_map(|word| word.strip_suffix("(1)"));
        for page in referred.map(|word| word.replace("\\-", "-")) {
            assert!(files.contains(&format!("{page}.1")), "{name} refers to {page}");
        }
    }
    if is_missing("man", Command::new("man").arg("--version")) {
        return;
    }
    for name in &files {
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file", "--encoding", "utf8"]).arg(folder.path().join(name));
        let page = output_of(man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "100").env("MANROFFOPT", "-ww"));
        assert!(page.contains("SYNOPSIS") && page.contains("EXIT STATUS"), "{name}: {page}");
    }
}

#[test]
fn the_manual_page_of_one_command_is_printed_by_its_name() {
    let page = printed(&["man", "policy", "who-can"]);
    assert!(page.contains(".TH sidegate-policy-who-can 1"), "{page}");
    let finished = run(&["man", "policy", "chek"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("did you mean `check`?"), "{finished:?}");
}

#[test]
fn shells_can_read_the_completions() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, arguments) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let file = folder.path().join(shell);
        fs::write(&file, printed(&["completions", shell])).unwrap();
        if !is_missing(shell, Command::new(shell).arg("--version")) {
            output_of(Command::new(shell).args(arguments).arg(file));
        }
    }
    for shell in ["elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("sidegate;policy;check"), "{shell}");
    }
}

#[test]
fn shells_complete_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let file = |shell| folder.path().join(shell);
    for shell in ["bash", "fish"] {
        fs::write(file(shell), printed(&["completions", shell])).unwrap();
    }
    if !is_missing("bash", Command::new("bash").arg("--version")) {
        let complete = r#". "$0"; COMP_WORDS=(sidegate policy ch); COMP_CWORD=2; _sidegate sidegate ch policy; echo "${COMPREPLY[@]}""#;
        assert_eq!(output_of(Command::new("bash").args(["-c", complete]).arg(file("bash"))).trim(), "check");
    }
    if !is_missing("fish", Command::new("fish").arg("--version")) {
        let complete = r#"source $argv[1]; complete --do-complete "sidegate policy ch""#;
        let completed = output_of(Command::new("fish").args(["-c", complete]).arg(file("fish")));
        assert!(completed.starts_with("check\t"), "{completed}");
    }
}
