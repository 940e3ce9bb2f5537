//! The kubelet's probes of the backend. The kubelet has no client certificate, so no probe can go through the sidecar's own
//! port.
//!
//! A backend that still listens on the pod's address is probed as before, past the sidecar. A backend that listens on
//! loopback alone cannot be probed: there the sidecar checks the path of the probe, and the probes ask the sidecar for the
//! result.

use super::edit::Editor;
use super::manifest::text;
use super::port::Backend;
use super::value::{Value, map};
use super::{Options, Problems};
use crate::diagnostic::Code;
use crate::document::Node;

const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];
/// Handlers that use the network.
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// A probe of the backend's port, by its handler.
#[derive(Debug)]
struct Probe<'n, 's> {
    probe: &'n Node<'s>,
    handler: &'static str,
    /// The content of the handler.
    asks: &'n Node<'s>,
    /// The handler's `port`.
    port: &'n Node<'s>,
}

fn probes<'n, 's>(backend: &Backend<'n, 's>) -> Vec<Probe<'n, 's>> {
    let found = PROBES.iter().filter_map(|name| backend.container.find(&[name]));
    let handlers = found.flat_map(|probe| HANDLERS.iter().filter_map(move |handler| of(probe, handler)));
    handlers.filter(|probe| probe.port.text().is_some_and(|port| backend.is_meant(port))).collect()
}

fn of<'n, 's>(probe: &'n Node<'s>, handler: &'static str) -> Option<Probe<'n, 's>> {
    let asks = probe.find(&[handler])?;
    Some(Probe { probe, handler, asks, port: asks.find(&["port"])? })
}

/// Refuses a backend whose probes use another protocol than the sidecar would.
pub(super) fn speak_http(backend: &Backend<'_, '_>, options: &Options, problems: &mut Problems<'_>) {
    let by_tls =
        probes(backend).into_iter().find(|probe| text(probe.asks, &["scheme"]).eq_ignore_ascii_case("https"));
    if let (Some(probe), None) = (by_tls, &options.backend_url) {
        let message = format!("a probe says that port {} speaks HTTPS", backend.number);
        let help = format!(
            "say so with --backend-url https://localhost:{}, and whom to trust with `backend.tls.ca` in sidegate.yaml",
            backend.number
        );
        problems.error(Code::BackendSpeaksTls, probe.asks, message, &help);
    }
}

/// Keeps the probes, by the port's number: the sidecar has the port's name now.
pub(super) fn keep(backend: &Backend<'_, '_>, editor: &mut Editor<'_>) {
    let hooks =
        ["preStop", "postStart"].into_iter().filter_map(|hook| backend.container.find(&["lifecycle", hook]));
    let hooks = hooks.flat_map(|hook| HANDLERS.iter().filter_map(move |handler| of(hook, handler)));
    for Probe { port, .. } in probes(backend).into_iter().chain(hooks) {
        if port.text() == backend.name {
            editor.replace_scalar(port, &backend.number.into());
        }
    }
}

/// The path of the sidecar's health check of a backend on loopback; the inner value is `None` without a probe.
pub(super) fn health_path(
    backend: &Backend<'_, '_>,
    options: &Options,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let probes = probes(backend);
    let asked = |probe: &Probe<'_, '_>| match (probe.handler, text(probe.asks, &["path"])) {
        ("httpGet", "") => Some("/".to_owned()),
        ("httpGet", path) => Some(path.to_owned()),
        _ => None,
    };
    let mut paths: Vec<String> = probes.iter().filter_map(asked).collect();
    paths.sort();
    paths.dedup();
    match (&options.health_path, paths.as_slice(), probes.first()) {
        (Some(path), ..) => Some(path.clone()),
        (None, [path], _) => Some(path.clone()),
        (None, [], None) => None,
        (None, [], Some(probe)) => {
            let message = "this probe cannot reach a backend on loopback, and does not say what the sidecar could ask it for";
            problems.error(
                Code::NoHealthPath,
                probe.asks,
                message.to_owned(),
                "say what the backend answers GET with 2xx or 3xx: --health-path /",
            );
            None
        }
        (None, several, _) => {
            let message =
                format!("probes ask for {}, and the sidecar asks for one path", several.join(" and "));
            let node = probes.last().map_or(backend.container, |probe| probe.asks);
            let help = "say which one tells whether the backend is well, with --health-path; all of these probes will follow it";
            problems.error(Code::SeveralHealthPaths, node, message, help);
            None
        }
    }
}

/// Points the probes of a backend on loopback to the sidecar, which checks the backend. They stay the backend's probes, so
/// that the kubelet restarts the backend and not the sidecar.
pub(super) fn ask_the_sidecar(backend: &Backend<'_, '_>, options: &Options, editor: &mut Editor<'_>) {
    let answer = map([("path", "/readyz".into()), ("port", options.admin_port.into())]);
    for Probe { probe, handler, .. } in probes(backend) {
        editor.replace_entry(probe, handler, "httpGet", &answer);
    }
}

/// `true` if a probe of the backend uses the network.
pub(super) fn are_there(backend: &Backend<'_, '_>) -> bool {
    !probes(backend).is_empty()
}

/// The backend's own `preStop` hook, if it has one.
pub(super) fn pre_stop<'n, 's>(backend: &Backend<'n, 's>) -> Option<&'n Node<'s>> {
    backend.container.find(&["lifecycle", "preStop"])
}

/// Gives the backend time until open requests have drained.
pub(super) fn add_pre_stop(backend: &Backend<'_, '_>, sleep: Value, editor: &mut Editor<'_>) {
    match backend.container.find(&["lifecycle"]) {
        Some(lifecycle) if !matches!(lifecycle.kind(), crate::document::Kind::Null) => {
            editor.append_entry(lifecycle, "preStop", &sleep);
        }
        Some(_) => editor.set(backend.container, "lifecycle", &map([("preStop", sleep)])),
        None => editor.append_entry(backend.container, "lifecycle", &map([("preStop", sleep)])),
    }
}
