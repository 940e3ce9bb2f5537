//! Certificates that imitate those of other clients, and handshakes that try to break the TLS stack.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, DnType, GeneralSubtree, IsCa, NameConstraints, OtherNameValue, SanType, SigningKey,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;
use sidegate::demo::pki::{self, Authority, Credential, Leaf};

use super::stage::Stage;
use crate::support::certificates::{DAY, RsaPublicKey, elements, producer, tlv};
use crate::support::http1::Wire;
use crate::support::tls::{TLS_12, TLS_13};
use crate::support::{Backend, Client, DEADLINE, Pki, Proxy, Setup};

const INVALID: &str = "401 invalid_certificate";

#[track_caller]
fn verdict(proxy: &Proxy, credential: &Credential) -> String {
    let mut connection = proxy.client(credential).connect(proxy.address).unwrap();
    connection.get("/events").unwrap().verdict()
}

/// Asserts that each certificate is refused, costs little CPU time (a debug build needs some ten times as much as a release),
/// and that nothing reaches the backend.
#[track_caller]
fn assert_invalid(stage: &Stage, cases: &[(&str, Credential)]) {
    for (name, credential) in cases {
        let before = stage.proxy.process.cpu();
        assert_eq!(verdict(&stage.proxy, credential), INVALID, "{name}");
        let used = stage.proxy.process.cpu() - before;
        assert!(used < Duration::from_secs(2), "{name}: {used:?}");
    }
    assert!(stage.seen().is_empty());
}

/// Returns the producer's certificate with other fields, signed by the CA; `change` edits the fields that are signed. The
/// credential always has the producer's private key, even if the certificate names another key.
fn forged(pki: &Pki, change: impl Fn(&mut Vec<Vec<u8>>), algorithm: Option<&[u8]>) -> Credential {
    let outer = elements(elements(&pki.producer.chain[0])[0].1);
    let mut inner: Vec<Vec<u8>> = elements(outer[0].1).into_iter().map(|(whole, _)| whole.to_vec()).collect();
    change(&mut inner);
    let algorithm = algorithm.unwrap_or(outer[1].0);
    inner[SIGNED_WITH] = algorithm.to_vec();
    let signed = tlv(0x30, &inner.concat());
    let signature = pki.ca.issuer().key().sign(&signed).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    let certificate = CertificateDer::from(tlv(0x30, &[signed.as_slice(), algorithm, &bits].concat()));
    Credential { chain: vec![certificate], key: pki.producer.key.clone_key() }
}

/// Indexes of the fields of a certificate.
const SIGNED_WITH: usize = 2;
const VALIDITY: usize = 4;
const KEY: usize = 6;
const EXTENSIONS: usize = 7;

fn key_of(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x30, algorithm), tlv(0x03, &[&[0], bits].concat())].concat())
}

/// Case 10: a certificate that cannot be parsed gives no identity and causes no panic.
#[test]
fn a_certificate_that_cannot_be_parsed_gives_no_identity() {
    let stage = Stage::new();
    let pki = stage.proxy.pki();
    let garbage = |bytes: &[u8]| Credential {
        chain: vec![CertificateDer::from(bytes.to_vec())],
        key: pki.producer.key.clone_key(),
    };
    let whole = pki.producer.chain[0].to_vec();
    let dsa = tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01]);
    let unknown = tlv(0x06, &[0x2a, 0x03, 0x04]);
    let sha1 = tlv(0x30, &tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]));
    let md5 =
        tlv(0x30, &[tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04]), vec![5, 0]].concat());
    let nothing = |_: &mut Vec<Vec<u8>>| {};
    assert_invalid(
        &stage,
        &[
            ("one byte", garbage(b"x")),
            ("zeros", garbage(&[0; 1000])),
            ("half of one", garbage(&whole[..whole.len() / 2])),
            ("one with more behind it", garbage(&[whole.as_slice(), b"more"].concat())),
            ("a length without end", garbage(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff])),
            ("lists in lists", garbage(&(0..200).fold(Vec::new(), |inside, _| tlv(0x30, &inside)))),
            ("a DSA key", forged(pki, |fields| fields[KEY] = key_of(&dsa, &[1; 64]), None)),
            (
                "a key of an unknown kind",
                forged(pki, |fields| fields[KEY] = key_of(&unknown, &[1; 64]), None),
            ),
            ("an empty key", forged(pki, |fields| fields[KEY] = key_of(&unknown, &[]), None)),
            ("signed with SHA-1", forged(pki, nothing, Some(&sha1))),
            ("signed with MD5", forged(pki, nothing, Some(&md5))),
            ("signed in an unknown way", forged(pki, nothing, Some(&tlv(0x30, &unknown)))),
            (
                "extensions that are none",
                forged(pki, |fields| fields[EXTENSIONS] = tlv(0xa3, &[0x30, 0x05, 1]), None),
            ),
            ("extensions twice", forged(pki, |fields| fields.push(fields[EXTENSIONS].clone()), None)),
            (
                "dates that are none",
                forged(
                    pki,
                    |fields| {
                        fields[VALIDITY] =
                            tlv(0x30, &[tlv(0x17, b"999999999999Z"), tlv(0x17, b"whenever")].concat())
                    },
                    None,
                ),
            ),
        ],
    );
    assert_eq!(verdict(&stage.proxy, &forged(pki, nothing, None)), "200", "the forger forges well");
}

