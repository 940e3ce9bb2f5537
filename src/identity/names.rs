//! Names in a certificate, each under its own attribute. A common name never replaces a missing alternative name.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_DOMAIN_COMPONENT, OID_PKCS9_EMAIL_ADDRESS, OID_USERID, OID_X509_COMMON_NAME, OID_X509_COUNTRY_NAME,
    OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_LOCALITY_NAME, OID_X509_ORGANIZATION_NAME,
    OID_X509_ORGANIZATIONAL_UNIT, OID_X509_SERIALNUMBER, OID_X509_STATE_OR_PROVINCE_NAME,
    OID_X509_STREET_ADDRESS, Oid,
};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate, X509Name};

use super::der::elements;
use super::{Attribute, Flaw, Identity};
use crate::digest::sha256;

/// Bound that no real client reaches. Each name costs work in every policy (denial of service).
const MAX_ALTERNATIVE_NAMES: usize = 256;

/// Bound for the type of one part of a distinguished name. The time to write an object identifier as numbers is quadratic in
/// its length (denial of service).
const MAX_TYPE_BYTES: usize = 128;

/// Parses a certificate and reads its names.
pub(super) fn read(der: &[u8]) -> Result<Identity, Flaw> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Flaw::Unreadable)?;
    if !rest.is_empty() {
        return Err(Flaw::Unreadable);
    }
    of(&certificate, der)
}

/// Reads the names of a parsed certificate. `der` are the bytes of the whole certificate.
pub(super) fn of(certificate: &X509Certificate<'_>, der: &[u8]) -> Result<Identity, Flaw> {
    let mut attributes = vec![
        (Attribute::Fingerprint, hexadecimal(&sha256(der))),
        (Attribute::PublicKey, hexadecimal(&sha256(certificate.public_key().raw))),
        (Attribute::Serial, serial(certificate)),
    ];
    read_subject(certificate.subject(), &mut attributes)?;
    read_issuer(certificate.issuer(), &mut attributes)?;
    read_alternative_names(certificate, &mut attributes)?;
    Ok(Identity::from_attributes(attributes))
}

fn read_subject(subject: &X509Name<'_>, into: &mut Vec<(Attribute, String)>) -> Result<(), Flaw> {
    let whole = distinguished_name(subject)?;
    if !whole.is_empty() {
        into.push((Attribute::Subject, whole));
    }
    for part in subject.iter_attributes() {
        let attribute = match part.attr_type() {
            oid if *oid == OID_X509_COMMON_NAME => Attribute::CommonName,
            oid if *oid == OID_X509_ORGANIZATION_NAME => Attribute::Organization,
            oid if *oid == OID_X509_ORGANIZATIONAL_UNIT => Attribute::OrganizationalUnit,
            oid if *oid == OID_X509_COUNTRY_NAME => Attribute::Country,
            oid if *oid == OID_X509_LOCALITY_NAME => Attribute::Locality,
            oid if *oid == OID_X509_STATE_OR_PROVINCE_NAME => Attribute::State,
            _ => continue,
        };
        into.push((attribute, text(part)?));
    }
    Ok(())
}

fn read_issuer(issuer: &X509Name<'_>, into: &mut Vec<(Attribute, String)>) -> Result<(), Flaw> {
    into.push((Attribute::Issuer, distinguished_name(issuer)?));
    let mut names = issuer.iter_common_name();
    // Several common names must not satisfy a rule about one name.
    if let (Some(name), None) = (names.next(), names.next()) {
        into.push((Attribute::Issuer, text(name)?));
    }
    Ok(())
}

fn read_alternative_names(
    certificate: &X509Certificate<'_>,
    into: &mut Vec<(Attribute, String)>,
) -> Result<(), Flaw> {
    let extension = certificate
        .get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME)
        .map_err(|_| Flaw::MalformedName("two lists of subject alternative names"))?;
    let Some(extension) = extension else { return Ok(()) };
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        return Err(Flaw::MalformedName("an unreadable list of subject alternative names"));
    };
    if names.general_names.len() > MAX_ALTERNATIVE_NAMES {
        return Err(Flaw::TooManyNames);
    }
    for name in &names.general_names {
        match name {
            GeneralName::DNSName(name) => into.push((Attribute::Dns, dns(name)?)),
            GeneralName::URI(uri) => into.push((Attribute::Uri, plain(uri, "a URI name")?)),
            GeneralName::RFC822Name(email) => into.push((Attribute::Email, plain(email, "an e-mail name")?)),
            GeneralName::IPAddress(bytes) => into.push((Attribute::Ip, ip(bytes)?)),
            GeneralName::Invalid(..) => return Err(Flaw::MalformedName("a subject alternative name")),
            // No rule uses these kinds. A NUL in a text is an attack on parsers that end the text there.
            GeneralName::OtherName(_, bytes) if bytes.contains(&0) && !is_der(bytes) => {
                return Err(Flaw::MalformedName("an otherName with a NUL"));
            }
            _ => {}
        }
    }
    check_spiffe_id(into)
}

