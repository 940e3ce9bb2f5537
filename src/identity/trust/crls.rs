//! Loading of the CRLs of a trust bundle. A CRL is accepted if a known authority signed it, ignored with a warning if its
//! authority is unknown, and otherwise reported as an error.

use rustls::pki_types::pem::SectionKind;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Authority;
use super::build::{TrustFile, TrustSources};
use crate::diagnostic::{Code, Diagnostic};
use crate::identity::names::distinguished_name;
use crate::identity::paths::subject_key_id;
use crate::identity::revocation::{Crl, CrlFlaw, IgnoredCrl, MissingCrl, Revocation, UnverifiedCrl};
use crate::identity::signature::{SignatureFlaw, Signed};
use crate::pem;

/// Authority that may have signed a CRL.
pub(super) struct Issuer<'d> {
    pub(super) der: &'d [u8],
    pub(super) certificate: X509Certificate<'d>,
}

impl<'d> Issuer<'d> {
    fn read(der: &'d [u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self { der, certificate })
    }

    fn name(&self) -> String {
        distinguished_name(self.certificate.subject()).unwrap_or_default()
    }

    fn subject(&self) -> &[u8] {
        self.certificate.subject().as_raw()
    }

    fn key(&self) -> &[u8] {
        self.certificate.public_key().raw
    }

    fn issued(&self, other: &Self) -> bool {
        other.certificate.issuer().as_raw() == self.subject()
            && Signed::parse(other.der).is_some_and(|signed| signed.verify(self.key()).is_ok())
    }

    /// Returns true if the CRL names the key of this authority as its signer; `None` if the CRL or the certificate has no key
    /// identifier.
    fn is_named_by(&self, list: &UnverifiedCrl<'_>) -> Option<bool> {
        let own = subject_key_id(&self.certificate);
        own.zip(list.key_identifier).map(|(own, named)| own == named)
    }

    /// Returns false if the KeyUsage does not allow to sign CRLs (RFC 5280 §4.2.1.3).
    fn may_sign_crls(&self) -> bool {
        self.certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
    }
}

/// Reads and verifies the configured CRLs; `None` if none are configured.
pub(super) fn revocation(
    sources: &TrustSources,
    client_cas: &[Issuer<'_>],
    authorities: &mut [Authority],
    found: &mut Vec<Diagnostic>,
) -> Option<Revocation> {
    // If a client CA cannot be read, its CRL would be reported as that of an unknown CA.
    let knows_all = !found.iter().any(Diagnostic::is_error);
    let Contents { lists, certificates } = Contents::of(sources.crls.as_deref()?, found);
    let mut beside = Vec::new();
    for (file, der) in &certificates {
        match Issuer::read(der) {
            Some(issuer) => beside.push((*file, issuer)),
            None => found.push(unreadable(file)),
        }
    }
    let known = related_authorities(client_cas, &beside, found);
    let (mut verified_lists, mut ignored) = (Vec::new(), Vec::new());
    for (file, der) in &lists {
        match check_crl(file, der, &known, sources) {
            Ok(CheckedCrl::Accepted(list)) => verified_lists.push(list),
            Ok(CheckedCrl::Ignored(list, warning)) => {
                ignored.push(list);
                found.extend(Some(warning).filter(|_| knows_all));
            }
            Err(problem) => found.push(problem),
        }
    }
    let lists = remove_superseded(verified_lists, found);
    let revocation = Revocation { lists, ignored, missing: sources.crl_missing };
    // A CRL that cannot be read is not reported as missing as well.
    if !found.iter().any(Diagnostic::is_error) {
        for (issuer, authority) in client_cas.iter().zip(authorities) {
            check_client_ca(issuer, authority, &revocation, found);
        }
    }
    Some(revocation)
}

/// Content of the files of `tls.crl`.
#[derive(Default)]
struct Contents<'s> {
    lists: Vec<(&'s TrustFile, Vec<u8>)>,
    certificates: Vec<(&'s TrustFile, Vec<u8>)>,
}

impl<'s> Contents<'s> {
    fn of(files: &'s [TrustFile], found: &mut Vec<Diagnostic>) -> Self {
        let mut contents = Self::default();
        for file in files {
            match contents.add(file) {
                Ok(0) => found.push(file.problem(
                    Code::BadCrl,
                    format!("there is no CRL in `{}`", file.name),
                    "a CRL is DER, or PEM between -----BEGIN X509 CRL----- and -----END X509 CRL-----",
                )),
                Ok(_) => {}
                Err(problem) => found.push(problem),
            }
        }
        contents
    }

    /// Adds the content of a file, and returns the number of CRLs and certificates in the file.
    fn add(&mut self, file: &'s TrustFile) -> Result<usize, Diagnostic> {
        if pem::is_der(&file.bytes) {
            let is_certificate = Issuer::read(&file.bytes).is_some();
            let to = if is_certificate { &mut self.certificates } else { &mut self.lists };
            to.push((file, file.bytes.clone()));
            return Ok(1);
        }
        let mut added = 0;
        for (kind, der) in file.sections()? {
            match kind {
                SectionKind::Crl => self.lists.push((file, der)),
                SectionKind::Certificate => self.certificates.push((file, der)),
                _ => continue,
            }
            added += 1;
        }
        Ok(added)
    }
}

/// Returns the authorities that may sign CRLs: the client CAs, and the certificates beside the CRLs that a known authority
/// issued or that issued a known authority. Clients present their intermediates themselves, so an intermediate that signs
/// CRLs is known only from the certificate beside its CRL.
fn related_authorities<'i, 'd>(
    client_cas: &'i [Issuer<'d>],
    beside: &'i [(&TrustFile, Issuer<'d>)],
    found: &mut Vec<Diagnostic>,
) -> Vec<&'i Issuer<'d>> {
    let mut known: Vec<&Issuer<'_>> = client_cas.iter().collect();
    let mut strangers: Vec<_> = beside.iter().collect();
    loop {
        let is_related =
            |issuer: &Issuer<'_>| known.iter().any(|other| other.issued(issuer) || issuer.issued(other));
        let (new, rest): (Vec<_>, Vec<_>) = strangers.into_iter().partition(|(_, issuer)| is_related(issuer));
        strangers = rest;
        if new.is_empty() {
            break;
        }
        known.extend(new.into_iter().map(|(_, issuer)| issuer));
    }
    for (file, issuer) in strangers {
        found.push(file.warning(
            Code::UnusedCertificate,
            format!("the certificate of `{}` in `{}` belongs to no client CA", issuer.name(), file.name),
            "`tls.crl` takes CRLs, and beside them the certificates of intermediates that sign CRLs; client CAs go to `tls.client_ca`",
        ));
    }
    known
}

