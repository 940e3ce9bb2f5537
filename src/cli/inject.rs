//! `sidegate inject`: Kubernetes manifests with the sidecar in them.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, value_parser};

use super::{Output, SUCCESS, read_input};
use crate::diagnostic::{Code, Diagnostic, Source};
use crate::document::{Budget, duration};
use crate::inject::{self, Asked, Bundle, Options, Variable};
use crate::secret;

/// Put the sidecar in front of a Kubernetes workload's backend
///
/// Reads manifests (a stream of YAML documents, a `List`, or JSON) and writes them with the sidecar in front of one container
/// of a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob or Pod. The backend's port, by name and number, is the
/// sidecar's from then on, for the Services and NetworkPolicies of the stream as well. Everything else stays as it is
/// written, comments included. A workload that has its sidecar already is left as it is. Exits with 2, and writes nothing, if
/// something cannot be done.
///
/// The pod expects: a ConfigMap with `sidegate.yaml`, one with the policy, a Secret with `tls.crt` and `tls.key`, and one
/// with the client CAs (`*.crt` or `*.pem`).
#[derive(Debug, Args)]
pub(super) struct Inject {
    /// The manifests; `-` reads them from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The workload, where there are several in the stream; may be repeated
    #[arg(long = "workload", value_name = "[KIND/]NAME")]
    workloads: Vec<String>,
    /// The container that is the backend [default: the only one that has the port]
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// The backend's port, by number or name [default: the only one that is declared]
    #[arg(long, value_name = "PORT", value_parser = asked)]
    port: Option<Asked>,
    /// The backend's address, as `backend.url` [default: http://127.0.0.1:PORT]
    #[arg(long, value_name = "URL")]
    backend_url: Option<String>,
    /// A variable of the backend that makes it listen on loopback alone, such as HOST=127.0.0.1; its probes then ask the
    /// sidecar
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    bind: Option<Variable>,
    /// The backend listens on loopback alone already; its probes then ask the sidecar
    #[arg(long)]
    loopback: bool,
    /// The path of the sidecar's health check of the backend [default with --bind or --loopback: the path of its probes]
    #[arg(long, value_name = "PATH")]
    health_path: Option<String>,
    /// The sidecar's image
    #[arg(long, value_name = "IMAGE", default_value_t = Options::default().image)]
    image: String,
    /// The sidecar's port for clients
    #[arg(long, value_name = "PORT", default_value_t = Options::default().listen_port, value_parser = value_parser!(u16).range(1..))]
    listen_port: u16,
    /// The port of its admin listener, for the kubelet's probes and for metrics
    #[arg(long, value_name = "PORT", default_value_t = Options::default().admin_port, value_parser = value_parser!(u16).range(1..))]
    admin_port: u16,
    /// The ConfigMap with `sidegate.yaml`
    #[arg(long, value_name = "NAME", default_value_t = Options::default().config)]
    config_map: String,
    /// The ConfigMap with the policy
    #[arg(long, value_name = "NAME", default_value_t = Options::default().policies)]
    policies: String,
    /// The Secret with the server's certificate and key
    #[arg(long, value_name = "NAME", default_value_t = Options::default().tls)]
    tls_secret: String,
    /// The Secret with the client CAs
    #[arg(long, value_name = "NAME", default_value = "sidegate-client-ca")]
    client_ca_secret: String,
    /// The ConfigMap with the client CAs, in place of a Secret
    #[arg(long, value_name = "NAME", conflicts_with = "client_ca_secret")]
    client_ca_config_map: Option<String>,
    /// Time for open requests to finish when a pod ends; the backend is asked to stop only then. 0s: no time
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = seconds)]
    drain: u64,
    /// Add no NetworkPolicy; without --bind and --loopback, one is added that keeps others from the backend's port
    #[arg(long)]
    no_network_policy: bool,
    /// The CPU that the sidecar asks for
    #[arg(long, value_name = "QUANTITY", default_value_t = Options::default().cpu)]
    cpu: String,
    /// The memory that it asks for, and may take; see "Memory" in deploy/README.md
    #[arg(long, value_name = "QUANTITY", default_value_t = Options::default().memory)]
    memory: String,
}

impl Inject {
    /// Does what was asked.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
        let mut output = Output { out, err, colour: super::colour() };
        ExitCode::from(self.write(&mut output).unwrap_or(SUCCESS))
    }

    fn write(self, output: &mut Output<'_>) -> io::Result<u8> {
        let source = match self.read() {
            Ok(source) => source,
            Err(problem) => return output.bad_input(&[problem]),
        };
        match inject::inject(&source, &self.options()) {
            Ok(injected) => {
                output.out.write_all(injected.text.as_bytes())?;
                for warning in &injected.warnings {
                    writeln!(output.err, "{}", warning.human(output.colour))?;
                }
                Ok(SUCCESS)
            }
            Err(problems) => output.bad_input(&problems),
        }
    }

    fn read(&self) -> Result<std::sync::Arc<Source>, Diagnostic> {
        let is_standard_input = self.file.as_os_str() == "-";
        let name = if is_standard_input { "standard input".into() } else { self.file.display().to_string() };
        let problem = |error: String| {
            Diagnostic::error(Code::File, format!("cannot read `{name}`: {error}"))
                .help("give a file of manifests, or `-` for standard input")
        };
        let bytes = read_input(&self.file, Budget::MANIFESTS.bytes as u64);
        let bytes = bytes.map_err(|error| problem(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| problem(error.to_string()))?;
        let source = Source::new(name, text);
        secret::refuse_secret_manifest(&source)?;
        Ok(source)
    }

    fn options(self) -> Options {
        Options {
            workloads: self.workloads,
            container: self.container,
            port: self.port,
            image: self.image,
            listen_port: self.listen_port,
            admin_port: self.admin_port,
            config: self.config_map,
            policies: self.policies,
            tls: self.tls_secret,
            client_ca: match self.client_ca_config_map {
                Some(name) => Bundle::ConfigMap(name),
                None => Bundle::Secret(self.client_ca_secret),
            },
            backend_url: self.backend_url,
            bind: self.bind,
            loopback: self.loopback,
            health_path: self.health_path,
            drain: self.drain,
            network_policy: !self.no_network_policy,
            cpu: self.cpu,
            memory: self.memory,
        }
    }
}

/// A port: a number, or a name.
fn asked(text: &str) -> Result<Asked, String> {
    match text.parse::<u16>() {
        Ok(0) => Err("a port is a number from 1 to 65535, or a name".to_owned()),
        Ok(number) => Ok(Asked::Number(number)),
        Err(_) if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("a port is a number from 1 to 65535, or a name".to_owned())
        }
        Err(_) => Ok(Asked::Name(text.to_owned())),
    }
}

/// A variable and its value.
fn variable(text: &str) -> Result<Variable, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok(Variable { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err("a variable such as HOST=127.0.0.1 is expected".to_owned()),
    }
}

/// Whole seconds, as Kubernetes counts.
fn seconds(text: &str) -> Result<u64, String> {
    let length = duration(text).filter(|length| length.subsec_nanos() == 0 && length.as_secs() <= 3_600);
    length
        .map(|length| length.as_secs())
        .ok_or_else(|| "whole seconds such as 25s, at most 1h, are expected".to_owned())
}
