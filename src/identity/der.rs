//! DER to the letter. The parsers here pass over what they do not need; somebody else would read such a certificate
//! otherwise, or not at all.

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Deeper than any certificate or CRL goes.
const DEEPEST: usize = 16;

/// The values that stand one after the other; nothing where one of them is malformed.
pub(super) fn elements(mut der: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (rest, value) = Any::from_der(der).ok()?;
        found.push(value);
        der = rest;
    }
    Some(found)
}

/// The content of the value that the bytes begin with, without tag and length.
pub(super) fn content(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, value)| value.data)
}

/// The first and the last second of a certificate's validity (RFC 5280 §4.1), without reading the rest of it.
pub(super) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let signed = content(content(certificate)?)?;
    let after = |der| Any::from_der(der).ok().map(|(rest, _)| rest);
    // Version, serial number, algorithm, issuer.
    let dates = content(after(after(after(after(signed)?)?)?)?)?;
    let (rest, not_before) = ASN1Time::from_der(dates).ok()?;
    let (_, not_after) = ASN1Time::from_der(rest).ok()?;
    Some((not_before.timestamp(), not_after.timestamp()))
}

/// Whether it is one value, with only such inside.
pub(super) fn is_well_formed(der: &[u8]) -> bool {
    Any::from_der(der).is_ok_and(|(rest, value)| rest.is_empty() && is_value(&value, DEEPEST))
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

/// Base-128 numbers: the last byte of each has no high bit, the first is no padding.
fn is_oid(data: &[u8]) -> bool {
    let starts = std::iter::once(&0).chain(data).zip(data).filter(|(before, _)| **before < 0x80);
    data.last().is_some_and(|last| *last < 0x80) && starts.into_iter().all(|(_, first)| *first != 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_der_is_seen_at_any_depth() {
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