/// Cases 3 and 5 (RFC 5280): dates in both formats, and the path length of an authority.
#[test]
fn dates_and_path_lengths_are_enforced() {
    let stage = Stage::new();
    let ca = &stage.proxy.pki().ca;
    let (now, year_9999) = (SystemTime::now(), UNIX_EPOCH + Duration::from_secs(253_402_300_799));
    let year_2100 = UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    assert_eq!(verdict(&stage.proxy, &ca.issue(&producer().valid(now - DAY, year_9999)).unwrap()), "200");
    let of_length = |length: u8| {
        let mut params = pki::authority("short");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        ca.intermediate_of(params).unwrap()
    };
    assert_eq!(verdict(&stage.proxy, &of_length(0).issue(&producer()).unwrap()), "200");
    stage.backend.clear_records();
    assert_invalid(
        &stage,
        &[
            ("valid from 2100", ca.issue(&producer().valid(year_2100, year_9999)).unwrap()),
            ("valid until before it began", ca.issue(&producer().valid(now + DAY, now - DAY)).unwrap()),
            (
                "an authority below one that may have none",
                of_length(0).intermediate("below").unwrap().issue(&producer()).unwrap(),
            ),
            (
                "two below one that may have one",
                of_length(1)
                    .intermediate("a")
                    .unwrap()
                    .intermediate("b")
                    .unwrap()
                    .issue(&producer())
                    .unwrap(),
            ),
        ],
    );
}

/// Case 11: chains with cycles or with many authorities are refused quickly.
#[test]
fn chains_with_cycles_are_refused_quickly() {
    let stage = Stage::new();
    let circle: Vec<Authority> = (0..7).map(|_| Authority::root("circle").unwrap()).collect();
    let crossed = circle.iter().flat_map(|signer| {
        let others = circle
            .iter()
            .map(move |signed| pki::authority("circle").signed_by(signed.issuer().key(), signer.issuer()));
        others.map(|certificate| CertificateDer::from(certificate.unwrap()))
    });
    let leaf = circle[0].issue(&producer()).unwrap();
    let mut in_circles = leaf.clone();
    in_circles.chain.extend(crossed);
    let mut ladder = stage.proxy.pki().ca.intermediate("0").unwrap();
    for step in 1..30 {
        ladder = ladder.intermediate(&step.to_string()).unwrap();
    }
    let mut namesakes = stage.proxy.pki().producer.clone();
    namesakes.chain.truncate(1);
    let impostors = (0..60)
        .map(|_| Authority::root(crate::support::certificates::CA_NAME).unwrap().certificate().clone());
    namesakes.chain.extend(impostors);
    let mut of_impostors = namesakes.clone();
    of_impostors.chain[0] =
        Authority::root(crate::support::certificates::CA_NAME).unwrap().issue(&producer()).unwrap().chain[0]
            .clone();
    of_impostors.key = stage.proxy.pki().producer.key.clone_key();
    assert_invalid(
        &stage,
        &[("crossed", in_circles), ("thirty authorities down", ladder.issue(&producer()).unwrap())],
    );
    // The issuer is found among many certificates of the same name.
    assert_eq!(verdict(&stage.proxy, &namesakes), "200");
}

