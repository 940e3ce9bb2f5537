//! The program that is shipped is compiled with the committed profile, and a profile that does not fit ends the build
//! (`tests/bench/README.md`, "The profile").

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use tempfile::TempDir;

use crate::support::tools::is_missing;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const HOST: &str = "x86_64-unknown-linux-gnu";

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap()
}

/// Returns the version of Rust that `rust-toolchain.toml` names.
fn pinned() -> String {
    let toolchain = text("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")).unwrap();
    channel.strip_suffix('"').unwrap().to_owned()
}

/// Returns the path of the committed profile.
fn profile() -> PathBuf {
    Path::new(ROOT).join(format!("deploy/profile/rustc-{}-{HOST}.profdata", pinned()))
}

/// The result of `deploy/rootfs` with stand-ins for rustc and cargo.
struct Build {
    code: Option<i32>,
    stderr: String,
    /// The words that cargo was given; `None` if cargo was not started.
    cargo: Option<Vec<String>>,
}

fn build(release: &str, host: &str, training: Option<&str>) -> Build {
    let folder = TempDir::new().unwrap();
    let calls = folder.path().join("calls");
    let stand_ins = Path::new(ROOT).join("tests/operations/release_profile");
    let path = format!("{}:{}", stand_ins.display(), env::var("PATH").unwrap());
    let mut rootfs = Command::new(Path::new(ROOT).join("deploy/rootfs"));
    rootfs.arg(folder.path().join("rootfs")).env("PATH", path).env("CALLS", &calls);
    rootfs.env("RELEASE", release).env("HOST", host).env_remove("SIDEGATE_TRAINING");
    rootfs.env_remove("AWS_LC_SYS_NO_JITTER_ENTROPY");
    if let Some(training) = training {
        rootfs.env("SIDEGATE_TRAINING", training);
    }
    let output = rootfs.output().unwrap();
    let cargo = fs::read_to_string(calls).ok();
    let cargo = cargo.map(|words| words.lines().map(str::to_owned).collect());
    Build { code: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap(), cargo }
}

#[test]
fn the_shipped_program_is_compiled_with_the_committed_profile() {
    if is_missing("python3", Command::new("python3").arg("--version")) {
        return;
    }
    let build = build(&pinned(), HOST, None);
    // The failure of cargo is the failure of the build.
    assert_eq!(build.code, Some(7), "{}", build.stderr);
    let words = build.cargo.unwrap();
    for expected in [
        "--release",
        // Flags go to the program alone, and not to build scripts, if the target is named.
        "--target",
        "-Ctarget-feature=+crt-static",
        &format!("-Cprofile-use={}", profile().display()),
        "jitter 1",
    ] {
        assert!(words.iter().any(|word| word == expected), "{expected}: {words:?}");
    }
    // The header of an indexed profile (llvm/ProfileData/InstrProf.h).
    assert!(fs::read(profile()).unwrap().starts_with(b"\xfflprofi\x81"));
}

#[test]
fn another_version_of_the_compiler_ends_the_build_with_a_remedy() {
    let build = build("0.99.0", HOST, None);
    assert_eq!((build.code, build.cargo), (Some(1), None));
    assert!(build.stderr.contains("deploy/profile has no profile for rustc 0.99.0"), "{}", build.stderr);
    assert!(build.stderr.contains("tests/bench/train"), "{}", build.stderr);
}

#[test]
fn a_target_without_a_profile_is_built_and_named() {
    let build = build(&pinned(), "riscv64gc-unknown-linux-gnu", None);
    let words = build.cargo.unwrap();
    assert!(!words.iter().any(|word| word.contains("-Cprofile")), "{words:?}");
    assert!(build.stderr.contains("no profile for riscv64gc-unknown-linux-gnu"), "{}", build.stderr);
}

#[test]
fn a_program_that_is_to_be_trained_counts() {
    let words = build(&pinned(), HOST, Some("/with  spaces/$HOME")).cargo.unwrap();
    assert!(words.iter().any(|word| word == "-Cprofile-generate=/with  spaces/$HOME"), "{words:?}");
    assert!(!words.iter().any(|word| word.contains("-Cprofile-use")), "{words:?}");
}

/// Returns the exit code and the messages of `deploy/profile/fits.py` for a profile and the messages of cargo.
fn fits(profile: &Path, messages: &[serde_json::Value]) -> (Option<i32>, String) {
    let mut python = Command::new("python3");
    python.arg(Path::new(ROOT).join("deploy/profile/fits.py")).arg(profile);
    let mut python = python.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = python.stdin.take().unwrap();
    for message in messages {
        writeln!(input, "{message}").unwrap();
    }
    writeln!(input, "{}", serde_json::json!({"reason": "build-finished", "success": true})).unwrap();
    drop(input);
    let output = python.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_profile_of_functions_that_were_renamed_or_changed_ends_the_build() {
    if is_missing("python3", Command::new("python3").arg("--version")) {
        return;
    }
    let symbol = |number: usize| format!("_ZN8sidegate4step{number:03}17h{number:016x}E");
    let all: String = (0..100).map(symbol).collect();
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let profile = file("a.profdata", &all);
    let library = |symbols: std::ops::Range<usize>| {
        let path = file("libsidegate.rlib", &symbols.map(symbol).collect::<String>());
        serde_json::json!({"reason": "compiler-artifact", "target": {"name": "sidegate"}, "filenames": [path]})
    };
    let warning =
        |text: String| serde_json::json!({"reason": "compiler-message", "message": {"rendered": text}});
    let changed = |number| {
        warning(format!(
            "function control flow change detected (hash mismatch) {} Hash = 1\n",
            symbol(number)
        ))
    };

    let (code, stderr) = fits(&profile, &[warning("warning: another\n".to_owned()), library(0..100)]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr, "warning: another\na.profdata: 100 of 100 trained functions are as they were\n");
    // Both kinds of loss count together.
    let messages: Vec<_> = (0..13).map(changed).chain([library(0..87)]).collect();
    let (code, stderr) = fits(&profile, &messages);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("74 of 100"), "{stderr}");
    assert!(stderr.contains("tests/bench/train"), "{stderr}");
    let (code, stderr) = fits(&profile, &messages[1..]);
    assert_eq!(code, Some(0), "{stderr}");
    // No function is found in a build that has no library.
    assert_eq!(fits(&profile, &[]).0, Some(1));
}

/// The crates of the tree need no newer Rust than `rust-version`, because this version builds them.
#[test]
fn one_version_of_rust_is_named_everywhere() {
    let version = pinned();
    let (minor, _) = version.rsplit_once('.').unwrap();
    for (file, expected) in [
        ("Cargo.toml", format!("rust-version = \"{minor}\"")),
        ("README.md", format!("[Rust](https://rustup.rs) {minor} or newer")),
        ("deploy/Containerfile", format!("rust:{version}-")),
    ] {
        assert!(text(file).contains(&expected), "{file} does not say {expected:?}");
    }
}
