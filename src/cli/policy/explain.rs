//! `sidegate policy explain`.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::{
    Format, NEGATIVE_ANSWER, Output, SUCCESS, address, identity_of_certificate, instant, load, parse_identity,
};
use crate::client_headers;
use crate::diagnostic::{Code, Diagnostic, printable};
use crate::identity::Identity;
use crate::policy::explanation::explanation;
use crate::policy::test_run::trace_lines;
use crate::policy::trace::{Evaluation, file_and_line};
use crate::policy::{Denied, Granted, Model, Policy, Question, Upgrade};
use crate::target::{Target, is_host};

/// Show how a request is decided, and by which rules
///
/// Exits with 0 if the request is allowed and with 1 if it is denied.
#[derive(Debug, Args)]
pub struct Explain {
    /// Policy files or folders, then the method and the path of the request
    #[arg(required = true, value_name = "PATH> <METHOD> <TARGET")]
    words: Vec<String>,
    /// Client: a file with its certificate
    #[arg(long, value_name = "FILE", required_unless_present = "client", conflicts_with = "client")]
    cert: Option<PathBuf>,
    /// Client: values of its certificate, as `common_name=order-producer,organization=Shop`
    #[arg(long, value_name = "K=V,…")]
    client: Option<String>,
    /// Source address of the request
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// Time of the request [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
    /// Host of the request, as `shop.example` or `shop.example:8443`
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Header of the request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Protocol that the request asks to switch to
    #[arg(long, value_name = "PROTOCOL")]
    upgrade: Option<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl Explain {
    pub(super) fn run(self, output: &mut Output<'_>) -> io::Result<u8> {
        match self.request_to_explain() {
            Ok(request_to_explain) => request_to_explain.answer(self.format, output),
            Err(problems) => output.bad_input(&problems),
        }
    }

    fn request_to_explain(&self) -> Result<ExplainedRequest, Vec<Diagnostic>> {
        let (paths, target) = request(&self.words).map_err(|problem| vec![problem])?;
        let identity = match (&self.cert, &self.client) {
            (Some(file), _) => identity_of_certificate(file),
            (None, client) => parse_identity(client.as_deref().unwrap_or_default()),
        };
        let identity = identity.map_err(|problem| vec![problem])?;
        let mut headers = headers(&self.headers).map_err(|problem| vec![problem])?;
        // The proxy strips these headers before it decides, so the command does too.
        client_headers::strip(&mut headers, &[], client_headers::Sender::Client);
        let host = self.host.as_deref().map(host).transpose().map_err(|problem| vec![problem])?;
        let model = load(&paths)?;
        Ok(ExplainedRequest {
            policy: Policy::of(model.clone()),
            model,
            identity,
            target,
            host,
            headers,
            source: address(self.source),
            now: self.at.unwrap_or_else(Timestamp::now),
            upgrade: self.upgrade.clone(),
        })
    }
}

/// Parses the paths of policies and the request after them.
pub(super) fn request(words: &[String]) -> Result<(Vec<PathBuf>, Target), Diagnostic> {
    let [paths @ .., method, target] = words else {
        return Err(Diagnostic::error(Code::BadRequest, "a policy, a method and a path are needed"));
    };
    let request = format!("{method} {target}");
    let target = request.parse().map_err(|flaw| {
        Diagnostic::error(Code::BadRequest, format!("`{request}` is never judged: {flaw}"))
            .help("write policies, then a method and a path, as in `policies/ GET /events/17`")
    })?;
    Ok((paths.iter().map(PathBuf::from).collect(), target))
}

fn host(text: &str) -> Result<String, Diagnostic> {
    match is_host(text) {
        true => Ok(text.to_owned()),
        false => Err(Diagnostic::error(Code::BadHost, format!("`{text}` is not the host of a request"))
            .help("write it as clients send it, such as `shop.example` or `shop.example:8443`")),
    }
}

fn headers(written: &[String]) -> Result<HeaderMap, Diagnostic> {
    let mut headers = HeaderMap::new();
    for header in written {
        let parts = header.split_once(':').and_then(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.trim().as_bytes()).ok()?,
                HeaderValue::from_str(value.trim()).ok()?,
            ))
        });
        let Some((name, value)) = parts else {
            return Err(Diagnostic::error(Code::BadHeader, format!("`{header}` is not a header"))
                .help("write `Name: value`"));
        };
        if name == http::header::HOST {
            return Err(Diagnostic::error(
                Code::BadHeader,
                format!("`{header}` names the host of the request"),
            )
            .help("write it as `--host HOST`"));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

struct ExplainedRequest {
    model: Model,
    policy: Policy,
    identity: Identity,
    target: Target,
    host: Option<String>,
    headers: HeaderMap,
    source: IpAddr,
    now: Timestamp,
    upgrade: Option<String>,
}

impl ExplainedRequest {
    fn answer(&self, format: Format, output: &mut Output<'_>) -> io::Result<u8> {
        let question = Question {
            target: &self.target,
            host: self.host.as_deref().into(),
            headers: Some(&self.headers),
            source: self.source,
            now: self.now,
            upgrade: self.upgrade.as_deref().map(Upgrade::from_name),
        };
        let verdict = self.policy.authorize(&self.policy.rights(&self.identity), &question);
        let evaluation = Evaluation { model: &self.model, identity: &self.identity, question: &question };
        match format {
            Format::Human => human(&verdict, evaluation, output)?,
            Format::Json => writeln!(output.out, "{:#}", explanation(&verdict, evaluation))?,
        }
        Ok(if verdict.is_ok() { SUCCESS } else { NEGATIVE_ANSWER })
    }
}

fn human(
    verdict: &Result<Granted, Denied>,
    evaluation: Evaluation<'_, '_>,
    output: &mut Output<'_>,
) -> io::Result<()> {
    let out = &mut output.out;
    match verdict {
        Ok(permit) => {
            let rule = permit.rule();
            writeln!(out, "allowed by `{}` ({}:{})", rule.name, printable(&rule.file), rule.line)?;
            if evaluation.question.upgrade.is_some() {
                let also = if permit.allows_upgrade() {
                    "and so is the switch of protocol"
                } else {
                    "but not the switch of protocol"
                };
                writeln!(out, "  {also}")?;
            }
            if !permit.timeouts().is_empty() {
                writeln!(out, "  time limits of its routes: {}", permit.timeouts())?;
            }
        }
        Err(denied) => match denied.rule() {
            Some(rule) => {
                writeln!(out, "denied by `{}` ({}:{})", rule.name, printable(&rule.file), rule.line)?
            }
            None => writeln!(out, "denied: no grant allows it")?,
        },
    }
    let clients: Vec<String> = evaluation
        .clients()
        .map(|client| format!("`{}` ({})", client.entry.name.text, file_and_line(&client.entry.name.place)))
        .collect();
    match clients.is_empty() {
        true => writeln!(out, "  no client entry matches the client")?,
        false => writeln!(out, "  the client matches {}", printable(&clients.join(", ")))?,
    }
    for fact in trace_lines(evaluation) {
        // The values of a certificate are text from outside, so control characters are escaped.
        writeln!(out, "  {}", printable(&fact))?;
    }
    Ok(())
}
