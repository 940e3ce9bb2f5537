//! The headers that tell the backend the client's identity. A certificate's issuer is not always careful about what it signs:
//! no value may end its header, its line or its element of a list (header injection).

use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;

use super::{CLIENT_CERT, Custom, X_FORWARDED_CLIENT_CERT, value};
use crate::client_headers::StripPatterns;
use crate::identity::{Attribute, Identity};

const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// The headers that tell the backend the client's identity (`identity_headers`).
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// `Client-Cert` (RFC 9440).
    pub client_cert: bool,
    /// `Client-Cert-Chain` (RFC 9440).
    pub client_cert_chain: bool,
    /// `X-Forwarded-Client-Cert` in Envoy's form.
    pub xfcc: bool,
    /// Configured names, each with the attribute that it carries.
    pub custom: Arc<Custom>,
    /// Names that are stripped beside the listed ones: those of `custom` and of `strip`.
    pub stripped: StripPatterns,
}

/// The identity headers of one client, made once and shared by all its requests.
#[derive(Clone, Debug, Default)]
pub struct IdentityHeaders(pub(super) Vec<(HeaderName, HeaderValue)>);

impl IdentityHeaders {
    /// The memory that the headers take, in bytes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.0.iter().map(|header| size_of_val(header) + header.0.as_str().len() + header.1.len()).sum()
    }

    /// Returns the headers of a client. An attribute that the certificate does not have gets no header.
    #[must_use]
    pub fn of(settings: &IdentitySettings, identity: &Identity, chain: &[CertificateDer<'_>]) -> Self {
        let mut headers = Vec::new();
        if settings.client_cert
            && let Some(leaf) = chain.first()
        {
            headers.extend(value(&byte_sequence(leaf)).map(|value| (CLIENT_CERT, value)));
        }
        if settings.client_cert_chain
            && let [_, issuers @ ..] = chain
            && !issuers.is_empty()
        {
            let issuers: Vec<_> = issuers.iter().map(|issuer| byte_sequence(issuer)).collect();
            headers.extend(value(&issuers.join(", ")).map(|value| (CLIENT_CERT_CHAIN, value)));
        }
        if settings.xfcc {
            headers.extend(value(&xfcc(identity)).map(|value| (X_FORWARDED_CLIENT_CERT, value)));
        }
        for (name, attribute) in settings.custom.iter() {
            let values: Vec<_> = identity.values(*attribute).map(one_token).collect();
            if !values.is_empty() {
                headers.extend(value(&values.join(",")).map(|value| (name.clone(), value)));
            }
        }
        Self(headers)
    }
}

/// A certificate as a byte sequence of structured fields (RFC 8941 §3.3.5, RFC 9440 §2.1).
fn byte_sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// Encodes text so that it cannot leave its header, its line or its element of a list: everything but visible ASCII, and `%`
/// and `,` themselves, is percent-encoded (UTF-8). A space inside stays as it is, so that names stay readable.
fn one_token(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b' ' if index != 0 && index != last => out.push(' '),
            b'%' | b',' => encode(byte, &mut out),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => encode(byte, &mut out),
        }
    }
    out
}

