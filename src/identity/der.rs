//! Strict DER (X.690 §10, §11). webpki and the X.509 parser skip the parts of a certificate that they do not need. Another
//! parser may read a malformed part in another way or refuse the certificate, so malformed parts are refused here.

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Maximum nesting of values; no certificate and no CRL needs more.
const MAX_DEPTH: usize = 16;

/// Returns the consecutive values in these bytes; `None` if a value is malformed.
pub(super) fn elements(mut der: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (rest, value) = Any::from_der(der).ok()?;
        found.push(value);
        der = rest;
    }
    Some(found)
}

/// Returns the content of the first value, without its tag and length.
pub(super) fn content(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, value)| value.data)
}

/// Returns the first and the last second of a certificate's validity (RFC 5280 §4.1), without parsing the other fields.
pub(super) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let signed = content(content(certificate)?)?;
    let after = |der| Any::from_der(der).ok().map(|(rest, _)| rest);
    // The fields before the validity are version, serial number, algorithm and issuer.
    let dates = content(after(after(after(after(signed)?)?)?)?)?;
    let (rest, not_before) = ASN1Time::from_der(dates).ok()?;
    let (_, not_after) = ASN1Time::from_der(rest).ok()?;
    Some((not_before.timestamp(), not_after.timestamp()))
}

/// Returns true if the bytes are exactly one value and every nested value is strict DER.
pub(super) fn is_well_formed(der: &[u8]) -> bool {
    Any::from_der(der).is_ok_and(|(rest, value)| rest.is_empty() && is_value(&value, MAX_DEPTH))
}

fn is_value(value: &Any<'_>, depth: usize) -> bool {
    let data = value.data;
    if value.header.is_constructed() {
        return depth > 0 && are_values(data, depth - 1);
    }
    match value.header.tag() {
        _ if !value.header.is_universal() => true,
        Tag::Sequence | Tag::Set => false,
        Tag::Boolean => matches!(data, [0 | 0xff]),
        Tag::Integer | Tag::Enumerated => !matches!(data, [] | [0, 0..0x80, ..] | [0xff, 0x80..=0xff, ..]),
        Tag::Null => data.is_empty(),
        Tag::Oid => is_oid(data),
        Tag::BitString => matches!(data, [0] | [0..8, _, ..]),
        _ => true,
    }
}

fn are_values(mut der: &[u8], depth: usize) -> bool {
    while !der.is_empty() {
        match Any::from_der(der) {
            Ok((rest, value)) if is_value(&value, depth) => der = rest,
            _ => return false,
        }
    }
    true
}

/// An object identifier is a list of base-128 numbers (X.690 §8.19): the high bit is clear in the last byte of each number, and
/// the first byte of a number is not 0x80, which would be padding.
fn is_oid(data: &[u8]) -> bool {
    let starts = std::iter::once(&0).chain(data).zip(data).filter(|(before, _)| **before < 0x80);
    data.last().is_some_and(|last| *last < 0x80) && starts.into_iter().all(|(_, first)| *first != 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_der_is_found_at_any_depth() {
        for good in [&[0x30, 0][..], &[0x30, 3, 6, 1, 0x2a], &[2, 2, 0, 0x80], &[0x80, 0], &[3, 1, 0]] {
            assert!(is_well_formed(good), "{good:x?}");
        }
        for bad in [
            &[][..],
            &[0x30, 1],
            &[0x30, 0, 0],
            &[0x10, 0],
            &[0x30, 3, 6, 1, 0x80],
            &[6, 2, 0x80, 1],
            &[6, 0],
            &[2, 0],
            &[2, 2, 0, 1],
            &[2, 2, 0xff, 0x80],
            &[1, 1, 1],
            &[1, 2, 0, 0],
            &[5, 1, 0],
            &[3, 0],
            &[3, 2, 8, 0],
            &[3, 1, 7],
        ] {
            assert!(!is_well_formed(bad), "{bad:x?}");
        }
        let deep = (0..64).fold(Vec::new(), |inside: Vec<u8>, _| {
            [&[0x30, u8::try_from(inside.len()).unwrap()], inside.as_slice()].concat()
        });
        assert!(!is_well_formed(&deep));
    }
}
