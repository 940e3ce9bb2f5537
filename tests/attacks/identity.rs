//! Certificates that try to pass for another client's, and handshakes that try to break the proxy.

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

use super::fixture::{Fixture, Sender};
use crate::support::backend::ReceivedRequest;
use crate::support::certificates::{CA_NAME, DAY, RsaPublicKey, elements, producer, tlv};
use crate::support::http1::Wire;
use crate::support::tls::{TLS_12, TLS_13};
use crate::support::{Backend, Client, DEADLINE, Pki, Proxy, Setup};

const INVALID: &str = "401 invalid_certificate";

#[track_caller]
fn verdict(proxy: &Proxy, credential: &Credential) -> String {
    let mut connection = proxy.client(credential).connect(proxy.address).unwrap();
    connection.get("/events").unwrap().verdict()
}

/// Checks that every certificate is refused with little CPU time, and that no request reaches the backend. A debug build needs
/// some ten times the CPU time of a release.
#[track_caller]
fn assert_invalid(fixture: &Fixture, cases: &[(&str, Credential)]) {
    for (name, credential) in cases {
        let before = fixture.proxy.process.cpu();
        assert_eq!(verdict(&fixture.proxy, credential), INVALID, "{name}");
        let used = fixture.proxy.process.cpu() - before;
        assert!(used < Duration::from_secs(2), "{name}: {used:?}");
    }
    assert!(fixture.forwarded().is_empty());
}

/// Returns the producer's certificate with other fields, correctly signed. `change` gets the fields of the signed part. The
/// private key stays the producer's.
fn forged(pki: &Pki, change: impl Fn(&mut Vec<Vec<u8>>), algorithm: Option<&[u8]>) -> Credential {
    let outer = elements(elements(&pki.producer.chain[0])[0].1);
    let mut inner: Vec<Vec<u8>> = elements(outer[0].1).into_iter().map(|(whole, _)| whole.to_vec()).collect();
    change(&mut inner);
    let algorithm = algorithm.unwrap_or(outer[1].0);
    inner[SIGNATURE_ALGORITHM] = algorithm.to_vec();
    let signed = tlv(0x30, &inner.concat());
    let signature = pki.ca.issuer().key().sign(&signed).unwrap();
    let bits = tlv(0x03, &[&[0], signature.as_slice()].concat());
    let certificate = CertificateDer::from(tlv(0x30, &[signed.as_slice(), algorithm, &bits].concat()));
    Credential { chain: vec![certificate], key: pki.producer.key.clone_key() }
}

/// Indexes of the fields of a certificate.
const SIGNATURE_ALGORITHM: usize = 2;
const VALIDITY: usize = 4;
const KEY: usize = 6;
const EXTENSIONS: usize = 7;

fn key_of(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x30, algorithm), tlv(0x03, &[&[0], bits].concat())].concat())
}

/// Case 10: an unreadable certificate causes no panic and gives no identity.
#[test]
fn an_unreadable_certificate_is_refused() {
    let fixture = Fixture::new();
    let pki = fixture.proxy.pki();
    let garbage = |bytes: &[u8]| Credential {
        chain: vec![CertificateDer::from(bytes.to_vec())],
        key: pki.producer.key.clone_key(),
    };
    let whole = pki.producer.chain[0].to_vec();
    assert_invalid(
        &fixture,
        &[
            ("one byte", garbage(b"x")),
            ("zeros", garbage(&[0; 1000])),
            ("half of a certificate", garbage(&whole[..whole.len() / 2])),
            ("a certificate with more bytes behind it", garbage(&[whole.as_slice(), b"more"].concat())),
            ("a length without end", garbage(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff])),
            ("200 nested lists", garbage(&(0..200).fold(Vec::new(), |inside, _| tlv(0x30, &inside)))),
        ],
    );
}

/// Case 10: a certificate with unknown or malformed fields causes no panic and gives no identity.
#[test]
fn a_certificate_with_unknown_or_malformed_fields_is_refused() {
    let fixture = Fixture::new();
    let pki = fixture.proxy.pki();
    let dsa = tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01]);
    let unknown = tlv(0x06, &[0x2a, 0x03, 0x04]);
    let sha1 = tlv(0x30, &tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]));
    let md5 =
        tlv(0x30, &[tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04]), vec![5, 0]].concat());
    let dates = tlv(0x30, &[tlv(0x17, b"999999999999Z"), tlv(0x17, b"whenever")].concat());
    let nothing = |_: &mut Vec<Vec<u8>>| {};
    assert_invalid(
        &fixture,
        &[
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
                "malformed extensions",
                forged(pki, |fields| fields[EXTENSIONS] = tlv(0xa3, &[0x30, 0x05, 1]), None),
            ),
            ("extensions twice", forged(pki, |fields| fields.push(fields[EXTENSIONS].clone()), None)),
            ("malformed dates", forged(pki, |fields| fields[VALIDITY].clone_from(&dates), None)),
        ],
    );
    assert_eq!(
        verdict(&fixture.proxy, &forged(pki, nothing, None)),
        "200",
        "the certificate is valid without a change"
    );
}

