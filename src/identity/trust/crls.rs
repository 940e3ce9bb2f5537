//! The CRLs of a trust bundle: each bears the signature of a known authority, is ignored with a warning because its authority is
//! not known, or is a problem.

use rustls::pki_types::pem::SectionKind;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Authority;
use super::build::{TrustFile, TrustSources};
use crate::diagnostic::{Code, Diagnostic};
use crate::identity::names::distinguished_name;
use crate::identity::paths::subject_key_id;
use crate::identity::revocation::{Ignored, List, ListFlaw, MissingCrl, Revocation, Unverified};
use crate::identity::signature::{SignatureFlaw, Signed};
use crate::pem;

/// An authority that may have signed a CRL.
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

    /// Whether the key that the CRL names as its signer's is this one; nothing where the CRL names none, or the certificate has no
    /// name for its own.
    fn is_named_by(&self, list: &Unverified<'_>) -> Option<bool> {
        let own = subject_key_id(&self.certificate);
        own.zip(list.key_identifier).map(|(own, named)| own == named)
    }

    /// KeyUsage where it is present (RFC 5280 §4.2.1.3).
    fn may_sign_crls(&self) -> bool {
        self.certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
    }
}

/// Reads and verifies the configured CRLs; nothing where none are configured.
pub(super) fn revocation(
    sources: &TrustSources,
    client_cas: &[Issuer<'_>],
    authorities: &mut [Authority],
    found: &mut Vec<Diagnostic>,
) -> Option<Revocation> {
    // The CRL of a CA that cannot be read would seem to be of nobody.
    let knows_all = !found.iter().any(Diagnostic::is_error);
    let Contents { lists, certificates } = Contents::of(sources.crls.as_deref()?, found);
    let mut beside = Vec::new();
    for (file, der) in &certificates {
        match Issuer::read(der) {
            Some(issuer) => beside.push((*file, issuer)),
            None => found.push(unreadable(file)),
        }
    }
    let known = related(client_cas, &beside, found);
    let (mut verified_lists, mut ignored) = (Vec::new(), Vec::new());
    for (file, der) in &lists {
        match verified(file, der, &known, sources) {
            Ok(Checked::Counts(list)) => verified_lists.push(list),
            Ok(Checked::Ignored(list, warning)) => {
                ignored.push(list);
                found.extend(Some(warning).filter(|_| knows_all));
            }
            Err(problem) => found.push(problem),
        }
    }
    let lists = newest(verified_lists, found);
    let revocation = Revocation { lists, ignored, missing: sources.crl_missing };
    // What cannot be read is not missing as well.
    if !found.iter().any(Diagnostic::is_error) {
        for (issuer, authority) in client_cas.iter().zip(authorities) {
            look_at(issuer, authority, &revocation, found);
        }
    }
    Some(revocation)
}

/// What is in the files of `tls.crl`.
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

    /// The number of things that were in it.
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

/// The authorities that CRLs may be of: the client CAs, those beside the CRLs that one of these issued, and those that
/// issued one of these. Intermediates come with the client, so whoever signs their CRLs is not known otherwise.
fn related<'i, 'd>(
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

/// A known authority of the CRL's issuer name, and whether its key made the signature.
type Verdict<'i, 'd> = (&'i Issuer<'d>, Result<(), SignatureFlaw>);

/// A CRL that can be read, after its signature was looked at.
enum Checked {
    Counts(List),
    /// The CRL of an authority, or of a key, that is not known. A removed CA leaves its CRL behind: if that refused the files, the removed
    /// CA would stay trusted.
    Ignored(Ignored, Diagnostic),
}

fn verified(
    file: &TrustFile,
    der: &[u8],
    known: &[&Issuer<'_>],
    sources: &TrustSources,
) -> Result<Checked, Diagnostic> {
    let list = Unverified::read(der).map_err(|flaw| unusable(file, flaw))?;
    let signed = Signed::parse(der).ok_or_else(|| unusable(file, ListFlaw::Unreadable))?;
    let named: Vec<_> = known.iter().copied().filter(|issuer| issuer.subject() == list.issuer_der).collect();
    let verdicts: Vec<_> = named.iter().map(|issuer| (*issuer, signed.verify(issuer.key()))).collect();
    let signers: Vec<_> = verdicts.iter().filter(|(_, verdict)| verdict.is_ok()).map(|(it, _)| it).collect();
    match signers.iter().find(|issuer| issuer.may_sign_crls()) {
        Some(issuer) => Ok(Checked::Counts(list.signed_by(issuer.key(), &file.name, sources.crl_grace))),
        None if !signers.is_empty() => Err(file.problem(
            Code::CrlSignature,
            format!(
                "the CRL in `{}` is signed by `{}`, whose keyUsage does not allow it to sign CRLs",
                file.name, list.issuer
            ),
            "renew the CA's certificate with `cRLSign` in its keyUsage",
        )),
        // A CRL that says it is of this key, and is not, was damaged or forged.
        None if named.iter().any(|issuer| issuer.is_named_by(&list) == Some(true)) => {
            Err(badly_signed(file, &list, &verdicts))
        }
        None => Ok(ignored(file, &list, &verdicts)),
    }
}

fn ignored(file: &TrustFile, list: &Unverified<'_>, verdicts: &[Verdict<'_, '_>]) -> Checked {
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
    let ignored = Ignored { issuer_der: list.issuer_der.into(), not_of };
    Checked::Ignored(ignored, file.warning(Code::CrlOfUnknownCa, message, help))
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

fn badly_signed(file: &TrustFile, list: &Unverified<'_>, verdicts: &[Verdict<'_, '_>]) -> Diagnostic {
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

fn unusable(file: &TrustFile, flaw: ListFlaw) -> Diagnostic {
    file.problem(Code::BadCrl, format!("the CRL in `{}` cannot be used: {flaw}", file.name), flaw.remedy())
}

/// A CRL replaces an older one of the same issuer and scope, which would bring back what was on hold.
fn newest(lists: Vec<List>, found: &mut Vec<Diagnostic>) -> Vec<List> {
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

/// What the CRLs say, or do not say, about a client CA itself.
fn look_at(
    issuer: &Issuer<'_>,
    authority: &mut Authority,
    revocation: &Revocation,
    found: &mut Vec<Diagnostic>,
) {
    let of_its_issuer = |list: &&List| *list.issuer_der == *issuer.certificate.issuer().as_raw();
    let revoking = revocation.lists.iter().filter(of_its_issuer).find(|list| list.lists(&issuer.certificate));
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
