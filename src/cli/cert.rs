//! `sidegate cert`: the contents of a certificate, and the verdict of the proxy.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use super::{Format, LARGEST_CERTIFICATE, NEGATIVE_ANSWER, Output, SUCCESS, instant, read_input};
use crate::diagnostic::{Code, Diagnostic, printable};
use crate::document;
use crate::identity::{
    Attribute, Authenticated, Description, EkuPolicy, Flaw, Identity, MissingCrl, Trust, TrustSources,
    Unauthenticated, judge,
};
use crate::pem;
use crate::policy::suggest::{match_keys, match_text};
use crate::reload::trust_files::{self, TrustFileKind};

/// Show the contents of a certificate, and whether the proxy would accept it
///
/// Prints the names, dates and fingerprints of the certificate, the `match` of a policy for it, and the verdict with
/// its reason. The verdict comes from the proxy's own check; give the same CAs, CRLs and settings as in the
/// configuration. Exits with 0 if the certificate is valid, with 1 if it is invalid, and with 2 if a file cannot be
/// read.
#[derive(Debug, Args)]
pub(super) struct Cert {
    /// The client's certificate and intermediates (PEM, leaf first; or one certificate in DER); `-` reads standard
    /// input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Client CAs: a PEM file or a folder of PEM files, as `tls.client_ca`; may be repeated
    #[arg(long, value_name = "PATH", required = true)]
    ca: Vec<PathBuf>,
    /// CRLs: a file or a folder of files, as `tls.crl`; may be repeated
    #[arg(long, value_name = "PATH")]
    crl: Vec<PathBuf>,
    /// Time for which a CRL is accepted after its nextUpdate, as `tls.crl_grace`
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", requires = "crl")]
    crl_grace: Duration,
    /// Verdict for a certificate whose issuer has no CRL, as `tls.crl_missing`
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = WithoutCrl::Refuse, requires = "crl")]
    crl_missing: WithoutCrl,
    /// Refuse a certificate without the extended key usage for client authentication
    #[arg(long)]
    require_client_auth_eku: bool,
    /// Time of the check: RFC 3339, or `@` and seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// The values of [`MissingCrl`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum WithoutCrl {
    /// The certificate is invalid
    Refuse,
    /// The certificate is valid
    Allow,
}

