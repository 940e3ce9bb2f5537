//! Secrets are written down nowhere: what a client sends is not in the log, however much it tells, nor in audit records, nor in
//! answers of our own; a private key is in no message, whatever is wrong with its file and wherever that file is named.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use sidegate::demo::pki::{Leaf, pem};

use crate::support::admin::Admin;
use crate::support::backend::RefusingPort;
use crate::support::http2::{Http2, request};
use crate::support::proxy::{Process, command, run};
use crate::support::{Backend, DEADLINE, Proxy, Setup};

const SECRET: &str = "s3cr3t-t0k3n";

fn ask(proxy: &Proxy, path: &str) -> String {
    let fields = [
        ("authorization", format!("Bearer {SECRET}")),
        ("cookie", format!("session={SECRET}")),
        ("x-api-key", SECRET.to_owned()),
        ("proxy-authorization", format!("Basic {SECRET}")),
        ("x-client-name", SECRET.to_owned()),
    ];
    let path = format!("{path}?token={SECRET}");
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = SECRET.len();
    let mut answers = String::new();
    for client in [proxy.producer(), proxy.consumer(), proxy.anonymous()] {
        let mut connection = client.connect(proxy.address).unwrap();
        let answer = connection.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{SECRET}"
        ));
        answers += &format!("{:?}", answer.unwrap());
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let connection = Http2::connect(&client, proxy.address).unwrap();
        answers +=
            &format!("{:?}", connection.ask(request("POST", &path, &fields), SECRET.as_bytes()).unwrap());
    }
    answers
}

#[test]
fn no_secret_of_a_client_is_written_down() {
    let (backend, refusing) = (Backend::ok(), RefusingPort::new());
    for url in [backend.url(), refusing.url()] {
        let mut proxy = Setup::new(&url).set("log.level", "trace").start();
        let mut answers = ask(&proxy, "/events");
        answers += &ask(&proxy, "/a//b");
        proxy.process.signal("INT");
        assert_eq!(proxy.process.exit().code(), Some(0));
        let (log, audit) = (proxy.process.log(), proxy.process.rest_of_output());
        assert_eq!(audit.lines().count(), 12, "{audit}");
        for (what, text) in [("the log", &log), ("an audit record", &audit), ("an answer", &answers)] {
            assert!(!text.contains(SECRET), "{what}: {text}");
        }
        let key = proxy.pki().server.key.secret_der().to_vec();
        assert!(!log.as_bytes().windows(32).any(|window| window == &key[..32]), "the server's key");
    }
    // The backend gets what is its own.
    assert_eq!(backend.received()[0].header("authorization"), [format!("Bearer {SECRET}")]);
}

