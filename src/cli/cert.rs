//! `sidegate cert`: what a certificate says, and what the proxy would make of it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use super::{FINE, Format, LARGEST_CERTIFICATE, NEGATIVE, Output, input, instant};
use crate::diagnostic::{Code, Diagnostic, printable};
use crate::document;
use crate::identity::{
    Attribute, Authenticated, Description, EkuPolicy, Flaw, Identity, MissingCrl, Trust, TrustSources,
    Unauthenticated, judge,
};
use crate::pem;
use crate::policy::suggest::{match_keys, match_text};
use crate::reload::trust_files::{self, TrustFileKind};

/// Say what a certificate says, and whether the proxy would accept it
///
/// Prints its names, dates and fingerprints, how a policy would write a `match` for it, and the verdict with its reason.
/// The verdict is the proxy's own: give it the same CAs, CRLs and settings. Exits with 0 if the certificate is valid, with 1
/// if it is not, and with 2 if something cannot be read.
#[derive(Debug, Args)]
pub(super) struct Cert {
    /// The certificate and the intermediates that the client would present (PEM, leaf first; or one in DER); `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Client CAs: a PEM file or a folder of them, as `tls.client_ca`; may be repeated
    #[arg(long, value_name = "PATH", required = true)]
    ca: Vec<PathBuf>,
    /// CRLs: a file or a folder of them, as `tls.crl`; may be repeated
    #[arg(long, value_name = "PATH")]
    crl: Vec<PathBuf>,
    /// How long a CRL is believed after its nextUpdate, as `tls.crl_grace`
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s", requires = "crl")]
    crl_grace: Duration,
    /// What becomes of a certificate with an issuer that has no CRL, as `tls.crl_missing`
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = WithoutCrl::Refuse, requires = "crl")]
    crl_missing: WithoutCrl,
    /// Refuse a certificate that does not say outright that it is for client authentication
    #[arg(long)]
    require_client_auth_eku: bool,
    /// When it would be presented: RFC 3339, or `@` and seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// [`MissingCrl`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum WithoutCrl {
    /// It is refused
    Refuse,
    /// It is accepted
    Allow,
}

impl Cert {
    /// Does what was asked.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
        let mut output = Output { out, err, colour: super::colour() };
        ExitCode::from(self.answer(&mut output).unwrap_or(FINE))
    }

    fn answer(&self, output: &mut Output<'_>) -> io::Result<u8> {
        let now = self.at.unwrap_or_else(Timestamp::now);
        let chain = self.chain().map_err(|problem| vec![problem]);
        let asked = chain.and_then(|chain| Ok((chain, self.trust(now)?)));
        let (chain, (trust, warnings)) = match asked {
            Ok(asked) => asked,
            Err(problems) => return output.bad_input(&problems),
        };
        for warning in &warnings {
            writeln!(output.err, "{}", warning.human(output.colour))?;
        }
        let answer = Answer::of(&chain, judge(&chain, &trust, now), now);
        match self.format {
            Format::Human => answer.human(output.out)?,
            Format::Json => writeln!(output.out, "{:#}", answer.json())?,
        }
        Ok(if answer.verdict.is_ok() { FINE } else { NEGATIVE })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
        let name = self.file.display();
        let wrong = |what: String| Diagnostic::error(Code::BadCertificate, format!("`{name}` {what}"));
        let bytes = input(&self.file, LARGEST_CERTIFICATE);
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

/// What is known of the certificate.
struct Answer {
    verdict: Result<Authenticated, Flaw>,
    /// What it says, whether or not it is valid; nothing where its names cannot be used.
    identity: Option<Identity>,
    description: Option<Description>,
    intermediates: Vec<Option<Description>>,
    at: Timestamp,
}

impl Answer {
    fn of(
        chain: &[CertificateDer<'_>],
        verdict: Result<Authenticated, Unauthenticated>,
        at: Timestamp,
    ) -> Self {
        let mut descriptions = chain.iter().map(|der| Description::of(der));
        Self {
            verdict: verdict.map_err(|because| match because {
                Unauthenticated::Invalid(flaw) => flaw,
                // There is at least one.
                Unauthenticated::NoCertificate => Flaw::Unreadable,
            }),
            identity: chain.first().and_then(|leaf| Identity::from_certificate(leaf).ok()),
            description: descriptions.next().flatten(),
            intermediates: descriptions.collect(),
            at,
        }
    }

    /// As an entry of a policy would ask for it.
    fn rule(&self) -> Option<Vec<(Attribute, String)>> {
        self.identity.as_ref().map(match_keys)
    }

    /// What the client need not know, and the operator wants to.
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
        match self.rule() {
            Some(rule) => line("match", &format!("{{ {} }}", match_text(&rule))),
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
        let rule = self.rule().map(|keys| {
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
            "match": rule,
            "certificate": self.description.as_ref().map(describe),
            "intermediates": self.intermediates.iter().map(|it| it.as_ref().map(describe)).collect::<Vec<_>>(),
        })
    }
}