impl Cert {
    /// Runs the command.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
        let mut output = Output { out, err, colour: super::colour() };
        ExitCode::from(self.answer(&mut output).unwrap_or(SUCCESS))
    }

    fn answer(&self, output: &mut Output<'_>) -> io::Result<u8> {
        let now = self.at.unwrap_or_else(Timestamp::now);
        let chain = self.chain().map_err(|problem| vec![problem]);
        let inputs = chain.and_then(|chain| Ok((chain, self.trust(now)?)));
        let (chain, (trust, warnings)) = match inputs {
            Ok(inputs) => inputs,
            Err(problems) => return output.bad_input(&problems),
        };
        for warning in &warnings {
            writeln!(output.err, "{}", warning.human(output.colour))?;
        }
        let answer = CertificateReport::of(&chain, judge(&chain, &trust, now), now);
        match self.format {
            Format::Human => answer.human(output.out)?,
            Format::Json => writeln!(output.out, "{:#}", answer.json())?,
        }
        Ok(if answer.verdict.is_ok() { SUCCESS } else { NEGATIVE_ANSWER })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
        let name = self.file.display();
        let wrong = |what: String| Diagnostic::error(Code::BadCertificate, format!("`{name}` {what}"));
        let bytes = read_input(&self.file, LARGEST_CERTIFICATE);
        let bytes = bytes.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if pem::is_der(&bytes) {
            return Ok(vec![bytes.into()]);
        }
        pem::certificates(&bytes).map_err(|flaw| match flaw {
            pem::PemFlaw::WrongKind { found: pem::BlockKind::Crl | pem::BlockKind::Unknown, .. } => {
                wrong("has no certificate in it".to_owned()).help(
                    "a certificate is DER, or PEM between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----",
                )
            }
            flaw => wrong(format!("has no certificate in it that can be read: {flaw}")).help(flaw.remedy()),
        })
    }

    fn trust(&self, now: Timestamp) -> Result<(Trust, Vec<Diagnostic>), Vec<Diagnostic>> {
        let read = |paths: &[PathBuf], kind| -> Result<Vec<_>, Vec<Diagnostic>> {
            let files = paths.iter().map(|path| trust_files::read(path, kind, None));
            Ok(files.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        };
        let sources = TrustSources {
            authorities: read(&self.ca, TrustFileKind::Certificates)?,
            crls: (!self.crl.is_empty()).then(|| read(&self.crl, TrustFileKind::Crls)).transpose()?,
            usage: if self.require_client_auth_eku {
                EkuPolicy::ClientAuthRequired
            } else {
                EkuPolicy::ClientAuthIfPresent
            },
            crl_grace: self.crl_grace,
            crl_missing: match self.crl_missing {
                WithoutCrl::Refuse => MissingCrl::Refuse,
                WithoutCrl::Allow => MissingCrl::Allow,
            },
            pins: Vec::new(),
        };
        Trust::build(&sources, now)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    document::duration(text).ok_or_else(|| "a length of time such as 30m or 48h is expected".to_owned())
}

/// The verdict on a certificate, and the contents of the chain.
struct CertificateReport {
    verdict: Result<Authenticated, Flaw>,
    /// The names of the certificate, valid or not; `None` if the names cannot be used.
    identity: Option<Identity>,
    description: Option<Description>,
    intermediates: Vec<Option<Description>>,
    at: Timestamp,
}

impl CertificateReport {
    fn of(
        chain: &[CertificateDer<'_>],
        verdict: Result<Authenticated, Unauthenticated>,
        at: Timestamp,
    ) -> Self {
        let mut descriptions = chain.iter().map(|der| Description::of(der));
        Self {
            verdict: verdict.map_err(|because| match because {
                Unauthenticated::Invalid(flaw) => flaw,
                // The chain has at least one certificate, so this case does not occur.
                Unauthenticated::NoCertificate => Flaw::Unreadable,
            }),
            identity: chain.first().and_then(|leaf| Identity::from_certificate(leaf).ok()),
            description: descriptions.next().flatten(),
            intermediates: descriptions.collect(),
            at,
        }
    }

    /// Returns the keys and values of a policy's `match` for this certificate.
    fn match_keys(&self) -> Option<Vec<(Attribute, String)>> {
        self.identity.as_ref().map(match_keys)
    }

    /// Returns further details of a flaw for the operator. The proxy does not tell these to clients.
    fn hint(&self) -> Option<String> {
        match self.verdict.as_ref().err()? {
            Flaw::UnknownIssuer => {
                let last = self.intermediates.last().unwrap_or(&self.description).as_ref()?;
                Some(format!("the last certificate of the chain was issued by `{}`", printable(&last.issuer)))
            }
            Flaw::RevocationUnknown => {
                Some("an issuer in the chain has no CRL that covers what it issued; `--crl-missing allow` accepts it where it has none at all".to_owned())
            }
            Flaw::RevocationOutdated => {
                Some("the CRL of an issuer in the chain is past its nextUpdate; fetch the next one".to_owned())
            }
            _ => None,
        }
    }

    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.verdict {
            Ok(verdict) => writeln!(out, "valid until {}", verdict.valid_until)?,
            Err(flaw) => writeln!(out, "invalid: {flaw}")?,
        }
        if let Some(hint) = self.hint() {
            writeln!(out, "  {hint}")?;
        }
        writeln!(out)?;
        let mut line = |name: &str, value: &str| writeln!(out, "{name:<20} {}", printable(value));
        for (attribute, values) in self.values() {
            for value in values {
                line(attribute.name(), value)?;
            }
        }
        if let Some(description) = &self.description {
            line("valid from", &description.not_before.to_string())?;
            line("expires", &description.not_after.to_string())?;
            line("key", &description.key)?;
        }
        for intermediate in &self.intermediates {
            let what = match intermediate {
                Some(it) => format!("{}, expires {}", it.subject, it.not_after),
                None => "unreadable".to_owned(),
            };
            line("intermediate", &what)?;
        }
        match self.match_keys() {
            Some(match_keys) => line("match", &format!("{{ {} }}", match_text(&match_keys))),
            None => Ok(()),
        }
    }

    fn values(&self) -> impl Iterator<Item = (Attribute, Vec<&str>)> {
        let values = |attribute: Attribute| {
            let identity = self.identity.iter();
            (attribute, identity.flat_map(move |identity| identity.values(attribute)).collect::<Vec<_>>())
        };
        Attribute::ALL.into_iter().map(values).filter(|(_, values)| !values.is_empty())
    }

    fn json(&self) -> Value {
        let identity: Map<String, Value> =
            self.values().map(|(attribute, values)| (attribute.name().to_owned(), json!(values))).collect();
        let flaw = self.verdict.as_ref().err();
        let match_keys = self.match_keys().map(|keys| {
            keys.into_iter().map(|(key, value)| (key.name().to_owned(), json!(value))).collect::<Map<_, _>>()
        });
        let describe = |it: &Description| {
            json!({
                "subject": it.subject,
                "issuer": it.issuer,
                "not_before": it.not_before,
                "not_after": it.not_after,
                "key": it.key,
            })
        };
        json!({
            "verdict": if flaw.is_none() { "valid" } else { "invalid" },
            "reason": flaw.map(Flaw::name),
            "detail": flaw.map(ToString::to_string),
            "at": self.at,
            "valid_until": self.verdict.as_ref().ok().map(|verdict| verdict.valid_until),
            "identity": self.identity.as_ref().map(|_| identity),
            "match": match_keys,
            "certificate": self.description.as_ref().map(describe),
            "intermediates": self.intermediates.iter().map(|it| it.as_ref().map(describe)).collect::<Vec<_>>(),
        })
    }
}