/// A known authority with the issuer name of the CRL, and the result of the signature check with its key.
type Verdict<'i, 'd> = (&'i Issuer<'d>, Result<(), SignatureFlaw>);

/// Result of the signature check of a readable CRL.
enum CheckedCrl {
    Accepted(Crl),
    /// The authority or the key is unknown. The files are accepted nevertheless: a removed CA may leave its CRL behind, and
    /// if the CRL made the reload fail, the removed CA would stay trusted.
    Ignored(IgnoredCrl, Diagnostic),
}

fn check_crl(
    file: &TrustFile,
    der: &[u8],
    known: &[&Issuer<'_>],
    sources: &TrustSources,
) -> Result<CheckedCrl, Diagnostic> {
    let list = UnverifiedCrl::read(der).map_err(|flaw| unusable(file, flaw))?;
    let signed = Signed::parse(der).ok_or_else(|| unusable(file, CrlFlaw::Unreadable))?;
    let named: Vec<_> = known.iter().copied().filter(|issuer| issuer.subject() == list.issuer_der).collect();
    let verdicts: Vec<_> = named.iter().map(|issuer| (*issuer, signed.verify(issuer.key()))).collect();
    let signers: Vec<_> = verdicts.iter().filter(|(_, verdict)| verdict.is_ok()).map(|(it, _)| it).collect();
    match signers.iter().find(|issuer| issuer.may_sign_crls()) {
        Some(issuer) => Ok(CheckedCrl::Accepted(list.signed_by(issuer.key(), &file.name, sources.crl_grace))),
        None if !signers.is_empty() => Err(file.problem(
            Code::CrlSignature,
            format!(
                "the CRL in `{}` is signed by `{}`, whose keyUsage does not allow it to sign CRLs",
                file.name, list.issuer
            ),
            "renew the CA's certificate with `cRLSign` in its keyUsage",
        )),
        // The CRL names the key of this authority, but the signature is wrong: the CRL is damaged or forged.
        None if named.iter().any(|issuer| issuer.is_named_by(&list) == Some(true)) => {
            Err(badly_signed(file, &list, &verdicts))
        }
        None => Ok(ignored(file, &list, &verdicts)),
    }
}

fn ignored(file: &TrustFile, list: &UnverifiedCrl<'_>, verdicts: &[Verdict<'_, '_>]) -> CheckedCrl {
    let (what, help) = match verdicts {
        [] => (
            "is of an authority that is not known",
            "if that CA was removed, remove its CRL too; if it is an intermediate, put its certificate (PEM) into the same file or folder; otherwise add the CA to `tls.client_ca`",
        ),
        _ => (
            of_known_name(verdicts),
            "if the CA of that key was removed, remove its CRL too; if it is still in use, its certificate belongs to `tls.client_ca` (for an intermediate: beside the CRL); otherwise fetch the CRL of the known CA again",
        ),
    };
    let message = format!("the CRL of `{}` in `{}` {what}; it is ignored", list.issuer, file.name);
    let is_of_another = |(issuer, _): &&Verdict<'_, '_>| issuer.is_named_by(list) == Some(false);
    let not_of = verdicts.iter().filter(is_of_another).map(|(issuer, _)| issuer.key().into()).collect();
    let ignored = IgnoredCrl { issuer_der: list.issuer_der.into(), not_of };
    CheckedCrl::Ignored(ignored, file.warning(Code::CrlOfUnknownCa, message, help))
}

fn of_known_name(verdicts: &[Verdict<'_, '_>]) -> &'static str {
    match are_unacceptable(verdicts) {
        true => "is of this name, but signed with an algorithm that is not accepted",
        false => "is of this name, but signed by another key than that of the known authority",
    }
}