/// Case 12: certificates that are expensive to verify are refused with little work.
#[test]
fn expensive_certificates_are_refused_with_little_work() {
    let stage = Stage::new();
    let pki = stage.proxy.pki();
    let modulus = [[0xc1].as_slice(), &[0x5b; 2047]].concat();
    let key = tlv(0x30, &[tlv(0x02, &[[0].as_slice(), &modulus].concat()), tlv(0x02, &[1, 0, 1])].concat());
    let rsa = [tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]), vec![5, 0]].concat();
    let large = RsaPublicKey::of_der(&key_of(&rsa, &key));
    let rsa_16384 = Credential {
        chain: vec![pki.ca.certify(&producer(), &large).unwrap()],
        key: pki.producer.key.clone_key(),
    };

    let names = |count: usize| {
        Leaf::client("Shop", "order-producer").with(|params| {
            params.subject_alt_names = (0..count)
                .map(|number| SanType::DnsName(format!("{number}.example").try_into().unwrap()))
                .collect();
        })
    };
    let mut constrained = pki::authority("constrained");
    constrained.name_constraints = Some(NameConstraints {
        permitted_subtrees: (0..1_500)
            .map(|number| GeneralSubtree::DnsName(format!("{number}.test")))
            .collect(),
        excluded_subtrees: vec![],
    });
    let constrained = pki.ca.intermediate_of(constrained).unwrap();
    assert_invalid(
        &stage,
        &[
            ("RSA of 16384 bits", rsa_16384),
            ("a thousand names", pki.issue(&names(1_000))),
            ("250 names, each against 1500 constraints", constrained.issue(&names(250)).unwrap()),
            (
                "a name of 30 kilobytes",
                pki.issue(
                    &Leaf::client("Shop", &"x".repeat(30_000))
                        .uri(&format!("spiffe://a/{}", "x".repeat(20_000)))
                        .unwrap(),
                ),
            ),
        ],
    );
    // The size of the certificate message in a handshake is bounded too, so the handshake itself may fail.
    let answer = stage
        .proxy
        .client(&pki.issue(&names(10_000)))
        .connect(stage.proxy.address)
        .and_then(|mut connection| connection.get("/events"));
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.verdict() == INVALID));
    assert!(stage.seen().is_empty());
}

/// Case 14: a NUL in a name refuses the certificate; the name is never compared up to the NUL.
#[test]
fn a_nul_in_any_name_refuses_the_whole_certificate() {
    let stage = Stage::new();
    let pki = stage.proxy.pki();
    let with = |name: SanType| pki.issue(&producer().with(|params| params.subject_alt_names.insert(0, name)));
    let only = |name: SanType| pki.issue(&producer().with(|params| params.subject_alt_names = vec![name]));
    let other = SanType::OtherName((
        vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
        OtherNameValue::Utf8String("admin\0@shop.example".to_owned()),
    ));
    let text = "orders.shop.example\0.stranger.example";
    assert_invalid(
        &stage,
        &[
            ("DNS", with(SanType::DnsName(text.try_into().unwrap()))),
            ("URI", only(SanType::URI("spiffe://shop.example/ns/orders/sa/a\0b".try_into().unwrap()))),
            ("an https URI", only(SanType::URI("https://shop.example/\0".try_into().unwrap()))),
            ("e-mail", with(SanType::Rfc822Name("a@shop.example\0.stranger.example".try_into().unwrap()))),
            ("another kind of name", with(other)),
            ("the common name", pki.nul_in_the_common_name()),
            (
                "the organization",
                pki.issue(
                    &producer()
                        .with(|params| params.distinguished_name.push(DnType::OrganizationName, "Shop\0x")),
                ),
            ),
        ],
    );
}