/// Cases 3 and 5: dates in both encodings (RFC 5280 §4.1.2.5), and path lengths of authorities (§4.2.1.9).
#[test]
fn validity_dates_and_path_lengths_are_enforced() {
    let fixture = Fixture::new();
    let ca = &fixture.proxy.pki().ca;
    let (now, year_9999) = (SystemTime::now(), UNIX_EPOCH + Duration::from_secs(253_402_300_799));
    let year_2100 = UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    assert_eq!(verdict(&fixture.proxy, &ca.issue(&producer().valid(now - DAY, year_9999)).unwrap()), "200");
    let of_length = |length: u8| {
        let mut params = pki::authority("short");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        ca.intermediate_of(params).unwrap()
    };
    assert_eq!(verdict(&fixture.proxy, &of_length(0).issue(&producer()).unwrap()), "200");
    fixture.backend.clear_records();
    assert_invalid(
        &fixture,
        &[
            ("valid from 2100", ca.issue(&producer().valid(year_2100, year_9999)).unwrap()),
            ("an end before the start", ca.issue(&producer().valid(now + DAY, now - DAY)).unwrap()),
            (
                "an authority below one with path length 0",
                of_length(0).intermediate("below").unwrap().issue(&producer()).unwrap(),
            ),
            (
                "two authorities below one with path length 1",
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

/// Case 11: chains with cycles, long chains, and many authorities of one name.
#[test]
fn chains_with_cycles_are_refused_in_bounded_time() {
    let fixture = Fixture::new();
    let authorities: Vec<Authority> = (0..7).map(|_| Authority::root("cycle").unwrap()).collect();
    let cross_signed = authorities.iter().flat_map(|signer| {
        let others = authorities
            .iter()
            .map(move |signed| pki::authority("cycle").signed_by(signed.issuer().key(), signer.issuer()));
        others.map(|certificate| CertificateDer::from(certificate.unwrap()))
    });
    let mut with_cycles = authorities[0].issue(&producer()).unwrap();
    with_cycles.chain.extend(cross_signed);
    let mut lowest = fixture.proxy.pki().ca.intermediate("0").unwrap();
    for depth in 1..30 {
        lowest = lowest.intermediate(&depth.to_string()).unwrap();
    }
    let cases = [
        ("cross-signed in cycles", with_cycles),
        ("thirty authorities in a row", lowest.issue(&producer()).unwrap()),
    ];
    assert_invalid(&fixture, &cases);
}

/// Case 11: sixty authorities with the name of the trusted one are no way around it, and do not hide it.
#[test]
fn the_trusted_authority_is_found_among_many_of_its_name() {
    let fixture = Fixture::new();
    let impostors: Vec<Authority> = (0..60).map(|_| Authority::root(CA_NAME).unwrap()).collect();
    let certificates: Vec<_> = impostors.iter().map(|authority| authority.certificate().clone()).collect();
    let mut of_impostor = impostors[0].issue(&producer()).unwrap();
    of_impostor.chain.extend(certificates.clone());
    assert_invalid(&fixture, &[("a certificate of an impostor", of_impostor)]);
    let mut producer = fixture.proxy.pki().producer.clone();
    producer.chain.truncate(1);
    producer.chain.extend(certificates);
    assert_eq!(verdict(&fixture.proxy, &producer), "200");
}

/// Case 12: certificates that are expensive to verify.
#[test]
fn certificates_that_are_expensive_to_verify_are_refused() {
    let fixture = Fixture::new();
    let pki = fixture.proxy.pki();
    let mut constrained = pki::authority("constrained");
    constrained.name_constraints = Some(NameConstraints {
        permitted_subtrees: (0..1_500)
            .map(|number| GeneralSubtree::DnsName(format!("{number}.test")))
            .collect(),
        excluded_subtrees: vec![],
    });
    let constrained = pki.ca.intermediate_of(constrained).unwrap();
    assert_invalid(
        &fixture,
        &[
            ("RSA of 16384 bits", with_rsa_16384(pki)),
            ("a thousand names", pki.issue(&with_names(1_000))),
            ("250 names, each against 1500 constraints", constrained.issue(&with_names(250)).unwrap()),
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
    // The certificate message of a handshake is also bounded; a longer one may end the handshake.
    let answer = fixture
        .proxy
        .client(&pki.issue(&with_names(10_000)))
        .connect(fixture.proxy.address)
        .and_then(|mut connection| connection.get("/events"));
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.verdict() == INVALID));
    assert!(fixture.forwarded().is_empty());
}

/// Returns a certificate with an RSA key of 16384 bits, for which no private key exists.
fn with_rsa_16384(pki: &Pki) -> Credential {
    let modulus = [[0xc1].as_slice(), &[0x5b; 2047]].concat();
    let key = tlv(0x30, &[tlv(0x02, &[[0].as_slice(), &modulus].concat()), tlv(0x02, &[1, 0, 1])].concat());
    let rsa = [tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]), vec![5, 0]].concat();
    let large = RsaPublicKey::of_der(&key_of(&rsa, &key));
    let chain = vec![pki.ca.certify(&producer(), &large).unwrap()];
    Credential { chain, key: pki.producer.key.clone_key() }
}

/// Returns a client certificate with this number of DNS names.
fn with_names(count: usize) -> Leaf {
    let name = |number: usize| SanType::DnsName(format!("{number}.example").try_into().unwrap());
    Leaf::client("Shop", "order-producer")
        .with(|params| params.subject_alt_names = (0..count).map(name).collect())
}

/// Case 14: a name is never compared up to a NUL.
#[test]
fn a_nul_in_any_name_refuses_the_whole_certificate() {
    let fixture = Fixture::new();
    let pki = fixture.proxy.pki();
    let with = |name: SanType| pki.issue(&producer().with(|params| params.subject_alt_names.insert(0, name)));
    let only = |name: SanType| pki.issue(&producer().with(|params| params.subject_alt_names = vec![name]));
    let other = SanType::OtherName((
        vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
        OtherNameValue::Utf8String("admin\0@shop.example".to_owned()),
    ));
    let text = "orders.shop.example\0.stranger.example";
    assert_invalid(
        &fixture,
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

/// Case 15: the names of a certificate stay values in headers and audit records.
#[test]
fn names_of_certificates_are_escaped_in_headers_and_records() {
    let backend = Backend::ok();
    let custom = json!({ "X-Client-Name": "common_name", "X-Team": "organization", "X-Subject": "subject" });
    let mut proxy = Setup::new(&backend.url())
        .set("identity_headers.custom", custom)
        .set("identity_headers.xfcc", true)
        .policy("version: 1\npermissions: { all: [\"* /**\"] }\nclients: [{ name: any, match: { any: true }, permissions: [all] }]\n")
        .start();
    for name in DANGEROUS_NAMES {
        let leaf = Leaf::client(name, name).uri("https://shop.example/a;b=c,d").unwrap();
        let client = proxy.client(&proxy.pki().issue(&leaf));
        assert_eq!(client.connect(proxy.address).unwrap().get("/events").unwrap().status, 200, "{name:?}");
        assert_names_are_escaped(&backend.wait_for(1).remove(0));
        assert_eq!(backend.start_lines().len(), 1, "{:?}", backend.start_lines());
        // `audit_where` panics if a line is not JSON.
        let record = proxy.process.audit_where("the request", |record| record["path"] == "/events");
        assert!(record["client"].as_str().unwrap().contains("CN="), "{record}");
        backend.clear_records();
    }
}

const DANGEROUS_NAMES: [&str; 8] = [
    "a\r\nX-Admin: yes",
    "a\nX-Admin: yes\n\nGET /hidden HTTP/1.1",
    "a,CN=admin;URI=spiffe://admin;Hash=00",
    "a\";Subject=\"CN=admin",
    "a\\\";URI=admin;\\",
    "a%0d%0aX-Admin: yes",
    "\u{1b}[2J\u{202e}nimda\u{85}\u{2028}é",
    " admin ",
];

#[track_caller]
fn assert_names_are_escaped(request: &ReceivedRequest) {
    assert!(request.header("x-admin").is_empty(), "{}", request.head);
    for header in ["x-client-name", "x-team", "x-subject", "x-forwarded-client-cert"] {
        let [value] = request.header(header)[..] else { panic!("{header}: {}", request.head) };
        assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}: {value}");
        let is_xfcc = header == "x-forwarded-client-cert";
        assert!(is_xfcc || !value.contains(','), "one value, not a list: {value}");
    }
    let xfcc = request.header("x-forwarded-client-cert")[0];
    let keys = outside_of_quotes(xfcc)
        .split(';')
        .map(|pair| pair.split('=').next().unwrap_or_default().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(keys, ["Hash", "Subject", "URI"], "{xfcc}");
}

/// Returns a value of `X-Forwarded-Client-Cert` without its quoted parts.
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

/// Case 19: SPIFFE ids that the SPIFFE X.509-SVID specification forbids.
#[test]
fn ambiguous_spiffe_ids_are_refused() {
    let fixture = Fixture::new();
    let pki = fixture.proxy.pki();
    let of = |uri: &str| {
        let uri = uri.try_into().unwrap();
        pki.issue(&producer().with(|params| params.subject_alt_names = vec![SanType::URI(uri)]))
    };
    assert_invalid(
        &fixture,
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
            ("two SPIFFE ids", pki.two_spiffe_ids()),
        ],
    );
}

/// Case 25: no session ticket allows early data.
#[test]
fn early_data_is_never_accepted() {
    let fixture = Fixture::new();
    let usual = Client::new(fixture.proxy.pki(), Some(&fixture.proxy.pki().producer), &[TLS_13]);
    let mut config = (*usual.config).clone();
    config.enable_early_data = true;
    let client = Client { config: Arc::new(config) };
    // Each connection gives one ticket, and each ticket is used once; two are needed below.
    let connections = [(); 2].map(|()| client.connect(fixture.proxy.address).unwrap());
    for mut connection in connections {
        assert_eq!(connection.get("/probe").unwrap().status, 200);
    }
    let name = ServerName::try_from("localhost").unwrap();
    let mut second = ClientConnection::new(Arc::clone(&client.config), name).unwrap();
    assert!(second.early_data().is_none(), "the ticket allows early data");
    let mut resumed = client.connect(fixture.proxy.address).unwrap();
    assert!(resumed.is_resumed() && !resumed.stream.conn.is_early_data_accepted());
    assert_eq!(resumed.get("/probe").unwrap().status, 200);
}

/// A stream that writes at most this number of bytes at a time.
struct SmallWrites(TcpStream, usize);

impl Read for SmallWrites {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for SmallWrites {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(&buffer[..buffer.len().min(self.1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Case 26: the number of TLS records and packets of a handshake makes no difference.
#[test]
fn a_fragmented_handshake_has_the_same_outcome() {
    let fixture = Fixture::new();
    for Sender { name: sender, client, refusal } in fixture.senders() {
        for (record, packet) in [(Some(32), 16_384), (None, 1), (Some(32), 7)] {
            let mut config: ClientConfig = (*client.config).clone();
            config.max_fragment_size = record;
            let stream = TcpStream::connect(fixture.proxy.address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connection = ClientConnection::new(Arc::new(config), name).unwrap();
            let mut wire = Wire::new(StreamOwned::new(connection, SmallWrites(stream, packet)));
            let answer = wire.get("/probe").unwrap();
            assert_eq!(answer.verdict(), refusal.unwrap_or("200"), "{sender}: {record:?} {packet}");
        }
    }
}

/// Case 28: a connection may change its TLS keys only a limited number of times.
#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    let fixture = Fixture::new();
    for credential in [None, Some(&fixture.proxy.pki().producer)] {
        let client = Client::new(fixture.proxy.pki(), credential, &[TLS_13]);
        let mut connection = client.connect(fixture.proxy.address).unwrap();
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
        assert!(
            flooded.is_err() || connection.get("/probe").is_err(),
            "the connection survives {updates} key updates"
        );
        assert!(client.connect(fixture.proxy.address).unwrap().get("/probe").is_ok());
    }
    assert!(fixture.forwarded().is_empty());
}

/// Case 21: every resumption of a refused session is refused, in TLS 1.2 and in TLS 1.3.
#[test]
fn a_resumed_session_of_a_refused_client_is_refused() {
    let fixture = Fixture::new();
    let pki = fixture.proxy.pki();
    for version in [TLS_12, TLS_13] {
        for credential in [pki.expired(), pki.unknown_ca(), pki.wrong_usage()] {
            let client = Client::new(pki, Some(&credential), &[version]);
            for resumption in 0..4 {
                let mut connection = client.connect(fixture.proxy.address).unwrap();
                assert_eq!(connection.get("/events").unwrap().verdict(), INVALID);
                assert_eq!(connection.is_resumed(), resumption > 0, "{version:?}");
            }
        }
    }
    assert!(fixture.forwarded().is_empty());
}