/// Checks that a certificate with a SPIFFE id has no other URI name, and that the id is valid (X.509-SVID §2, SPIFFE-ID §2).
fn check_spiffe_id(attributes: &[(Attribute, String)]) -> Result<(), Flaw> {
    let mut uris = attributes.iter().filter(|(a, _)| *a == Attribute::Uri).map(|(_, uri)| uri.as_str());
    let is_spiffe = |uri: &str| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"));
    if !uris.clone().any(is_spiffe) {
        return Ok(());
    }
    let (Some(id), None) = (uris.next(), uris.next()) else { return Err(Flaw::SeveralSpiffeIds) };
    is_spiffe_id(id).then_some(()).ok_or(Flaw::MalformedName("a SPIFFE id"))
}

fn is_spiffe_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix("spiffe://") else { return false };
    // An id without a path names the whole trust domain and not a client (X.509-SVID §3.1).
    let Some((domain, path)) = rest.split_once('/') else { return false };
    let in_segment = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let segment_is_good =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(in_segment);
    id.len() <= 2048 && is_trust_domain(domain) && path.split('/').all(segment_is_good)
}

/// Returns true for a valid name of a SPIFFE trust domain (SPIFFE-ID §2.1).
pub(super) fn is_trust_domain(name: &str) -> bool {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=255).contains(&name.len()) && name.bytes().all(good)
}

/// Returns a DNS name in lower case and without a trailing dot: both forms name the same host.
fn dns(name: &str) -> Result<String, Flaw> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(good) || name.split('.').any(str::is_empty) {
        return Err(Flaw::MalformedName("a DNS name"));
    }
    Ok(name.to_ascii_lowercase())
}

fn plain(name: &str, what: &'static str) -> Result<String, Flaw> {
    if name.is_empty() || name.bytes().any(|byte| !matches!(byte, 0x21..=0x7e)) {
        return Err(Flaw::MalformedName(what));
    }
    Ok(name.to_owned())
}

fn ip(bytes: &[u8]) -> Result<String, Flaw> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(octets).to_string());
    }
    let octets = <[u8; 16]>::try_from(bytes).map_err(|_| Flaw::MalformedName("an IP address name"))?;
    Ok(Ipv6Addr::from(octets).to_string())
}

/// Returns true if the bytes are DER whose content has no NUL. A NUL in a tag or a length is harmless.
fn is_der(bytes: &[u8]) -> bool {
    x509_parser::der_parser::asn1_rs::Any::from_der(bytes).is_ok_and(|(_, any)| !any.data.contains(&0))
}

/// Returns the text of one attribute of a name, for each ASN.1 string type.
fn text(part: &AttributeTypeAndValue<'_>) -> Result<String, Flaw> {
    let bytes = part.as_slice();
    let malformed = Flaw::MalformedName("a name in the subject or issuer");
    let text = match part.attr_value().header.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::NumericString | Tag::Ia5String | Tag::VisibleString => {
            String::from_utf8(bytes.to_vec()).map_err(|_| malformed.clone())?
        }
        // A T61String is Latin-1 in some certificates and T.61 in others. ASCII is the same in both.
        Tag::TeletexString if bytes.is_ascii() => {
            String::from_utf8(bytes.to_vec()).map_err(|_| malformed.clone())?
        }
        Tag::BmpString => utf16(bytes).ok_or_else(|| malformed.clone())?,
        Tag::UniversalString => utf32(bytes).ok_or_else(|| malformed.clone())?,
        _ => return Err(malformed),
    };
    if text.contains('\0') { Err(Flaw::MalformedName("a name with a NUL")) } else { Ok(text) }
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
    rest.is_empty().then(|| char::decode_utf16(units).collect::<Result<_, _>>().ok()).flatten()
}

fn utf32(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<4>();
    rest.is_empty()
        .then(|| units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect())
        .flatten()
}

/// Returns a distinguished name in the form of RFC 4514: the most specific part first, special characters escaped.
pub(super) fn distinguished_name(name: &X509Name<'_>) -> Result<String, Flaw> {
    if !is_well_formed_name(name.as_raw()) {
        return Err(Flaw::MalformedName("a name in the subject or issuer"));
    }
    let mut parts = Vec::new();
    for relative in name.iter_rdn() {
        let mut values = Vec::new();
        for part in relative.iter() {
            if part.attr_type().as_bytes().len() > MAX_TYPE_BYTES {
                return Err(Flaw::MalformedName("a name in the subject or issuer"));
            }
            let mut out = type_name(part.attr_type());
            out.push('=');
            escape(&text(part)?, &mut out);
            values.push(out);
        }
        parts.push(values.join("+"));
    }
    parts.reverse();
    Ok(parts.join(","))
}

