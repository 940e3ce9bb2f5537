//! Key files of all usual forms work, and the message about a damaged one says what happened to it (DESIGN §6).

use std::fs;

use crate::support::{Backend, Setup};

/// Each damage has its own remedy.
#[test]
fn the_message_about_a_damaged_key_has_the_cause_and_a_remedy() {
    let setup = Setup::new("http://127.0.0.1:9");
    let pem = fs::read_to_string(setup.path("server.key")).unwrap();
    let certificate = fs::read_to_string(setup.path("server.crt")).unwrap();
    for (text, parts) in [
        (pem.replace('\n', "\\n"), ["the line breaks of this file are lost", "printf '%b'"]),
        (pem.replace('\n', ""), ["the line breaks of this file are lost", "mounted as a file"]),
        (String::new(), ["the file is empty", "-----BEGIN"]),
        (pem.replace("PRIVATE", "ENCRYPTED PRIVATE"), ["an encrypted private key", "openssl pkey"]),
        (pem.replace("PRIVATE", "OPENSSH PRIVATE"), ["OpenSSH", "ssh-keygen"]),
        (certificate, ["a certificate begins in line 1", "check the path"]),
        (pem.replace("-----END PRIVATE KEY-----", ""), ["line 1 has no END line", "cut off"]),
        (pem.repeat(2), ["2 keys", "remove the others"]),
    ] {
        fs::write(setup.path("server.key"), text).unwrap();
        let finished = setup.run();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        for part in parts.into_iter().chain(["there is no usable key in", "server.key", "sidegate.yaml:"]) {
            assert!(finished.stderr.contains(part), "`{part}` is not in {}", finished.stderr);
        }
    }
}

/// Files as other programs write them and as editors change them.
#[test]
fn a_key_in_any_usual_form_works() {
    let backend = Backend::ok();
    let named = Setup::new(&backend.url());
    let pem = fs::read_to_string(named.path("server.key")).unwrap();
    let certificate = fs::read_to_string(named.path("server.crt")).unwrap();
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for text in [
        format!("{parameters}{pem}"),
        pem.replace('\n', "\r\n"),
        format!("\u{feff}{pem}"),
        format!("{certificate}{pem}"),
        format!("{pem}{certificate}"),
        format!("Bag Attributes\n    friendlyName: server\n{pem}and more\n"),
    ] {
        let setup = Setup::new(&backend.url());
        fs::write(setup.path("server.crt"), &certificate).unwrap();
        fs::write(setup.path("server.key"), text).unwrap();
        let proxy = setup.start();
        let client = proxy.producer().without_server_verification();
        assert_eq!(client.connect(proxy.address).unwrap().get("/events").unwrap().verdict(), "200");
    }
}