fn encode(byte: u8, out: &mut String) {
    // Writing into a String cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

/// One element of Envoy's `X-Forwarded-Client-Cert`: `Hash`, `Subject` (always in quotes), `URI` and `DNS` (quoted where they need
/// it).
fn xfcc(identity: &Identity) -> String {
    let mut out = String::new();
    let keys = [
        (Attribute::Fingerprint, "Hash"),
        (Attribute::Subject, "Subject"),
        (Attribute::Uri, "URI"),
        (Attribute::Dns, "DNS"),
    ];
    for (attribute, key) in keys {
        for text in identity.values(attribute) {
            if !out.is_empty() {
                out.push(';');
            }
            out.push_str(key);
            out.push('=');
            match attribute {
                Attribute::Subject => quote_name(text, &mut out),
                _ => quote(text, &mut out),
            }
        }
    }
    out
}

/// Writes a distinguished name as Envoy does: in quotes, in the form of RFC 2253 as OpenSSL prints it, and not escaped a second
/// time. The name comes in the form of RFC 4514, which escapes `=` too, and not what is beyond ASCII.
fn quote_name(name: &str, out: &mut String) {
    out.push('"');
    let mut bytes = name.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match (bytes.next(), bytes.peek().copied()) {
                (Some(b'='), _) => out.push('='),
                (Some(high), Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    bytes.next();
                    out.extend([
                        '\\',
                        char::from(high.to_ascii_uppercase()),
                        char::from(low.to_ascii_uppercase()),
                    ]);
                }
                (Some(special @ 0x20..=0x7e), _) => out.extend(['\\', char::from(special)]),
                // No name ends in half an escape. If one did, the closing quote would still be one.
                (Some(other), _) => {
                    out.push_str("\\\\");
                    escape_byte(other, out);
                }
                (None, _) => out.push_str("\\\\"),
            },
            b'"' => out.push_str("\\\""),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => escape_byte(byte, out),
        }
    }
    out.push('"');
}

fn escape_byte(byte: u8, out: &mut String) {
    // Writing into a String cannot fail.
    let _ = write!(out, "\\{byte:02X}");
}

fn quote(text: &str, out: &mut String) {
    let quoted = text.bytes().any(|byte| matches!(byte, b',' | b';' | b'=' | b'"' | b'\\' | b' '));
    if quoted {
        out.push('"');
    }
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'%' => encode(byte, out),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => encode(byte, out),
        }
    }
    if quoted {
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_certificate_makes_a_header_a_line_or_an_element() {
        assert_eq!(one_token("a,b\r\nX: y\u{e9}%"), "a%2Cb%0D%0AX: y%C3%A9%25");
        let identity = Identity::from_attributes([(Attribute::Subject, "CN=a\";URI=x\r\n,b".to_owned())]);
        assert_eq!(xfcc(&identity), "Subject=\"CN=a\\\";URI=x\\0D\\0A,b\"");
    }

    /// Envoy 1.3x writes these names so (OpenSSL's `-nameopt RFC2253` without quotes around it).
    #[test]
    fn the_subject_of_xfcc_is_escaped_once_as_envoy_does() {
        for (name, subject) in [
            ("O=Shop\\, Inc.,CN=a", r#""O=Shop\, Inc.,CN=a""#),
            ("CN=a\\\\b", r#""CN=a\\b""#),
            ("CN=a\\\"b", r#""CN=a\"b""#),
            ("CN=a\\=b", r#""CN=a=b""#),
            ("CN=\\ a\\ ", r#""CN=\ a\ ""#),
            ("CN=\\#a\\+b\\;c\\<d\\>", r#""CN=\#a\+b\;c\<d\>""#),
            ("CN=caf\u{e9}", r#""CN=caf\C3\A9""#),
            ("CN=a\\0d\\0ab", r#""CN=a\0D\0Ab""#),
            ("CN=100%", r#""CN=100%""#),
            ("CN=a+OU=b", r#""CN=a+OU=b""#),
            ("CN=a\\", r#""CN=a\\""#),
            ("CN=a\"b", r#""CN=a\"b""#),
        ] {
            let identity = Identity::from_attributes([(Attribute::Subject, name.to_owned())]);
            assert_eq!(xfcc(&identity), format!("Subject={subject}"), "{name}");
        }
    }

    #[test]
    fn the_chain_is_told_without_its_leaf_and_in_its_order() {
        let told = |chain: &[&'static [u8]]| {
            let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
            let settings = IdentitySettings {
                client_cert: true,
                client_cert_chain: true,
                xfcc: false,
                custom: Arc::new([]),
                stripped: Arc::new([]),
            };
            let headers = IdentityHeaders::of(&settings, &Identity::from_attributes([]), &chain);
            headers
                .0
                .into_iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&[b"a"]), ["client-cert: :YQ==:"]);
        assert_eq!(told(&[b"a", b"b", b"c"]), ["client-cert: :YQ==:", "client-cert-chain: :Yg==:, :Yw==:"]);
    }
}
