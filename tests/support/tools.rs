//! Other programs that tests run: clients, backends, and parsers of other languages.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns true and prints a line if a tool is not installed; panics on CI, where every tool must be installed.
pub fn is_missing(name: &str, probe: &mut Command) -> bool {
    if probe.output().is_ok_and(|output| output.status.success()) {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "`{name}` is missing; .ci/tools installs it");
    eprintln!("skipped: `{name}` is missing; .ci/tools installs it");
    true
}

/// Returns the path of a tool that `.ci/tools` has installed below the target folder.
pub fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join(name)
}

/// Returns the path of a script below `tests/`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Returns a command for Node; `None` if this module is not installed.
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
