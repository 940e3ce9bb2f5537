//! `sidegate drain` is SIGTERM from inside of a container: the proxy beside it finishes its open requests and ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::{Backend, Setup, eventually};

/// Copies the program, so that the proxies of other tests are not proxies of this program.
fn program() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("sidegate");
    fs::hard_link(env!("CARGO_BIN_EXE_sidegate"), &program).unwrap();
    (folder, program)
}

fn drain(program: &Path, words: &[&str]) -> Output {
    Command::new(program).arg("drain").args(words).output().unwrap()
}

#[test]
fn the_proxy_of_the_same_program_drains_and_ends() {
    let (_folder, program) = program();
    let (backend, setup) =
        (Backend::ok(), |backend: &Backend| Setup::new(&backend.url()).set("drain_timeout", "10s"));
    let others = setup(&backend).start();
    let first = setup(&backend);
    let mut command = Command::new(&program);
    let mut proxy = {
        let file = first.write();
        first.start_as(command.args(["run", "--config"]).arg(file))
    };
    let mut open = proxy.connect();
    assert_eq!(open.get("/events").unwrap().verdict(), "200");
    let asked = drain(&program, &[]);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let ready = eventually("not ready", || proxy.admin.get("/readyz").status, |status| *status == 503);
    assert_eq!(ready, 503);
    // Open connections are still served, and asked to end.
    assert_eq!(open.get("/events").unwrap().verdict(), "200");
    assert_eq!(proxy.process.exit().code(), Some(0));
    let mut client = others.producer().connect(others.address).unwrap();
    assert_eq!(client.get("/events").unwrap().verdict(), "200", "the proxy of another program drains");
    others.process.signal("KILL");
}

#[test]
fn drain_signals_nothing_unless_there_is_exactly_one_proxy() {
    let (_folder, program) = program();
    let none = drain(&program, &[]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(
        none.status.code() == Some(2) && said.contains("no `sidegate run` of this program runs here"),
        "{said}"
    );
    let backend = Backend::ok();
    let mut proxies: Vec<_> = (0..2)
        .map(|_| {
            let setup = Setup::new(&backend.url());
            let file = setup.write();
            setup.start_as(Command::new(&program).args(["run", "--config"]).arg(file))
        })
        .collect();
    let several = drain(&program, &[]);
    let said = String::from_utf8(several.stderr).unwrap();
    assert!(
        several.status.code() == Some(2) && said.contains("several proxies of this program run here"),
        "{said}"
    );
    let first = proxies[0].process.id().to_string();
    assert!(drain(&program, &["--pid", &first]).status.success());
    assert_eq!(proxies[0].process.exit().code(), Some(0));
    assert_eq!(proxies[1].admin.get("/readyz").status, 200);
}
