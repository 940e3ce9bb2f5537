//! Certificates and CRLs: their dates, and whether clients will accept the server's certificate.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::super::LARGEST_CERTIFICATE;
use super::Finding;
use crate::config::Config;
use crate::identity::{Attribute, Expiry, ExpiryKind, Identity, first_not_issued_by_next};
use crate::live::Live;
use crate::pem;
use crate::reload::files::{self, AcceptedKinds};

pub(super) fn check_trust(config: &Config, live: &Live, now: Timestamp) -> Vec<Finding> {
    let mut findings: Vec<_> = live.expiries().map(|expiry| of_expiry(&expiry, now)).collect();
    findings.extend(config.certificates.iter().filter_map(|named| server_chain(&named.certificate.value)));
    if !live.trust.checks_revocation() {
        findings.push(Finding::fine("revocation", "not checked: `tls.crl` is not set"));
    }
    findings
}

fn of_expiry(expiry: &Expiry, now: Timestamp) -> Finding {
    let check = match expiry.kind {
        ExpiryKind::Server => "certificate",
        ExpiryKind::Ca => "client CA",
        ExpiryKind::Crl => "CRL",
    };
    let Expiry { name, file, from, until, .. } = expiry;
    if now < *from {
        // A CRL may come from a machine whose clock is a little ahead.
        let a_little =
            expiry.kind == ExpiryKind::Crl && from.duration_since(now) < SignedDuration::from_mins(5);
        if !a_little {
            let message = format!("`{name}` (`{file}`) is not valid before {from}");
            return Finding::wrong(check, message, "wait until then, or correct the clock of this machine");
        }
    }
    match expiry.warning(now) {
        Some(warning) => Finding::of_warning(check, &warning),
        None => Finding::fine(check, format!("`{name}` (`{file}`) is good until {until}")),
    }
}

/// Checks what clients need: names to compare, and each certificate followed by its issuer.
fn server_chain(path: &Path) -> Option<Finding> {
    let file = path.display();
    let bytes = files::read(path, LARGEST_CERTIFICATE, AcceptedKinds::Regular).ok()?;
    let chain = pem::certificates(&bytes).ok()?;
    let names = chain.first().and_then(|leaf| Identity::from_certificate(leaf).ok());
    let has_name = names.is_some_and(|identity| {
        [Attribute::Dns, Attribute::Ip].into_iter().any(|kind| identity.values(kind).next().is_some())
    });
    if !has_name {
        let message = format!("the server's certificate `{file}` has no DNS name and no IP address");
        return Some(Finding::wrong(
            "certificate",
            message,
            "issue it with subject alternative names; clients look at nothing else",
        ));
    }
    let position = first_not_issued_by_next(&chain)?;
    let message =
        format!("certificate {} of `{file}` was not issued by the one after it", position.saturating_add(1));
    Some(Finding::wrong(
        "certificate",
        message,
        "put the server's own certificate first, then its issuer, and so on; otherwise clients may not be able to check it",
    ))
}
