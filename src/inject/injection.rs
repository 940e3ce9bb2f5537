//! The injection of one workload: all changes, in their order.

use super::edit::Editor;
use super::manifest::{Object, Workload, text};
use super::port::{self, Backend};
use super::shape::is_flow;
use super::value::{Value, fields, list, map};
use super::{Options, Problems, TEMPLATES, USUAL_END, Variable, probes, services, sidecar};
use crate::diagnostic::Code;
use crate::document::{Kind, Node};

/// A workload that gets its sidecar.
pub(super) struct Injection<'i, 'n, 's> {
    pub(super) workload: &'i Workload<'n, 's>,
    pub(super) objects: &'i [Object<'n, 's>],
    pub(super) options: &'i Options,
}

impl<'n> Injection<'_, 'n, '_> {
    pub(super) fn make(&self, editor: &mut Editor<'_>, problems: &mut Problems<'_>) {
        if self.is_there(problems) || !self.is_possible(problems) {
            return;
        }
        let Some(backend) = Backend::find(self.workload, self.options, problems) else { return };
        port::is_free(self.workload, self.options, problems);
        probes::speak_http(&backend, self.options, problems);
        let place = self.place(&backend, problems);
        // Inner nodes are changed first, because texts added at one place keep their order.
        self.change_backend(&backend, editor, problems);
        self.add_sidecar(&place, editor);
        self.lengthen_end(editor, problems);
        services::rewire(self.objects, self.workload, &backend, self.options, editor, problems);
        self.close_the_way_around(&backend, editor, problems);
        self.warn_of_scraping(&backend, problems);
    }

    /// `true` if the sidecar is there already, by this program or by the Kustomize component. A container of that name that
    /// is neither is an error.
    fn is_there(&self, problems: &mut Problems<'_>) -> bool {
        let is_ours = |container: &&Node<'_>| text(container, &["name"]) == sidecar::NAME;
        let native = self.workload.init_containers().iter().find(is_ours);
        if native.is_some_and(|container| text(container, &["restartPolicy"]) == "Always") {
            return true;
        }
        if let Some(container) = native.or_else(|| self.workload.containers().iter().find(is_ours)) {
            let message = format!(
                "`{}` has a container `{}` that was put in by hand",
                self.workload.object,
                sidecar::NAME
            );
            problems.error(
                Code::ByHand,
                container,
                message,
                "take it out with its volumes, and inject again",
            );
            return true;
        }
        false
    }

    fn is_possible(&self, problems: &mut Problems<'_>) -> bool {
        let Workload { object, pod, .. } = self.workload;
        if object.name.is_empty() {
            let of_templates =
                if problems.source.text().contains("{{") { TEMPLATES } else { "give it a `metadata.name`" };
            problems.error(Code::NoName, object.node, "this has no name".to_owned(), of_templates);
            return false;
        }
        if let Some((_, host)) = pod.entry("hostNetwork").filter(|(_, value)| value.text() == Some("true")) {
            let message = format!(
                "`{object}` uses the host's network: its loopback is the node's, and open to all of its pods"
            );
            problems.error(
                Code::HostNetwork,
                host,
                message,
                "run Sidegate on the node itself, or give the pod a network of its own",
            );
            return false;
        }
        if text(pod, &["nodeSelector", "kubernetes.io/os"]) == "windows"
            || text(pod, &["os", "name"]) == "windows"
        {
            problems.error(
                Code::Windows,
                pod,
                format!("`{object}` runs on Windows"),
                "there is no such image of Sidegate",
            );
            return false;
        }
        problems.is_written_out(object)
    }

    /// The part of the sidecar that depends on this workload.
    fn place(&self, backend: &Backend<'_, '_>, problems: &mut Problems<'_>) -> sidecar::Place {
        let number = backend.number;
        let url = self.options.backend_url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{number}"));
        let is_hidden = self.options.hides_backend();
        let asked = if is_hidden { probes::health_path(backend, self.options, problems) } else { None };
        let mut port = fields(sidecar::port(backend.name.unwrap_or("sidegate"), self.options.listen_port));
        // A port of the node leads to the sidecar as well.
        if let Some(Kind::Map(entries)) = backend.port().map(Node::kind) {
            let kept = entries.iter().filter_map(|(key, value)| Some((key.text()?, value.text()?)));
            port.extend(kept.filter(|(key, _)| matches!(*key, "hostPort" | "hostIP")).map(|(key, value)| {
                (key.to_owned(), value.parse::<u64>().map_or_else(|_| value.into(), Value::Number))
            }));
        }
        sidecar::Place {
            port,
            backend_url: Some(url),
            needs_backend: is_hidden && probes::are_there(backend),
            health_path: asked.or_else(|| self.options.health_path.clone()),
        }
    }

    fn change_backend(
        &self,
        backend: &Backend<'_, '_>,
        editor: &mut Editor<'_>,
        problems: &mut Problems<'_>,
    ) {
        match self.options.hides_backend() {
            false => probes::keep(backend, editor),
            true => probes::ask_the_sidecar(backend, self.options, editor),
        }
        if let Some(variable) = &self.options.bind {
            set_variable(backend.container, variable, editor);
        }
        if let (Some(index), Some(ports)) = (backend.declared, backend.container.find(&["ports"])) {
            match ports.items().len() {
                1 => editor.remove_entry(backend.container, "ports"),
                _ => editor.remove_item(ports, index),
            }
        }
        match probes::pre_stop(backend) {
            _ if self.options.drain == 0 => {}
            None => probes::add_pre_stop(backend, sidecar::backend_pre_stop(self.options), editor),
            Some(hook) => {
                let message =
                    format!("`{}` has a preStop hook of its own, which stays", backend.container_name());
                let help = format!(
                    "let it take {} s, so that open requests can end before the backend does",
                    self.options.drain
                );
                problems.warning(Code::PreStop, hook, message, &help);
            }
        }
    }