/// Returns true if a name is exactly `SEQUENCE { SET { SEQUENCE { type, value } … } … }`. The parser accepts other tags as
/// well, and another parser could read such a name in another way.
fn is_well_formed_name(name: &[u8]) -> bool {
    let constructed = |any: &Any<'_>, tag| {
        any.header.is_universal() && any.header.tag() == tag && any.header.is_constructed()
    };
    let attribute = |any: &Any<'_>| {
        constructed(any, Tag::Sequence)
            && elements(any.data).is_some_and(|parts| match parts.as_slice() {
                [kind, value] => {
                    let universal = [kind, value].iter().all(|any| any.header.is_universal());
                    universal && kind.header.tag() == Tag::Oid
                }
                _ => false,
            })
    };
    let relative = |any: &Any<'_>| {
        constructed(any, Tag::Set)
            && elements(any.data).is_some_and(|parts| !parts.is_empty() && parts.iter().all(attribute))
    };
    elements(name).is_some_and(|whole| match whole.as_slice() {
        [name] if constructed(name, Tag::Sequence) => {
            elements(name.data).is_some_and(|parts| parts.iter().all(relative))
        }
        _ => false,
    })
}

/// Returns the short name of an attribute type: those of RFC 4514 §3, `serialNumber` and `emailAddress`.
fn type_name(oid: &Oid<'_>) -> String {
    let known = [
        (OID_X509_COMMON_NAME, "CN"),
        (OID_X509_LOCALITY_NAME, "L"),
        (OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
        (OID_X509_ORGANIZATION_NAME, "O"),
        (OID_X509_ORGANIZATIONAL_UNIT, "OU"),
        (OID_X509_COUNTRY_NAME, "C"),
        (OID_X509_STREET_ADDRESS, "STREET"),
        (OID_DOMAIN_COMPONENT, "DC"),
        (OID_USERID, "UID"),
        (OID_X509_SERIALNUMBER, "serialNumber"),
        (OID_PKCS9_EMAIL_ADDRESS, "emailAddress"),
    ];
    known
        .iter()
        .find(|(known, _)| known == oid)
        .map_or_else(|| oid.to_id_string(), |(_, name)| (*name).to_owned())
}

fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, char) in value.chars().enumerate() {
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => out.extend(['\\', char]),
            '#' | ' ' if index == 0 => out.extend(['\\', char]),
            ' ' if index == last => out.extend(['\\', char]),
            char if char.is_control() => {
                let mut buffer = [0; 4];
                for byte in char.encode_utf8(&mut buffer).bytes() {
                    // Writing into a String cannot fail.
                    let _ = write!(out, "\\{byte:02x}");
                }
            }
            char => out.push(char),
        }
    }
}

pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    let digits = hexadecimal(certificate.raw_serial());
    let trimmed = digits.trim_start_matches('0');
    if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case 19.
    #[test]
    fn only_valid_spiffe_ids_are_accepted() {
        let longest = format!("spiffe://{}/{}", "d".repeat(255), "p".repeat(2048 - 9 - 255 - 1));
        for good in ["spiffe://shop.example/ns/orders/sa/a-b_c.d", "spiffe://1_2.x-y/...", &longest] {
            assert!(is_spiffe_id(good), "{good}");
        }
        for bad in [
            &format!("{longest}p"),
            &format!("spiffe://{}/p", "d".repeat(256)),
            "spiffe://shop.example",
            "spiffe:/shop.example/x",
            "spiffe://shop.example/a/.",
            "spiffe://shop.example/a b",
            "spiffe://shop.example/\u{e4}",
            "spiffe://[::1]/a",
            "spiffe://",
            "spiffe:///x",
            "SPIFFE://shop.example/x",
            "spiffe://Shop.example/x",
            "spiffe://shop.example/",
            "spiffe://shop.example/a//b",
            "spiffe://shop.example/../b",
            "spiffe://shop.example/%2e%2e/b",
            "spiffe://shop.example/a?b",
            "spiffe://shop.example/a#b",
            "spiffe://user@shop.example/a",
            "spiffe://shop.example:80/a",
        ] {
            assert!(!is_spiffe_id(bad), "{bad}");
        }
    }

    /// Cases 14 and 18.
    #[test]
    fn dns_names_are_folded_and_invalid_characters_are_refused() {
        assert_eq!(dns("Orders.Shop.Example."), Ok("orders.shop.example".to_owned()));
        for bad in ["", ".", "a..b", "a\0b", "a b", "a,b", "ä.example"] {
            assert!(dns(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_type_of_a_part_of_a_name_has_a_maximum_length() {
        let name_of_type = |bytes: usize| {
            let mut params = rcgen::CertificateParams::default();
            let arcs = [1, 3].into_iter().chain(std::iter::repeat_n(1, bytes - 1)).collect();
            params.distinguished_name.push(rcgen::DnType::CustomDnType(arcs), "a");
            let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
            read(&der).map(|identity| identity.values(Attribute::Subject).count())
        };
        assert_eq!(name_of_type(MAX_TYPE_BYTES), Ok(1));
        let flaw = Flaw::MalformedName("a name in the subject or issuer");
        assert_eq!(name_of_type(MAX_TYPE_BYTES + 1), Err(flaw));
    }

    /// Cases 15 and 16.
    #[test]
    fn special_characters_of_values_are_escaped_in_a_distinguished_name() {
        let mut out = String::new();
        escape(" a,O=ops\r\n#\"+;<>\\ ", &mut out);
        assert_eq!(out, "\\ a\\,O\\=ops\\0d\\0a#\\\"\\+\\;\\<\\>\\\\\\ ");
    }
}
