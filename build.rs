//! Tells the program which commit it was built from (src/version.rs).
//!
//! Builds for use carry it; a developer's are called `development`, so that a commit does not cost everybody a build.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// What makes a program; a change of anything else leaves it as it is.
const SOURCES: [&str; 5] = ["src", "policies", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-env-changed=SIDEGATE_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let commit = given().or_else(packaged).or_else(cloned).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SIDEGATE_COMMIT={commit}");
}

/// What whoever builds says, for a folder without its history (an image's build).
fn given() -> Option<String> {
    env::var("SIDEGATE_COMMIT").ok().filter(|commit| !commit.is_empty())
}

/// What cargo wrote into the crate when it was packed.
fn packaged() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, after) = text.split_once("\"sha1\"")?;
    after.split('"').nth(1).map(short)
}

/// What a clone stands at.
fn cloned() -> Option<String> {
    // A crate that lies unpacked in a repository of somebody else's is not of that repository.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = fs::canonicalize(env::var_os("CARGO_MANIFEST_DIR")?).ok()?;
    if fs::canonicalize(top).ok()? != here {
        return None;
    }
    if env::var("PROFILE").ok()? != "release" {
        return Some("development".to_owned());
    }
    watch();
    let commit = short(&git(&["rev-parse", "HEAD"])?);
    let changes = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-modified") })
}

/// Asks to be run again when the clone moves or what is built changes, and at no other time.
fn watch() {
    let places = ["HEAD", "logs/HEAD", "packed-refs"].into_iter();
    let places = places.filter_map(|place| git(&["rev-parse", "--git-path", place]));
    for place in places.chain(SOURCES.map(str::to_owned)).filter(|place| Path::new(place).exists()) {
        println!("cargo::rerun-if-changed={place}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}