/// Case 15: a value of a certificate stays one value, in headers and in audit records.
#[test]
fn a_name_of_a_certificate_stays_one_value() {
    let backend = Backend::ok();
    let custom = json!({ "X-Client-Name": "common_name", "X-Team": "organization", "X-Subject": "subject" });
    let mut proxy = Setup::new(&backend.url())
        .set("identity_headers.custom", custom)
        .set("identity_headers.xfcc", true)
        .policy("version: 1\npermissions: { all: [\"* /**\"] }\nclients: [{ name: any, match: { any: true }, permissions: [all] }]\n")
        .start();
    let evil = [
        "a\r\nX-Admin: yes",
        "a\nX-Admin: yes\n\nGET /hidden HTTP/1.1",
        "a,CN=admin;URI=spiffe://admin;Hash=00",
        "a\";Subject=\"CN=admin",
        "a\\\";URI=admin;\\",
        "a%0d%0aX-Admin: yes",
        "\u{1b}[2J\u{202e}nimda\u{85}\u{2028}é",
        " admin ",
    ];
    for name in evil {
        let leaf = Leaf::client(name, name).uri("https://shop.example/a;b=c,d").unwrap();
        let client = proxy.client(&proxy.pki().issue(&leaf));
        assert_eq!(client.connect(proxy.address).unwrap().get("/events").unwrap().status, 200, "{name:?}");
        let arrived = backend.wait_for(1).remove(0);
        let names: Vec<_> = arrived
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.to_lowercase())
            .collect();
        assert!(!names.contains(&"x-admin".to_owned()), "{}", arrived.head);
        for header in ["x-client-name", "x-team", "x-subject", "x-forwarded-client-cert"] {
            let [value] = arrived.header(header)[..] else { panic!("{header}: {}", arrived.head) };
            assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}: {value}");
            assert!(
                header == "x-forwarded-client-cert" || !value.contains(','),
                "one value, not a list: {value}"
            );
        }
        let xfcc = arrived.header("x-forwarded-client-cert")[0];
        let keys = outside_of_quotes(xfcc)
            .split(';')
            .map(|pair| pair.split('=').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>();
        assert_eq!(keys, ["Hash", "Subject", "URI"], "{xfcc}");
        assert_eq!(backend.start_lines().len(), 1, "{:?}", backend.start_lines());
        // The read fails unless every line of the record is JSON.
        let record = proxy.process.audit_where("the request", |record| record["path"] == "/events");
        assert!(record["client"].as_str().unwrap().contains("CN="), "{record}");
        backend.clear_records();
    }
}

/// Returns a value of Envoy's header without its quoted parts.
fn outside_of_quotes(value: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for char in value.chars() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            char if !quoted => out.push(char),
            _ => {}
        }
    }
    out
}

/// Case 19 (SPIFFE X.509-SVID): a SPIFFE ID that two parsers may read differently gives no identity.
#[test]
fn spiffe_ids_with_two_readings_give_no_identity() {
    let stage = Stage::new();
    let pki = stage.proxy.pki();
    let of = |uri: &str| {
        let uri = uri.try_into().unwrap();
        pki.issue(&producer().with(|params| params.subject_alt_names = vec![SanType::URI(uri)]))
    };
    assert_invalid(
        &stage,
        &[
            ("dots", of("spiffe://shop.example/ns/orders/sa/../../admin")),
            ("encoded dots", of("spiffe://shop.example/ns/orders/sa/%2e%2e")),
            ("an escape", of("spiffe://shop.example/ns/orders/sa/%61")),
            ("a query", of("spiffe://shop.example/ns/orders/sa/a?b")),
            ("a fragment", of("spiffe://shop.example/ns/orders/sa/a#b")),
            ("an empty segment", of("spiffe://shop.example/ns/orders/sa//a")),
            ("a slash at the end", of("spiffe://shop.example/ns/orders/sa/a/")),
            ("a user", of("spiffe://admin@shop.example/ns/orders/sa/a")),
            ("a port", of("spiffe://shop.example:443/ns/orders/sa/a")),
            ("capitals", of("spiffe://Shop.example/ns/orders/sa/a")),
            ("a scheme in capitals", of("SPIFFE://shop.example/ns/orders/sa/a")),
            ("no host", of("spiffe:///ns/orders/sa/a")),
            ("no slashes", of("spiffe:shop.example/ns/orders/sa/a")),
            ("two of them", pki.two_spiffe_ids()),
        ],
    );
}

