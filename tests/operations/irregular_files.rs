//! Only regular files are read, and only up to a limit: a FIFO, a device or a file without an end blocks neither the start
//! nor a reload (DESIGN §2.2). Users of tools may still give them pipes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::Setup;
use crate::support::proxy::{POLICY, command, program, run};
use crate::support::tools::is_missing;

const NOWHERE: &str = "http://127.0.0.1:9";

/// Makes a FIFO without a writer.
fn make_fifo(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Makes a link to a device without an end.
fn link_to_device(path: &Path) {
    let _ = fs::remove_file(path);
    symlink("/dev/zero", path).unwrap();
}

/// A setup that names a file of every kind, each readable.
fn everything() -> Setup {
    let setup = Setup::new(NOWHERE)
        .set("tls.client_ca", "ca/")
        .set("tls.crl", "crl/")
        .set("policies", "policies/")
        .set("admin.token_file", "token")
        .set("backend.url", "https://127.0.0.1:9")
        .set(
            "backend.tls",
            serde_json::json!({ "ca": "backend.crt", "certificate": "own.crt", "key": "own.key" }),
        );
    for folder in ["ca", "crl", "policies"] {
        fs::create_dir(setup.path(folder)).unwrap();
    }
    fs::rename(setup.path("client-ca.crt"), setup.path("ca/ca.crt")).unwrap();
    fs::write(setup.path("crl/ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    fs::write(setup.path("policies/policy.yaml"), POLICY).unwrap();
    fs::write(setup.path("token"), "0123456789abcdef").unwrap();
    fs::copy(setup.path("ca/ca.crt"), setup.path("backend.crt")).unwrap();
    setup.pki.server.write(setup.folder.path(), "own").unwrap();
    setup.write();
    setup
}

/// Files that the configuration names, and files in folders that it names.
const READ: [&str; 12] = [
    "sidegate.yaml",
    "server.crt",
    "server.key",
    "ca/ca.crt",
    "ca/another.pem",
    "crl/ca.crl",
    "crl/0a0b0c0d.r0",
    "policies/another.yaml",
    "token",
    "backend.crt",
    "own.crt",
    "own.key",
];

#[test]
fn a_fifo_or_a_device_in_place_of_any_file_ends_the_start_with_its_name() {
    let replacements = [
        (make_fifo as fn(&Path), "it is a FIFO (named pipe) and no regular file"),
        (link_to_device, "it is a device and no regular file"),
    ];
    for (replace, expected) in replacements {
        for name in READ {
            let setup = everything();
            let file = setup.path(name);
            replace(&file);
            let config = setup.path("sidegate.yaml");
            for verb in ["run", "doctor"] {
                let finished = run(&[verb, "--config", config.to_str().unwrap()]);
                assert_eq!(finished.code, Some(2), "{verb} {name}: {finished:?}");
                let told = [file.to_str().unwrap(), expected];
                assert!(
                    told.iter().all(|part| finished.stderr.contains(part)),
                    "{verb} {name}: {finished:?}"
                );
            }
        }
    }
}

#[test]
fn a_huge_file_is_read_up_to_the_limit() {
    let setup = everything();
    for (name, megabytes) in [("policies/another.yaml", 65), ("sidegate.yaml", 2)] {
        // The file is sparse: it has a length, and no blocks.
        let file = fs::File::create(setup.path(name)).unwrap();
        file.set_len(megabytes << 20).unwrap();
        let finished = run(&["run", "--config", setup.path("sidegate.yaml").to_str().unwrap()]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains("is larger than"), "{finished:?}");
    }
}

/// `sidegate policy check <(generate)`.
#[test]
fn tools_read_the_pipes_that_a_user_gives_them() {
    if is_missing("bash", Command::new("bash").arg("--version")) {
        return;
    }
    let setup = everything();
    let bash = |script: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", script, "bash"]).arg(program()).current_dir(setup.folder.path());
        bash.output().unwrap()
    };
    for line in [
        "\"$1\" policy check <(cat policies/policy.yaml)",
        "\"$1\" cert <(cat own.crt) --ca <(cat ca/ca.crt) --crl <(cat crl/ca.crl)",
    ] {
        let output = bash(line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 2), "{line}: {told}");
    }
    let output = bash("\"$1\" policy check <(cat /dev/zero)");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is larger than 64 MiB"));
}

/// The user did not name a FIFO in a folder, so a tool does not wait for it.
#[test]
fn tools_do_not_wait_for_a_fifo_in_a_folder() {
    let setup = everything();
    make_fifo(&setup.path("policies/another.yaml"));
    let folder = setup.path("policies");
    let output = command(&["policy", "check", folder.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("another.yaml` cannot be read: it is a FIFO"), "{told}");
}
