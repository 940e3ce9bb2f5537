//! Any bytes as a CRL: loading ends with diagnostics that can be printed, and only a CRL with the authority's signature is
//! used.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidegate::identity::{Trust, TrustFile, TrustSources, EkuPolicy};

const CA: &[u8] = include_bytes!("../../certificates/certificate_tool/ca.pem");

fuzz_target!(|bytes: &[u8]| {
    let file = TrustFile { name: "fuzz.crl".to_owned(), bytes: bytes.to_owned(), place: None };
    let sources = TrustSources {
        crls: Some(vec![file]),
        ..TrustSources::from_authorities("ca.pem", CA, EkuPolicy::ClientAuthIfPresent)
    };
    let problems = match Trust::build(&sources, jiff::Timestamp::UNIX_EPOCH) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    for problem in problems {
        let shown = problem.human(sidegate::diagnostic::Colour::Never);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "control characters in a diagnostic: {shown:?}");
    }
});