/// Case 25: no session ticket permits early data, and no byte of early data would be read.
#[test]
fn no_ticket_permits_early_data() {
    let stage = Stage::new();
    let usual = Client::new(stage.proxy.pki(), Some(&stage.proxy.pki().producer), &[TLS_13]);
    let mut config = (*usual.config).clone();
    config.enable_early_data = true;
    let client = Client { config: Arc::new(config) };
    // A ticket is used once, and each connection yields one ticket.
    let two = [(); 2].map(|()| client.connect(stage.proxy.address).unwrap());
    for mut connection in two {
        assert_eq!(connection.get("/probe").unwrap().status, 200);
    }
    let name = ServerName::try_from("localhost").unwrap();
    let mut second = ClientConnection::new(Arc::clone(&client.config), name).unwrap();
    assert!(second.early_data().is_none(), "the ticket invites to send early data");
    let mut resumed = client.connect(stage.proxy.address).unwrap();
    assert!(resumed.is_resumed() && !resumed.stream.conn.is_early_data_accepted());
    assert_eq!(resumed.get("/probe").unwrap().status, 200);
}

/// A stream that writes at most this number of bytes at a time.
struct Dribble(TcpStream, usize);

impl Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Dribble {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(&buffer[..buffer.len().min(self.1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Case 26: a handshake in many small records and packets has the same result.
#[test]
fn a_handshake_in_pieces_has_the_same_result() {
    let stage = Stage::new();
    for (who, client, stranger) in stage.senders() {
        for (record, packet) in [(Some(32), 16_384), (None, 1), (Some(32), 7)] {
            let mut config: ClientConfig = (*client.config).clone();
            config.max_fragment_size = record;
            let stream = TcpStream::connect(stage.proxy.address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connection = ClientConnection::new(Arc::new(config), name).unwrap();
            let mut wire = Wire::new(StreamOwned::new(connection, Dribble(stream, packet)));
            let answer = wire.get("/probe").unwrap();
            assert_eq!(answer.verdict(), stranger.unwrap_or("200"), "{who}: {record:?} {packet}");
        }
    }
}

/// Case 28: a client may update its keys only a limited number of times.
#[test]
fn a_flood_of_new_keys_ends_the_connection() {
    let stage = Stage::new();
    for credential in [None, Some(&stage.proxy.pki().producer)] {
        let client = Client::new(stage.proxy.pki(), credential, &[TLS_13]);
        let mut connection = client.connect(stage.proxy.address).unwrap();
        assert!(connection.get("/probe").is_ok());
        let mut updates = 0;
        let flooded = loop {
            let sent = connection
                .stream
                .conn
                .refresh_traffic_keys()
                .map_err(io::Error::other)
                .and_then(|()| connection.send(""));
            updates += 1;
            if sent.is_err() || updates == 5_000 {
                break sent;
            }
        };
        assert!(flooded.is_err() || connection.get("/probe").is_err(), "{updates} new keys, and it goes on");
        assert!(client.connect(stage.proxy.address).unwrap().get("/probe").is_ok());
    }
    assert!(stage.seen().is_empty());
}

/// Case 21: a resumed session is judged like the first one, in both versions of TLS and at every resumption.
#[test]
fn a_refused_client_stays_refused_when_its_session_is_resumed() {
    let stage = Stage::new();
    let pki = stage.proxy.pki();
    for version in [TLS_12, TLS_13] {
        for credential in [pki.expired(), pki.unknown_ca(), pki.wrong_usage()] {
            let client = Client::new(pki, Some(&credential), &[version]);
            for resumption in 0..4 {
                let mut connection = client.connect(stage.proxy.address).unwrap();
                assert_eq!(connection.get("/events").unwrap().verdict(), INVALID);
                assert_eq!(connection.is_resumed(), resumption > 0, "{version:?}");
            }
        }
    }
    assert!(stage.seen().is_empty());
}
