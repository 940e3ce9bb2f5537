//! Programs of other people that tests run: clients, backends, languages with a reading of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether a tool is not here, which only a developer's machine may excuse.
pub fn is_missing(name: &str, probe: &mut Command) -> bool {
    if probe.output().is_ok_and(|output| output.status.success()) {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "`{name}` is missing; .ci/tools installs it");
    eprintln!("skipped: `{name}` is missing; .ci/tools installs it");
    true
}

/// What `.ci/tools` has put below the target folder.
pub fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join(name)
}

/// A script of this repository's tests.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Node, where it has this module.
pub fn node(module: &str) -> Option<Command> {
    let modules = installed("node_modules/");
    let is_there = format!("require('node:module').createRequire(process.env.MODULES)('{module}')");
    if is_missing(module, Command::new("node").args(["-e", &is_there]).env("MODULES", &modules)) {
        return None;
    }
    let mut command = Command::new("node");
    command.env("MODULES", modules).env("NODE_ENV", "production");
    Some(command)
}
