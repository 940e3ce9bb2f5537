//! A private key in the place of a path, or in a line of a file, is refused and not shown (DESIGN §8).

use std::fs;

use sidegate::demo::pki::{Leaf, pem};

use crate::support::damaged_keys::{KeyTraces, base64_of, keys};
use crate::support::proxy::{command, run};
use crate::support::{Backend, Setup};

/// The key itself stands where the path of its file is expected, because a variable was filled from a Secret.
#[test]
fn a_key_in_place_of_its_path_is_refused_and_not_shown() {
    let key = Leaf::client("Shop", "key").self_signed().unwrap().key;
    let (text, traces) = (pem("PRIVATE KEY", key.secret_der()), KeyTraces::of(key.secret_der()));
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

/// The key is in base64 as in a manifest: of the PEM or of the binary form, whole or without its start.
#[test]
fn a_key_in_base64_in_place_of_a_path_is_refused_and_not_shown() {
    let backend = Backend::ok();
    for (pem, traces) in keys() {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let url_safe = body.replace('+', "-").replace('/', "_");
        let encoded = base64_of(pem.as_bytes());
        let also = KeyTraces::of(pem.as_bytes());
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

/// The message about a mistake on a line with a key has the place of the line, and not its text.
#[test]
fn a_source_line_with_key_material_is_not_shown_and_other_lines_are() {
    let key = Leaf::client("Shop", "key").self_signed().unwrap().key;
    let traces = KeyTraces::of(key.secret_der());
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
