//! Injection: the sidecar is put in front of a workload's backend in Kubernetes manifests. Everything else stays byte for
//! byte as its author wrote it.
//!
//! A change that cannot be made is refused with its reason, and then nothing is changed at all.

mod options;
mod injection;
mod manifest;
mod port;
mod probes;
mod services;
mod sidecar;
mod edit;
mod shape;
mod value;

use std::sync::Arc;

use self::edit::Editor;
use self::injection::Injection;
use self::manifest::{Object, Workload, objects};
use self::shape::is_written_out;
use self::value::{fields, list, map};
use crate::diagnostic::{Code, Diagnostic, Place, Source};
use crate::document::{self, Budget, Node};

pub use self::options::{Asked, Bundle, Options, Variable};

/// Seconds that Kubernetes gives a pod to end, if the manifest says nothing else.
const USUAL_END: u64 = 30;

/// The result of an injection.
#[derive(Debug)]
pub struct Injected {
    /// The whole stream.
    pub text: String,
    /// Notices for the author of the manifests.
    pub warnings: Vec<Diagnostic>,
}

/// Puts the sidecar into the workloads of a stream of manifests. A workload that has the sidecar stays as it is.
///
/// # Errors
/// Every obstacle, with its place.
pub fn inject(source: &Arc<Source>, options: &Options) -> Result<Injected, Vec<Diagnostic>> {
    let roots =
        document::parse_all(source, Budget::MANIFESTS).map_err(|error| vec![of_templates(source, error)])?;
    let objects = objects(&roots);
    let mut problems = Problems { source, found: Vec::new() };
    let mut editor = Editor::new(source);
    for workload in chosen(&objects, options, &mut problems) {
        let injection = Injection { workload: &workload, objects: &objects, options };
        injection.make(&mut editor, &mut problems);
    }
    let (errors, warnings): (Vec<_>, Vec<_>) = problems.found.into_iter().partition(Diagnostic::is_error);
    if !errors.is_empty() {
        return Err(errors);
    }
    let text = editor.finish()?;
    // The result is checked, because a broken manifest must not be written, however the source is written.
    document::parse_all(&Source::new("the result", text.as_str()), Budget::MANIFESTS)
        .map_err(|problem| vec![problem])?;
    Ok(Injected { text, warnings })
}

/// Returns the strategic merge patch of the Kustomize component: the same sidecar for any Deployment, whose `sidegate.yaml`
/// names the backend.
#[must_use]
pub fn component() -> String {
    let options = &Options::default();
    let place =
        sidecar::Place { port: fields(sidecar::port("sidegate", options.listen_port)), ..Default::default() };
    let volumes = sidecar::volumes(options).into_iter().map(|(_, volume)| volume);
    let pod = map([
        ("initContainers", list([sidecar::container(options, &place)])),
        ("volumes", list(volumes)),
        ("terminationGracePeriodSeconds", (USUAL_END + options.drain).into()),
    ]);
    let patch = map([
        ("apiVersion", "apps/v1".into()),
        ("kind", "Deployment".into()),
        ("metadata", map([("name", "any".into())])),
        ("spec", map([("template", map([("spec", pod)]))])),
    ]);
    patch.lines().into_iter().map(|line| line + "\n").collect()
}

const TEMPLATES: &str = "templates must be rendered first: `helm template CHART | sidegate inject -`";

/// Reports Helm's braces, which are not YAML.
fn of_templates(source: &Arc<Source>, error: Diagnostic) -> Diagnostic {
    match source.text().contains("{{") {
        true => error.help(TEMPLATES),
        false => error,
    }
}

/// The workloads that the options name, or the only one.
fn chosen<'n, 's>(
    objects: &[Object<'n, 's>],
    options: &Options,
    problems: &mut Problems<'_>,
) -> Vec<Workload<'n, 's>> {
    let mut all: Vec<_> = objects.iter().filter_map(|object| Workload::of(*object)).collect();
    let names = all.iter().map(|workload| format!("`{}`", workload.object)).collect::<Vec<_>>().join(", ");
    let names = if all.is_empty() { "none".to_owned() } else { names };
    for wanted in &options.workloads {
        if !all.iter().any(|workload| workload.is_named(wanted)) {
            problems.in_general(
                Code::NoWorkload,
                format!("there is no workload `{wanted}`"),
                &format!("there is {names}"),
            );
        }
    }
    if !options.workloads.is_empty() {
        all.retain(|workload| options.workloads.iter().any(|wanted| workload.is_named(wanted)));
    } else if all.is_empty() {
        let message = "there is nothing here that makes pods".to_owned();
        let help = "a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob or Pod is expected";
        problems.in_general(Code::NoWorkload, message, help);
    } else if all.len() > 1 {
        let help = format!("say which, as often as needed: --workload KIND/NAME; there is {names}");
        problems.in_general(Code::SeveralWorkloads, "there are several workloads here".to_owned(), &help);
        all.clear();
    }
    all
}

/// Errors and notices, with their places in the stream.
struct Problems<'d> {
    source: &'d Arc<Source>,
    found: Vec<Diagnostic>,
}

impl Problems<'_> {
    fn error(&mut self, code: Code, node: &Node<'_>, message: impl Into<String>, help: &str) {
        let problem = Diagnostic::error(code, message).at(self.place(node));
        self.found.push(if help.is_empty() { problem } else { problem.help(help) });
    }

    fn warning(&mut self, code: Code, node: &Node<'_>, message: String, help: &str) {
        self.found.push(Diagnostic::warning(code, message).at(self.place(node)).help(help));
    }

    /// Reports an error about the stream as a whole.
    fn in_general(&mut self, code: Code, message: String, help: &str) {
        let nowhere = Source::new(self.source.name(), "");
        let problem = Diagnostic::error(code, message).at(Place::new(&nowhere, Default::default()));
        self.found.push(problem.help(help));
    }

    /// `true` if an object can be edited: with aliases, a change in one place would change other places as well.
    fn is_written_out(&mut self, object: &Object<'_, '_>) -> bool {
        let is_written_out = is_written_out(object.node);
        if !is_written_out {
            let message = format!(
                "`{object}` uses YAML aliases or merges, and an edit of one place would change others"
            );
            let help = "write it out, with `kubectl create --dry-run=client -o yaml -f FILE` for example";
            self.error(Code::Aliases, object.node, message, help);
        }
        is_written_out
    }

    fn place(&self, node: &Node<'_>) -> Place {
        Place::new(self.source, node.span())
    }
}
