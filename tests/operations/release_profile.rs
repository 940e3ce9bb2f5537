//! A release is compiled with its profile, by the compiler that the profile is of; nothing else is touched
//! (`tests/bench/README.md`, "The profile").

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const WRAPPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/with-profile");
const COMPILER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operations/release_profile/rustc");
const RELEASE: [&str; 6] = ["--crate-name", "sidegate", "-C", "opt-level=3", "-C", "panic=abort"];

/// The profile that is there, and the compiler's version in its name.
fn profile() -> (PathBuf, String) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/profile");
    let mut files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let file = files.next().expect("a profile");
    assert_eq!(files.next(), None, "one compiler makes releases");
    let name = file.file_name().unwrap().to_str().unwrap();
    let version = name.strip_prefix("rustc-").and_then(|name| name.strip_suffix(".profdata")).unwrap();
    let version = version.to_owned();
    (file, version)
}

/// What a compiler of that version is called with, when cargo asks for this.
fn called(version: &str, training: Option<&str>, arguments: &[&str]) -> Vec<String> {
    // As cargo does for a crate from elsewhere: in another folder.
    let mut wrapper = Command::new(WRAPPER);
    wrapper
        .current_dir("/")
        .arg(COMPILER)
        .args(arguments)
        .env("VERSION", version)
        .env_remove("SIDEGATE_TRAINING");
    if let Some(training) = training {
        wrapper.env("SIDEGATE_TRAINING", training);
    }
    let output = wrapper.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_release_gets_the_profile_of_its_compiler() {
    let (file, version) = profile();
    let expected = [format!("-Cprofile-use={}", file.display()), "-Cllvm-args=-no-pgo-warn-mismatch".into()];
    let all = called(&version, None, &RELEASE);
    assert_eq!(all[..RELEASE.len()], RELEASE);
    assert_eq!(all[RELEASE.len()..], expected);
    // The header of what LLVM reads (llvm/ProfileData/InstrProf.h).
    assert!(fs::read(file).unwrap().starts_with(b"\xfflprofi\x81"));
}

#[test]
fn another_compiler_and_what_is_not_a_release_are_called_as_they_were() {
    let (_, version) = profile();
    assert_eq!(called("0.99.0", None, &RELEASE), RELEASE);
    let debug = ["--crate-name", "a b", "-C", "opt-level=3", "--out-dir", "/with  spaces/$HOME"];
    assert_eq!(called(&version, None, &debug), debug);
    assert_eq!(called(&version, Some("/counts"), &debug), debug);
}

#[test]
fn a_program_that_is_to_be_trained_counts() {
    let (_, version) = profile();
    let all = called(&version, Some("/counts"), &RELEASE);
    assert_eq!(all[RELEASE.len()..], ["-Cprofile-generate=/counts"]);
}

/// A compiler that reports an error ends the build, with the profile or without.
#[test]
fn what_the_compiler_says_is_what_cargo_hears() {
    for arguments in [&RELEASE[..], &["-C", "opt-level=0"]] {
        let status = Command::new(WRAPPER).arg("false").args(arguments).status().unwrap();
        assert_eq!(status.code(), Some(1));
    }
}
