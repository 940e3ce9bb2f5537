//! Private keys that an accident has damaged, and the search for traces of a key in the output of a program.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use sidegate::demo::pki::{Leaf, pem};

/// Returns a key with each damage that happens to key files, and the name of the damage.
pub fn damages(pem: &str) -> Vec<(&'static str, Vec<u8>)> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let lines: Vec<&str> = pem.lines().collect();
    let utf_16 = || pem.encode_utf16();
    let text = |text: String| text.into_bytes();
    vec![
        ("line breaks became two characters", text(pem.replace('\n', "\\n"))),
        ("line breaks became two characters, in quotes", text(format!("\"{}\"", pem.replace('\n', "\\n")))),
        ("line breaks became blanks", text(pem.replace('\n', " "))),
        ("line breaks vanished", text(pem.replace('\n', ""))),
        ("some line breaks became two characters", text(pem.replacen('\n', "\\n", 2))),
        ("no line break before the end", text(pem.replace("\n-----END", "-----END"))),
        ("no beginning", text(lines[1..].join("\n"))),
        ("no end", text(lines[..lines.len() - 1].join("\n"))),
        ("no beginning and no end", text(lines[1..lines.len() - 1].join("\n"))),
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
        ("a character too few", text(pem.replacen(&body[50..54], &body[50..53], 1))),
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
        (
            "UTF-16 with a byte order mark",
            [0xfeff].into_iter().chain(utf_16()).flat_map(u16::to_be_bytes).collect(),
        ),
        ("base64 of the whole file", text(base64_of(pem.as_bytes()))),
        ("the binary form", base64_decoded(&body)),
        ("half of the binary form", base64_decoded(&body[..64])),
    ]
}

pub fn base64_of(bytes: &[u8]) -> String {
    pem("X", bytes).lines().filter(|line| !line.starts_with('-')).collect()
}

pub fn base64_decoded(text: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    let section = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    rustls::pki_types::CertificateDer::from_pem_slice(section.as_bytes()).unwrap().to_vec()
}

/// All sequences of six bytes of keys, in the forms in which programs print bytes.
#[derive(Default)]
pub struct KeyTraces(HashMap<&'static str, HashSet<Vec<u8>>>);

pub const LENGTH: usize = 6;

impl KeyTraces {
    pub fn of(key: &[u8]) -> Self {
        let text = base64_of(key).into_bytes();
        let sequences = |bytes: &[u8], form: &dyn Fn(&[u8]) -> String| -> HashSet<Vec<u8>> {
            bytes.windows(LENGTH).map(|sequence| form(sequence).into_bytes()).collect()
        };
        // Numbers have different lengths, so only sequences of this length are searched. Every key has some of them.
        let numbers = |bytes: &[u8], length: usize| -> HashSet<Vec<u8>> {
            let decimal = |sequence: &[u8]| sequence.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            sequences(bytes, &decimal).into_iter().filter(|sequence| sequence.len() == length).collect()
        };
        let hex = |sequence: &[u8]| sequence.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let upper = |sequence: &[u8]| hex(sequence).to_uppercase();
        let with_nuls =
            |sequence: &[u8]| sequence.iter().map(|byte| format!("{}\\u{{0}}", char::from(*byte))).collect();
        Self(HashMap::from([
            ("base64", text.windows(LENGTH).map(<[u8]>::to_vec).collect()),
            ("raw", key.windows(LENGTH).map(<[u8]>::to_vec).collect()),
            ("decimal", numbers(key, 26)),
            ("decimal of base64", numbers(&text, 24)),
            ("hex", sequences(key, &hex)),
            ("hex of base64", sequences(&text, &hex)),
            ("upper hex", sequences(key, &upper)),
            ("base64 with NULs", sequences(&text, &with_nuls)),
        ]))
    }

    /// Returns the traces of all damaged keys, for one search of a long log.
    pub fn of_all(damaged: &[(&'static str, Vec<u8>, Rc<Self>)]) -> Self {
        let mut all = Self::default();
        for (_, _, traces) in damaged {
            for (form, sequences) in &traces.0 {
                all.0.entry(form).or_default().extend(sequences.iter().cloned());
            }
        }
        all
    }

    #[track_caller]
    pub fn assert_none_in(&self, what: &str, output: &str) {
        for (form, sequences) in &self.0 {
            let length = sequences.iter().next().map_or(LENGTH, Vec::len);
            let found = output.as_bytes().windows(length).find(|window| sequences.contains(*window));
            assert!(found.is_none(), "{what}: {form} {:?} in {output}", found.map(String::from_utf8_lossy));
        }
    }
}

/// Returns fresh keys of three kinds, in PEM, each with its traces.
pub fn keys() -> Vec<(String, KeyTraces)> {
    let key = |algorithm| Leaf::client("Shop", "key").key(algorithm).self_signed().unwrap().key;
    let keys = [key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_RSA_SHA256), key(&PKCS_ECDSA_P384_SHA384)];
    keys.iter().map(|key| (pem("PRIVATE KEY", key.secret_der()), KeyTraces::of(key.secret_der()))).collect()
}

/// Returns each damage once, applied to one of the keys in turn, with the traces of that key.
pub fn damaged_keys() -> Vec<(&'static str, Vec<u8>, Rc<KeyTraces>)> {
    let keys: Vec<_> = keys().into_iter().map(|(pem, traces)| (damages(&pem), Rc::new(traces))).collect();
    let count = keys[0].0.len();
    let take = |index: usize| {
        let (damages, traces) = &keys[index % keys.len()];
        let (damage, bytes) = &damages[index];
        (*damage, bytes.clone(), Rc::clone(traces))
    };
    (0..count).map(take).collect()
}
