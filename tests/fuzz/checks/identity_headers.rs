//! Any text in a certificate: each header with the text is one line and one value of one list, and a parser of the header's
//! grammar gets the text back.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http::header::{HeaderMap, HeaderName};
use sidegate::client_headers::Sender;
use sidegate::forward::headers::{
    ConnectionHeaders, IdentityHeaders, IdentitySettings, OwnHeaders, set, strip,
};
use sidegate::identity::{Attribute, Identity};

/// Attributes of the test, with their keys in XFCC.
const ATTRIBUTES: [(Attribute, &str); 3] =
    [(Attribute::Subject, "Subject"), (Attribute::Uri, "URI"), (Attribute::Dns, "DNS")];

/// Splits the text at `\u{1}` into values of the attributes in turn.
pub fn check(text: &str) {
    let texts: Vec<&str> = text.split('\u{1}').collect();
    let values = texts.iter().zip(ATTRIBUTES.iter().cycle());
    let identity = Identity::from_attributes(values.map(|(text, (attribute, _))| {
        let is_name = *attribute == Attribute::Subject;
        (*attribute, if is_name { escaped(text) } else { (*text).to_owned() })
    }));
    let chain: Vec<_> = texts.iter().map(|text| text.as_bytes().into()).collect();
    let custom =
        ATTRIBUTES.map(|(attribute, name)| (HeaderName::try_from(format!("own-{name}")).unwrap(), attribute));
    let settings = IdentitySettings {
        client_cert: true,
        client_cert_chain: true,
        xfcc: true,
        custom: Arc::new(custom),
        stripped: Arc::new([]),
    };
    let headers = headers_of(&IdentityHeaders::of(&settings, &identity, &chain));

    let one = |name: &str| -> Option<String> {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert!(values.len() <= 1, "{values:?}");
        let value = values.first()?.as_bytes();
        assert!(value.iter().all(|byte| (0x20..=0x7e).contains(byte)), "{name}: {values:?}");
        Some(String::from_utf8(value.to_vec()).unwrap())
    };
    let certificates = |name| one(name).map(|value| byte_sequences(&value)).unwrap_or_default();
    let given = [certificates("client-cert"), certificates("client-cert-chain")].concat();
    assert_eq!(given, texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
    for (attribute, name) in ATTRIBUTES {
        let got = one(&format!("own-{name}"));
        let got = got.map(|value| value.split(',').map(decoded).collect::<Vec<_>>()).unwrap_or_default();
        assert_eq!(got, identity.values(attribute).collect::<Vec<_>>(), "{name}");
    }
    let expected: Vec<(String, String)> = ATTRIBUTES
        .iter()
        .flat_map(|(attribute, key)| {
            identity.values(*attribute).map(|value| {
                let is_name = *attribute == Attribute::Subject;
                ((*key).to_owned(), if is_name { unescaped(value) } else { value.to_owned() })
            })
        })
        .collect();
    assert_eq!(pairs(&one("x-forwarded-client-cert").unwrap()), expected);
}

/// Returns text as a value in a distinguished name (RFC 4514 §2.4).
fn escaped(text: &str) -> String {
    let escape = |character: char| match character {
        '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => format!("\\{character}"),
        control if control.is_ascii_control() => format!("\\{:02x}", u32::from(control)),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

fn headers_of(identity: &IdentityHeaders) -> HeaderMap {
    let connection = ConnectionHeaders::of(IpAddr::from([192, 0, 2, 1]));
    let request_id = "0123456789abcdef0123456789abcdef";
    let said = OwnHeaders { identity, connection: &connection, host: "a", request_id, trace: None };
    let mut request = Request::new(String::new());
    let wishes = strip(&mut request, &[], Sender::Client);
    set(&mut request, wishes, &said);
    std::mem::take(request.headers_mut())
}

/// Parses a list of byte sequences (RFC 8941 §3.1, §3.3.5).
fn byte_sequences(list: &str) -> Vec<Vec<u8>> {
    let item = |item: &str| {
        let inner = item.strip_prefix(':').and_then(|item| item.strip_suffix(':'));
        STANDARD.decode(inner.unwrap_or_else(|| panic!("no byte sequence: {item}"))).unwrap()
    };
    list.split(", ").map(item).collect()
}

/// Decodes a percent-encoded text.
fn decoded(text: &str) -> String {
    String::from_utf8(super::readings::unquote(text)).unwrap()
}

/// Returns the text of a value in a distinguished name (RFC 4514 §2.4).
fn unescaped(value: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), value.as_bytes());
    loop {
        rest = match rest {
            [] => return String::from_utf8(out).unwrap(),
            [b'\\', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [*high, *low];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                after
            }
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
}

/// Returns the pairs of an XFCC element by Envoy's grammar: a quote starts a quoted value, in which a backslash escapes the
/// next character; `;` ends a pair, `,` ends the element. A subject is a distinguished name.
fn pairs(element: &str) -> Vec<(String, String)> {
    let mut characters = element.chars().peekable();
    let mut pairs = Vec::new();
    while characters.peek().is_some() {
        let key: String = characters.by_ref().take_while(|character| *character != '=').collect();
        let mut text = String::new();
        if characters.next_if_eq(&'"').is_some() {
            loop {
                match characters.next().expect("the end of a quoted value") {
                    '\\' if key == "Subject" => text.extend(['\\', characters.next().unwrap()]),
                    '\\' => text.push(characters.next().unwrap()),
                    '"' => break,
                    character => text.push(character),
                }
            }
        }
        for character in characters.by_ref() {
            match character {
                ';' => break,
                ',' => panic!("a second element in {element}"),
                character => text.push(character),
            }
        }
        let text = if key == "Subject" { unescaped(&text) } else { decoded(&text) };
        pairs.push((key, text));
    }
    pairs
}