/// A key as somebody may have damaged it, each by another accident.
fn damages(pem: &str) -> Vec<(&'static str, Vec<u8>)> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let lines: Vec<&str> = pem.lines().collect();
    let utf_16 = || pem.encode_utf16();
    let text = |text: String| text.into_bytes();
    vec![
        ("line breaks became two characters", text(pem.replace('\n', "\\n"))),
        ("the same in quotes", text(format!("\"{}\"", pem.replace('\n', "\\n")))),
        ("line breaks became blanks", text(pem.replace('\n', " "))),
        ("line breaks vanished", text(pem.replace('\n', ""))),
        ("some line breaks became two characters", text(pem.replacen('\n', "\\n", 2))),
        ("no line break before the end", text(pem.replace("\n-----END", "-----END"))),
        ("no beginning", text(lines[1..].join("\n"))),
        ("no end", text(lines[..lines.len() - 1].join("\n"))),
        ("neither", text(lines[1..lines.len() - 1].join("\n"))),
        ("base64 alone, in one line", text(body.clone())),
        (
            "base64 alone, in words",
            text(body.as_bytes().chunks(32).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")),
        ),
        ("four dashes", text(pem.replace("KEY-----\n", "KEY----\n"))),
        ("six dashes", text(pem.replace("KEY-----\n", "KEY------\n"))),
        ("four dashes in front", text(pem.replacen("-----BEGIN", "----BEGIN", 1))),
        ("small letters", text(pem.replace("BEGIN PRIVATE KEY", "begin private key"))),
        ("the key in the label", text(pem.replacen("PRIVATE KEY", &body[..40], 1))),
        ("another label at the end", text(pem.replace("END PRIVATE", "END RSA PRIVATE"))),
        ("an unknown label", text(pem.replace("PRIVATE KEY", "SECRET KEY"))),
        ("a certificate's label", text(pem.replace("PRIVATE KEY", "CERTIFICATE"))),
        ("a CRL's label", text(pem.replace("PRIVATE KEY", "X509 CRL"))),
        ("OpenSSH's label", text(pem.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"))),
        ("the label of an encrypted key", text(pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))),
        (
            "headers of an encrypted key",
            text(pem.replacen("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n", 1)),
        ),
        ("a star in a line", text(pem.replacen(&body[20..21], "*", 1))),
        ("a letter of another alphabet", text(pem.replacen(&body[30..32], "\u{e4}", 1))),
        ("a letter in Latin-1", [&pem.as_bytes()[..60], &[0xe4], &pem.as_bytes()[61..]].concat()),
        ("a NUL in a line", text(pem.replacen(&body[20..21], "\0", 1))),
        ("a colon in a line", text(pem.replacen(&body[20..22], ": ", 1))),
        ("a letter too few", text(pem.replacen(&body[50..54], &body[50..53], 1))),
        ("a line too few", text([&lines[..2], &lines[3..]].concat().join("\n"))),
        (
            "lines in another order",
            text([&lines[..1], &[lines[2], lines[1]], &lines[3..]].concat().join("\n")),
        ),
        ("indented", text(lines.iter().map(|line| format!("    {line}\n")).collect())),
        ("quoted in a mail", text(lines.iter().map(|line| format!("> {line}\n")).collect())),
        (
            "as a value in YAML",
            text(format!(
                "tls.key: |\n{}",
                lines.iter().map(|line| format!("  {line}\n")).collect::<String>()
            )),
        ),
        ("as a value in JSON", text(serde_json::json!({ "tls.key": pem }).to_string())),
        ("twice", text(pem.repeat(2))),
        ("UTF-16", utf_16().flat_map(u16::to_le_bytes).collect()),
        ("UTF-16 with its mark", [0xfeff].into_iter().chain(utf_16()).flat_map(u16::to_be_bytes).collect()),
        ("base64 of it all", text(base64_of(pem.as_bytes()))),
        ("the binary form", base64_decoded(&body)),
        ("half of the binary form", base64_decoded(&body[..64])),
    ]
}

fn base64_of(bytes: &[u8]) -> String {
    pem("X", bytes).lines().filter(|line| !line.starts_with('-')).collect()
}

fn base64_decoded(text: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    let section = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    rustls::pki_types::CertificateDer::from_pem_slice(section.as_bytes()).unwrap().to_vec()
}

/// Any six bytes of keys in a row, in the forms in which programs print bytes.
#[derive(Default)]
struct Traces(HashMap<&'static str, HashSet<Vec<u8>>>);

const ROW: usize = 6;

impl Traces {
    fn of(key: &[u8]) -> Self {
        let text = base64_of(key).into_bytes();
        let rows = |bytes: &[u8], form: &dyn Fn(&[u8]) -> String| -> HashSet<Vec<u8>> {
            bytes.windows(ROW).map(|row| form(row).into_bytes()).collect()
        };
        // Numbers have different lengths; a row of any bytes has one of this length beside it.
        let numbers = |bytes: &[u8], length: usize| -> HashSet<Vec<u8>> {
            let decimal = |row: &[u8]| row.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            rows(bytes, &decimal).into_iter().filter(|row| row.len() == length).collect()
        };
        let hex = |row: &[u8]| row.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let upper = |row: &[u8]| hex(row).to_uppercase();
        let with_nuls =
            |row: &[u8]| row.iter().map(|byte| format!("{}\\u{{0}}", char::from(*byte))).collect();
        Self(HashMap::from([
            ("base64", text.windows(ROW).map(<[u8]>::to_vec).collect()),
            ("raw", key.windows(ROW).map(<[u8]>::to_vec).collect()),
            ("decimal", numbers(key, 26)),
            ("decimal of base64", numbers(&text, 24)),
            ("hex", rows(key, &hex)),
            ("hex of base64", rows(&text, &hex)),
            ("upper hex", rows(key, &upper)),
            ("base64 with NULs", rows(&text, &with_nuls)),
        ]))
    }

    /// One look at a long log for all keys that were damaged.
    fn of_all(damaged: &[(&'static str, Vec<u8>, Rc<Self>)]) -> Self {
        let mut all = Self::default();
        for (_, _, traces) in damaged {
            for (form, rows) in &traces.0 {
                all.0.entry(form).or_default().extend(rows.iter().cloned());
            }
        }
        all
    }

    #[track_caller]
    fn assert_none_in(&self, what: &str, output: &str) {
        for (form, rows) in &self.0 {
            let length = rows.iter().next().map_or(ROW, Vec::len);
            let found = output.as_bytes().windows(length).find(|window| rows.contains(*window));
            assert!(found.is_none(), "{what}: {form} {:?} in {output}", found.map(String::from_utf8_lossy));
        }
    }
}

/// What looks for traces of a key finds them in what such programs print.
#[test]
fn traces_of_a_key_are_found() {
    let key = Leaf::client("Shop", "key").self_signed().unwrap().key;
    let (key, traces) = (key.secret_der(), Traces::of(key.secret_der()));
    let text = base64_of(key);
    for leak in [format!("{key:?}"), format!("{:?}", text.as_bytes()), text.clone(), text[70..80].to_owned()]
    {
        assert!(std::panic::catch_unwind(|| traces.assert_none_in("a leak", &leak)).is_err(), "{leak}");
    }
}

/// Fresh keys of three kinds, each in PEM with what would give it away.
fn keys() -> Vec<(String, Traces)> {
    let key = |algorithm| Leaf::client("Shop", "key").key(algorithm).self_signed().unwrap().key;
    let keys = [key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_RSA_SHA256), key(&PKCS_ECDSA_P384_SHA384)];
    keys.iter().map(|key| (pem("PRIVATE KEY", key.secret_der()), Traces::of(key.secret_der()))).collect()
}

/// Each damage once, to one of the keys in turn.
fn damaged_keys() -> Vec<(&'static str, Vec<u8>, Rc<Traces>)> {
    let keys: Vec<_> = keys().into_iter().map(|(pem, traces)| (damages(&pem), Rc::new(traces))).collect();
    let count = keys[0].0.len();
    let take = |index: usize| {
        let (damages, traces) = &keys[index % keys.len()];
        let (damage, bytes) = &damages[index];
        (*damage, bytes.clone(), Rc::clone(traces))
    };
    (0..count).map(take).collect()
}

/// Everything that a configuration may name is the damaged key, and so is everything that the tools are given.
#[test]
fn no_byte_of_a_damaged_key_is_shown_at_the_start_or_by_a_tool() {
    for (damage, bytes, traces) in &damaged_keys() {
        let setup = Setup::new("https://127.0.0.1:9").set("log.level", "trace");
        let setup = ["tls.key", "tls.certificate", "tls.client_ca", "tls.crl", "policies", "shadow_policies"]
            .into_iter()
            .chain(["admin.token_file", "backend.tls.ca", "backend.tls.certificate", "backend.tls.key"])
            .fold(setup, |setup, key| setup.set(key, "damaged.yaml"));
        fs::write(setup.path("damaged.yaml"), bytes).unwrap();
        let (config, file) = (setup.write(), setup.path("damaged.yaml"));
        let (config, file) = (config.to_str().unwrap(), file.to_str().unwrap());
        let only_key = Setup::new("http://127.0.0.1:9");
        fs::write(only_key.path("server.key"), bytes).unwrap();
        let only_key = only_key.write();
        for arguments in [
            &["run", "--config", config][..],
            &["run", "--config", config, "--log-format", "text"],
            &["run", "--config", only_key.to_str().unwrap()],
            &["run", "--config", file],
            &["doctor", "--config", config, "--format", "json"],
            &["cert", file, "--ca", file, "--crl", file],
            &["cert", file, "--ca", file, "--format", "json"],
            &["policy", "check", file],
            &["policy", "check", file, "--format", "json"],
            &["policy", "check", file, "--format", "github"],
            &["policy", "explain", file, "--cert", file, "GET", "/"],
            &["policy", "replay", file, "--policy", file],
            &["inject", file],
        ] {
            let finished = run(arguments);
            let said = format!("{}{}", finished.stdout, finished.stderr);
            traces.assert_none_in(&format!("{damage}, {arguments:?}"), &said);
            assert!(!said.contains("panicked") && finished.code != Some(0), "{damage}: {finished:?}");
        }
    }
}

/// Everything that the admin listener gives to a reader, the first event included.
fn everything_of(admin: Admin) -> String {
    let paths = [
        "/status",
        "/connections",
        "/metrics",
        "/readyz",
        "/api/session",
        "/api/now",
        "/api/history",
        "/api/trust",
        "/api/shadow",
        "/api/refusals",
        "/api/refusal",
        "/api/policy",
        "/api/matrix",
        "/api/grant",
        "/api/client",
    ];
    let mut said: String = paths.iter().map(|path| admin.get(path).text()).collect();
    let mut events = TcpStream::connect(admin.address).unwrap();
    events.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(events, "GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address).unwrap();
    let mut event = Vec::new();
    while !event.ends_with(b"\n\n\r\n") {
        let mut byte = [0];
        assert_eq!(events.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&event));
        event.push(byte[0]);
    }
    said += &String::from_utf8_lossy(&event);
    said
}

/// Files that are renewed one after the other: each was good at the start and is the damaged key now.
#[test]
fn no_byte_of_a_damaged_key_is_shown_on_reload() {
    let backend = Backend::ok();
    let files = ["server.key", "client-ca.crt", "ca.crl", "policy.yaml", "next.yaml"];
    let setup = Setup::new(&backend.url())
        .set("log.level", "trace")
        .set("tls.crl", "ca.crl")
        .set("shadow_policies", "next.yaml");
    fs::write(setup.path("ca.crl"), setup.pki.ca.crl(&[], |_| {}).unwrap()).unwrap();
    fs::copy(setup.path("policy.yaml"), setup.path("next.yaml")).unwrap();
    let mut proxy = setup.start();
    let mut said = String::new();
    let damaged = damaged_keys();
    for (index, (damage, bytes, traces)) in damaged.iter().enumerate() {
        for changed in [std::slice::from_ref(&files[index % files.len()]), &files[..]] {
            let before: Vec<_> =
                changed.iter().map(|file| fs::read(proxy.setup.path(file)).unwrap()).collect();
            changed.iter().for_each(|file| fs::write(proxy.setup.path(file), bytes).unwrap());
            let attempt = proxy.admin.post("/reload", "");
            assert!(
                attempt.status == 422 || changed == ["next.yaml"],
                "{damage} in {changed:?}: {attempt:?}"
            );
            traces.assert_none_in(&format!("{damage} in {changed:?}"), &attempt.text());
            for (file, before) in changed.iter().zip(before) {
                fs::write(proxy.setup.path(file), before).unwrap();
            }
        }
        said += &proxy.admin.status().to_string();
    }
    said += &everything_of(proxy.admin);
    assert_eq!(proxy.connect().get("/events").unwrap().verdict(), "200");
    proxy.process.signal("INT");
    proxy.process.exit();
    said += &proxy.process.log();
    assert!(said.contains("the line breaks of this file are lost"), "{said}");
    Traces::of_all(&damaged).assert_none_in("the whole log", &said);
}

/// The log for people has other code than the one for programs.
#[test]
fn no_byte_of_a_damaged_key_is_in_the_log_for_people() {
    let backend = Backend::ok();
    let setup = Setup::new(&backend.url()).set("log.level", "trace").set("log.format", "text");
    let mut process = Process::spawn(&["run", "--config", setup.write().to_str().unwrap()]);
    process.log_with("ready");
    let damaged = damaged_keys();
    let good = fs::read(setup.path("server.key")).unwrap();
    for (damage, bytes, _) in &damaged {
        fs::write(setup.path("server.key"), bytes).unwrap();
        process.signal("HUP");
        let said = process.log_with("server.key");
        assert!(said.contains("no usable key") || said.contains("cannot be used"), "{damage}: {said}");
        fs::write(setup.path("server.key"), &good).unwrap();
        process.signal("HUP");
        process.log_with(" reloaded ");
    }
    process.signal("INT");
    process.exit();
    let said = process.log();
    Traces::of_all(&damaged).assert_none_in("the whole log", &said);
}

/// The key itself, where the name of its file is expected: a variable that was filled from a Secret.
#[test]
fn a_key_in_place_of_its_file_s_name_is_refused_and_not_shown() {
    let key = Leaf::client("Shop", "key").self_signed().unwrap().key;
    let (text, traces) = (pem("PRIVATE KEY", key.secret_der()), Traces::of(key.secret_der()));
    let setup = Setup::new("http://127.0.0.1:9");
    let config = setup.write();
    let config = config.to_str().unwrap();
    for value in [text.clone(), text.replace('\n', "\\n"), text.replace('\n', " "), format!("'{text}'")] {
        for verb in ["run", "doctor"] {
            let by_variable =
                command(&[verb, "--config", config]).env("SIDEGATE_TLS_KEY", &value).output().unwrap();
            let by_flag = command(&[verb, "--config", config, "--tls-key", &value]).output().unwrap();
            for (output, name) in [(by_variable, "SIDEGATE_TLS_KEY"), (by_flag, "the command line")] {
                let said = format!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
                assert_eq!(output.status.code(), Some(2), "{said}");
                assert!(said.contains(name) && said.contains("has a private key in it"), "{said}");
                traces.assert_none_in(verb, &said);
            }
        }
    }
    let mut setup = Setup::new("http://127.0.0.1:9");
    setup.config["tls"]["key"] = text.into();
    let finished = setup.run();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    traces.assert_none_in("in the configuration", &finished.stderr);
}

/// The same key in base64, as it stands in a manifest, and in the binary form: whole, in lines, or cut off at its start.
#[test]
fn a_key_in_base64_in_place_of_a_path_is_refused_and_not_shown() {
    let backend = Backend::ok();
    for (pem, traces) in keys() {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let url_safe = body.replace('+', "-").replace('/', "_");
        let encoded = base64_of(pem.as_bytes());
        let also = Traces::of(pem.as_bytes());
        let setup = Setup::new(&backend.url());
        let config = setup.write();
        let config = config.to_str().unwrap();
        let cut_off = body[30..].to_owned();
        for value in [&encoded, &body, &url_safe, &format!("{encoded}\n"), &cut_off] {
            let assert_hidden = |what: &str, output: &std::process::Output, is_refused: bool| {
                let out = [&output.stdout[..], &output.stderr].concat();
                let said = String::from_utf8_lossy(&out);
                assert_eq!(output.status.code(), Some(2), "{what}: {said}");
                assert!(!is_refused || said.contains("secret"), "{what}: {said}");
                [&traces, &also].iter().for_each(|traces| traces.assert_none_in(what, &said));
            };
            for verb in ["run", "doctor"] {
                let variables =
                    ["SIDEGATE_TLS_KEY", "SIDEGATE_POLICIES", "SIDEGATE_LOG_AUDIT", "SIDEGATE_CONFIG"];
                for variable in variables {
                    let mut command = match variable {
                        "SIDEGATE_CONFIG" => command(&[verb]),
                        _ => command(&[verb, "--config", config]),
                    };
                    let output = command.env(variable, value).output().unwrap();
                    assert_hidden(variable, &output, variable != "SIDEGATE_CONFIG");
                }
                let output = command(&[verb, "--config", config, "--tls-key", value]).output().unwrap();
                assert_hidden("a flag", &output, true);
            }
            for arguments in [
                &["cert"][..],
                &["policy", "check"],
                &["policy", "check", "--format", "json"],
                &["inject"],
                &[],
            ] {
                let output = command(&[arguments, &[value.as_str()]].concat()).output().unwrap();
                assert_hidden(&format!("{arguments:?}"), &output, false);
            }
        }
        let mut proxy = setup.start();
        for value in [encoded, body, cut_off] {
            let config = proxy.setup.path("sidegate.yaml");
            let good = fs::read_to_string(&config).unwrap();
            let mut changed: serde_json::Value = serde_json::from_str(&good).unwrap();
            changed["tls"]["key"] = value.into();
            fs::write(&config, changed.to_string()).unwrap();
            let refused = proxy.admin.refused_reload();
            assert_eq!(refused["diagnostics"][0]["code"], "secret", "{refused}");
            let said = format!("{refused}{}", proxy.admin.status());
            [&traces, &also].iter().for_each(|traces| traces.assert_none_in("reload", &said));
            fs::write(&config, good).unwrap();
        }
        proxy.process.signal("INT");
        proxy.process.exit();
        let log = proxy.process.log();
        [&traces, &also].iter().for_each(|traces| traces.assert_none_in("the log", &log));
    }
}

/// A mistake on the line of a variable whose value is a key: the line is not shown, and its place is told.
#[test]
fn a_source_line_with_key_material_is_not_shown_and_others_are() {
    let key = Leaf::client("Shop", "key").self_signed().unwrap().key;
    let traces = Traces::of(key.secret_der());
    let text = pem("PRIVATE KEY", key.secret_der());
    let folder = tempfile::tempdir().unwrap();
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let one_line = text.replace('\n', "\\n");
    let jwk = r#"'{"kty":"EC","d":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}'"#;
    for (value, is_shown) in [
        (format!("\"{one_line}\""), false),
        (format!("'{}'", base64_of(key.secret_der())), false),
        (jwk.to_owned(), false),
        (format!("app@sha256:{digest}"), true),
        (digest.to_uppercase(), true),
    ] {
        let file = folder.path().join("policy.yaml");
        fs::write(&file, format!("version: 1\nenv: {{ value: {value} ]\n")).unwrap();
        for tool in [&["policy", "check"][..], &["inject"]] {
            for format in ["human", "json", "github"] {
                let arguments = match tool {
                    ["inject"] => vec!["inject", file.to_str().unwrap()],
                    _ => [tool, &[file.to_str().unwrap(), "--format", format]].concat(),
                };
                let finished = run(&arguments);
                let said = format!("{}{}", finished.stdout, finished.stderr);
                assert_ne!(finished.code, Some(0), "{said}");
                traces.assert_none_in(&format!("{arguments:?}"), &said);
                assert!(is_shown || !said.contains("aaaaaaaaaaaaaaaa"), "{said}");
            }
        }
        let said = run(&["inject", file.to_str().unwrap()]).stderr;
        assert_eq!(said.contains(&value), is_shown, "{said}");
        assert_eq!(said.contains("this line is not shown: it may hold a secret"), !is_shown, "{said}");
        assert!(said.contains("policy.yaml:2:"), "{said}");
    }
}

/// Each accident has a remedy of its own.
#[test]
fn the_message_says_what_happened_to_a_key() {
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

/// Files that other programs write, and what editors make of them.
#[test]
fn a_key_of_any_usual_form_works() {
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
