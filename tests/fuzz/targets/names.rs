//! Any bytes as a certificate: every value of its names has the form on which policies and headers rely.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidegate::identity::{Attribute, Description, Identity};

fuzz_target!(|bytes: &[u8]| {
    let _ = Description::of(bytes);
    let Ok(identity) = Identity::from_certificate(bytes) else { return };
    for attribute in Attribute::ALL {
        for value in identity.values(attribute) {
            assert!(!value.contains('\0'), "{attribute}: {value:?}");
            let plain = match attribute {
                Attribute::Dns => value.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()),
                Attribute::Uri | Attribute::Email | Attribute::Ip => value.bytes().all(|b| b.is_ascii_graphic()),
                Attribute::Fingerprint | Attribute::PublicKey | Attribute::Serial => {
                    value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                }
                _ => true,
            };
            assert!(plain, "{attribute}: {value:?}");
        }
    }
    let spiffe = |uri: &&str| uri.starts_with("spiffe:");
    if identity.values(Attribute::Uri).any(|uri| spiffe(&uri)) {
        assert!(identity.single(Attribute::Uri).is_some(), "a SPIFFE id stands alone");
    }
});