    fn add_sidecar(&self, place: &sidecar::Place, editor: &mut Editor<'_>) {
        let pod = self.workload.pod;
        let container = sidecar::container(self.options, place);
        let volumes: Vec<_> = sidecar::volumes(self.options).into_iter().map(|(_, volume)| volume).collect();
        add_to_list(pod, "initContainers", vec![container], editor);
        add_to_list(pod, "volumes", volumes, editor);
    }

    /// The end of a pod takes as long as before, after open requests have drained.
    fn lengthen_end(&self, editor: &mut Editor<'_>, problems: &mut Problems<'_>) {
        const KEY: &str = "terminationGracePeriodSeconds";
        if self.options.drain == 0 {
            return;
        }
        let said = self.workload.pod.find(&[KEY]).filter(|said| !matches!(said.kind(), Kind::Null));
        let own = said.map_or(Some(USUAL_END), |said| said.text()?.parse().ok());
        match (own, said) {
            (None, Some(said)) => {
                problems.error(Code::BadNumber, said, "a number of seconds is expected", "")
            }
            (own, _) => {
                let seconds = own.unwrap_or(USUAL_END).saturating_add(self.options.drain);
                editor.set(self.workload.pod, KEY, &seconds.into());
            }
        }
    }

    /// Reports the way around the sidecar: a client that reaches the backend at the pod's address needs no certificate. There
    /// is none if the backend listens on loopback alone, or if a NetworkPolicy closes the port.
    fn close_the_way_around(
        &self,
        backend: &Backend<'_, '_>,
        editor: &mut Editor<'_>,
        problems: &mut Problems<'_>,
    ) {
        let existing = services::existing_policies(self.objects, self.workload);
        for policy in &existing {
            services::rewire_policy(policy, backend, self.options, editor, problems);
        }
        let wanted = self.options.network_policy && existing.is_empty() && !self.options.hides_backend();
        let policy = wanted.then(|| services::network_policy(self.workload, backend, self.options)).flatten();
        // A JSON object is followed by nothing.
        let is_alone =
            self.workload.object.list.is_none() && is_flow(problems.source, self.workload.object.node);
        match (policy, self.workload.object.list) {
            (Some(policy), Some(list)) => editor.append_item(list, &policy),
            (Some(policy), None) if !is_alone => editor.append_document(&policy),
            _ if self.options.hides_backend() || !existing.is_empty() => return,
            _ => {
                let message = format!(
                    "`{}` can be reached around the sidecar, at port {} of its pods",
                    self.workload.object, backend.number
                );
                let help = "let the backend listen on loopback alone, with --bind if a variable does it, or add a NetworkPolicy that lets in the sidecar's ports alone";
                return problems.warning(Code::Around, backend.container, message, help);
            }
        }
        let message = format!(
            "only the NetworkPolicy `{}-sidegate` keeps others from port {} of the pods",
            self.workload.object.name, backend.number
        );
        let help = "use a network plugin that enforces such policies; if the backend can listen on loopback, let it: --bind sets a variable that does it";
        problems.warning(Code::Around, backend.container, message, help);
    }

    /// Reports annotations for Prometheus, which has no client certificate.
    fn warn_of_scraping(&self, backend: &Backend<'_, 'n>, problems: &mut Problems<'_>) {
        let annotations = self.workload.metadata.and_then(|metadata| metadata.find(&["annotations"]));
        let port = annotations.and_then(|annotations| annotations.find(&["prometheus.io/port"]));
        if let Some(port) = port.filter(|port| port.text().is_some_and(|port| backend.is_meant(port))) {
            let message =
                "Prometheus is told to scrape the backend's port, which is closed to it now".to_owned();
            let help = format!(
                "scrape the sidecar's metrics at port {}, or the backend's through the sidecar, by TLS with a client certificate",
                self.options.admin_port
            );
            problems.warning(Code::Scraping, port, message, &help);
        }
    }
}

/// Adds to a list of the pod. A list that is missing is added before the containers, or at the end.
fn add_to_list(pod: &Node<'_>, key: &str, items: Vec<Value>, editor: &mut Editor<'_>) {
    match pod.find(&[key]) {
        Some(list) if !list.items().is_empty() => {
            for item in &items {
                editor.append_item(list, item);
            }
        }
        Some(_) => editor.replace_entry(pod, key, key, &Value::List(items)),
        None if key == "volumes" => editor.append_entry(pod, key, &Value::List(items)),
        None => editor.insert_before(pod, "containers", key, &Value::List(items)),
    }
}

/// Sets a variable of a container.
fn set_variable(container: &Node<'_>, variable: &Variable, editor: &mut Editor<'_>) {
    let Variable { name, value } = variable;
    let value = Value::Text(value.clone());
    let env = container.find(&["env"]);
    let items = env.map(Node::items).unwrap_or_default();
    match (items.iter().find(|item| text(item, &["name"]) == name), env) {
        (Some(item), _) if item.entry("valueFrom").is_some() => {
            editor.replace_entry(item, "valueFrom", "value", &value)
        }
        (Some(item), _) => editor.set(item, "value", &value),
        (None, Some(env)) if !items.is_empty() => {
            editor.append_item(env, &map([("name", name.as_str().into()), ("value", value)]));
        }
        (None, _) => {
            editor.set(container, "env", &list([map([("name", name.as_str().into()), ("value", value)])]))
        }
    }
}