fn are_unacceptable(verdicts: &[Verdict<'_, '_>]) -> bool {
    verdicts.iter().all(|(_, verdict)| *verdict == Err(SignatureFlaw::Unacceptable))
}

fn badly_signed(file: &TrustFile, list: &UnverifiedCrl<'_>, verdicts: &[Verdict<'_, '_>]) -> Diagnostic {
    let what = match are_unacceptable(verdicts) {
        true => "is signed with an algorithm that is not accepted",
        false => "has a wrong signature",
    };
    file.problem(
        Code::CrlSignature,
        format!("the CRL of `{}` in `{}` {what}", list.issuer, file.name),
        "fetch it again; if the CA has a new key, its new certificate belongs to `tls.client_ca` (for an intermediate: beside the CRL)",
    )
}

fn unreadable(file: &TrustFile) -> Diagnostic {
    file.problem(
        Code::BadCrl,
        format!("a certificate in `{}` is not readable", file.name),
        "write the file again from where it came, or remove that certificate",
    )
}

fn unusable(file: &TrustFile, flaw: CrlFlaw) -> Diagnostic {
    file.problem(Code::BadCrl, format!("the CRL in `{}` cannot be used: {flaw}", file.name), flaw.remedy())
}

/// Removes CRLs that a newer CRL of the same issuer and scope replaces. An older CRL may contain certificates on hold that were
/// released since.
fn remove_superseded(lists: Vec<Crl>, found: &mut Vec<Diagnostic>) -> Vec<Crl> {
    let (old, new): (Vec<_>, Vec<_>) = (0..lists.len()).partition(|index| {
        lists.get(*index).is_some_and(|list| lists.iter().any(|other| other.replaces(list)))
    });
    for list in old.iter().filter_map(|index| lists.get(*index)) {
        let message =
            format!("the CRL of `{}` in `{}` is older than another one of it", list.issuer, list.file);
        found.push(Diagnostic::warning(Code::CrlSuperseded, message).help("remove it; the newest counts"));
    }
    let mut index = 0;
    let mut lists = lists;
    lists.retain(|_| {
        index += 1;
        new.contains(&(index - 1))
    });
    lists
}

/// Warns if a CRL revokes a client CA, or if a client CA has no CRL.
fn check_client_ca(
    issuer: &Issuer<'_>,
    authority: &mut Authority,
    revocation: &Revocation,
    found: &mut Vec<Diagnostic>,
) {
    let of_its_issuer = |list: &&Crl| *list.issuer_der == *issuer.certificate.issuer().as_raw();
    let revoking =
        revocation.lists.iter().filter(of_its_issuer).find(|list| list.revokes(&issuer.certificate));
    if let Some(list) = revoking {
        authority.is_revoked = true;
        let message = format!(
            "the client CA `{}` (`{}`) is revoked by `{}`",
            authority.name, authority.file, list.file
        );
        found.push(
            Diagnostic::warning(Code::CaRevoked, message)
                .help("its clients are refused; remove it from `tls.client_ca`"),
        );
    }
    let has_list = revocation
        .lists
        .iter()
        .any(|list| *list.issuer_der == *issuer.subject() && *list.key == *issuer.key());
    if !has_list && revocation.missing == MissingCrl::Refuse {
        let message = format!("there is no CRL of the client CA `{}` (`{}`)", authority.name, authority.file);
        found.push(Diagnostic::warning(Code::CrlMissing, message).help(
            "its clients are refused; add its CRL to `tls.crl`, or set `tls.crl_missing: allow` if it publishes none",
        ));
    }
}
