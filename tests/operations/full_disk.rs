//! A destination of audit records that takes no more: requests go on, the log says so and why, and no half record stays
//! (DESIGN §8).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Backend, Proxy, Setup, eventually};

fn lost(proxy: &Proxy) -> f64 {
    proxy.admin.metrics().labelled("sidegate_lines_dropped_total", &[("kind", "audit")])
}

fn is_failure(line: &Value) -> bool {
    line["message"] == "audit records cannot be written, and are lost"
}

fn is_end(line: &Value) -> bool {
    line["message"] == "audit records are written again"
}

/// The limit of a file's size is what a full disk is: the system takes a part of a record, and then nothing.
#[test]
fn a_record_without_room_is_taken_back_and_the_log_says_when_records_are_written_again() {
    let backend = Backend::ok();
    // In blocks of 512 bytes.
    let setup = Setup::new(&backend.url()).set("log.audit", "audit.log");
    let mut proxy = setup.start_in_shell("ulimit -f 9");
    let file = proxy.setup.path("audit.log");
    let mut connection = proxy.connect();
    for _ in 0..40 {
        assert_eq!(connection.get("/events").unwrap().status, 200);
    }
    let said = proxy.process.log_where("the cause", is_failure);
    assert_eq!((said["level"].as_str(), said["cause"].as_str()), (Some("ERROR"), Some("file_too_large")));
    assert_eq!(said["lost"], 1, "the line comes with the first record that is lost");
    let records = || fs::read_to_string(&file).unwrap();
    let written = || {
        let records = records();
        let whole = records.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        assert_eq!(whole, records.lines().count(), "{records}");
        f64::from(u32::try_from(whole).unwrap())
    };
    eventually("all records", || lost(&proxy), |lost| *lost > 0.0 && lost + written() == 40.0);
    assert!(records().ends_with("}\n") && records().len() <= 9 * 512);

    fs::rename(&file, proxy.setup.path("audit.1")).unwrap();
    proxy.process.signal("USR1");
    eventually("the new file", || file.exists(), |exists| *exists);
    assert_eq!(connection.get("/events").unwrap().status, 200);
    let said = proxy.process.log_where("the end", is_end);
    assert_eq!(said["lost"].as_f64(), Some(lost(&proxy)));
    let log = proxy.process.log();
    assert_eq!(log.matches("audit records cannot be written").count(), 1, "{log}");
}

#[test]
fn the_log_says_that_a_device_is_full_and_that_a_reader_is_gone() {
    let backend = Backend::ok();
    let mut full = Setup::new(&backend.url()).set("log.audit", "/dev/full").start();
    assert_eq!(full.connect().get("/events").unwrap().status, 200);
    assert_eq!(full.process.log_where("the cause", is_failure)["cause"], "disk_full");
    eventually("the lost record", || lost(&full), |count| *count == 1.0);
    // Standard output is a pipe whose reader ends at once.
    let setup = Setup::new(&backend.url());
    let config = setup.write();
    let program = crate::support::proxy::program();
    let script = format!("{} run --config {} | true", program.display(), config.display());
    let mut gone = setup.start_as(std::process::Command::new("sh").args(["-c", &script]));
    let said = eventually(
        "the cause",
        || {
            assert_eq!(gone.connect().get("/events").unwrap().status, 200);
            gone.process.log().lines().filter_map(|line| serde_json::from_str(line).ok()).find(is_failure)
        },
        Option::is_some,
    );
    assert_eq!(said.unwrap()["cause"], "closed_pipe");
    // The shell started the program, so ending the shell does not end it.
    let id = fs::read_to_string(format!("/proc/{0}/task/{0}/children", gone.process.id())).unwrap();
    for id in id.split_whitespace() {
        std::process::Command::new("kill").arg(id).status().unwrap();
    }
}

#[test]
fn a_new_file_of_records_is_for_its_owner_and_its_group() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("log.audit", "audit.log");
    let proxy = setup.start_in_shell("umask 0");
    let mode = fs::metadata(proxy.setup.path("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}
