//! The Services and NetworkPolicies of the same stream that lead to the backend's port. Those that use the port's name need
//! no change, because the sidecar has the name now.

use super::edit::Editor;
use super::manifest::{Object, Workload, text};
use super::port::Backend;
use super::value::{Value, list, map};
use super::{Options, Problems};
use crate::diagnostic::Code;
use crate::document::Node;

/// Points the Services that select the workload's pods to the sidecar.
pub(super) fn rewire(
    objects: &[Object<'_, '_>],
    workload: &Workload<'_, '_>,
    backend: &Backend<'_, '_>,
    options: &Options,
    editor: &mut Editor<'_>,
    problems: &mut Problems<'_>,
) {
    let services = objects.iter().filter(|object| object.is("", "Service"));
    for service in services.filter(|service| service.selects(&["spec", "selector"], workload)) {
        let ports = service.node.find(&["spec", "ports"]).map(Node::items).unwrap_or_default();
        let to_backend: Vec<_> = ports.iter().filter(|port| leads_to(port, backend)).collect();
        for port in &to_backend {
            let goes_by_name =
                text(port, &["targetPort"]).parse::<u16>().is_err() && port.entry("targetPort").is_some();
            if !goes_by_name && problems.is_written_out(service) {
                editor.set(port, "targetPort", &options.listen_port.into());
            }
        }
        if let Some(port) = to_backend.first() {
            warn_of(service, port, options, problems);
        }
    }
}

/// `true` if a port of a Service leads to the backend's. Without a `targetPort` it is the same number.
fn leads_to(port: &Node<'_>, backend: &Backend<'_, '_>) -> bool {
    let target = match text(port, &["targetPort"]) {
        "" => text(port, &["port"]),
        target => target,
    };
    matches!(text(port, &["protocol"]), "" | "TCP") && backend.is_meant(target)
}

/// Notices for the clients of a Service.
fn warn_of(service: &Object<'_, '_>, port: &Node<'_>, options: &Options, problems: &mut Problems<'_>) {
    if let Some((_, address)) = service.node.find(&["spec"]).and_then(|spec| spec.entry("clusterIP"))
        && address.text() == Some("None")
    {
        let message = format!("`{service}` is headless: its clients choose the port themselves");
        let help = format!("let them ask for port {}", options.listen_port);
        problems.warning(Code::HeadlessService, address, message, &help);
    }
    if let Some((_, protocol)) = port.entry("appProtocol")
        && protocol.text().is_some_and(|protocol| !protocol.to_ascii_lowercase().contains("https"))
    {
        let message = format!("`{service}` says that this port speaks something else than HTTPS");
        problems.warning(Code::AppProtocol, protocol, message, "write `appProtocol: https`");
    }
}

/// The NetworkPolicies of the stream that restrict connections to the workload's pods.
pub(super) fn existing_policies<'o, 'n, 's>(
    objects: &'o [Object<'n, 's>],
    workload: &Workload<'n, 's>,
) -> Vec<&'o Object<'n, 's>> {
    let policies = objects.iter().filter(|object| object.is("networking.k8s.io", "NetworkPolicy"));
    let of_ingress = policies.filter(|policy| policy.node.find(&["spec", "ingress"]).is_some());
    of_ingress.filter(|policy| policy.selects(&["spec", "podSelector", "matchLabels"], workload)).collect()
}

/// Adds the sidecar's port to a NetworkPolicy that allows the backend's.
pub(super) fn rewire_policy(
    policy: &Object<'_, '_>,
    backend: &Backend<'_, '_>,
    options: &Options,
    editor: &mut Editor<'_>,
    problems: &mut Problems<'_>,
) {
    for rule in policy.node.find(&["spec", "ingress"]).map(Node::items).unwrap_or_default() {
        let Some(ports) = rule.find(&["ports"]).filter(|ports| !ports.items().is_empty()) else {
            let message = format!(
                "`{policy}` lets in whom it names at every port, the backend's too, where no certificate is asked for"
            );
            let help = format!("name the port: `ports: [{{ port: {} }}]`", options.listen_port);
            problems.warning(Code::Around, rule, message, &help);
            continue;
        };
        for port in ports.items().iter().filter_map(|port| port.find(&["port"])) {
            if port.text().and_then(|port| port.parse().ok()) == Some(backend.number)
                && problems.is_written_out(policy)
            {
                editor.replace_scalar(port, &options.listen_port.into());
            }
        }
    }
}

/// Returns a NetworkPolicy that allows connections to every declared port but the backend's.
pub(super) fn network_policy(
    workload: &Workload<'_, '_>,
    backend: &Backend<'_, '_>,
    options: &Options,
) -> Option<Value> {
    let labels = workload.selector();
    if labels.is_empty() || workload.object.name.is_empty() {
        return None;
    }
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let mut metadata = map([("name", format!("{}-sidegate", workload.object.name).into())]);
    if !workload.object.namespace.is_empty() {
        metadata = metadata.with("namespace", workload.object.namespace);
    }
    let open = map([("ports", list(open_ports(workload, backend, options)))]);
    let spec = map([
        ("podSelector", map([("matchLabels", Value::Map(labels))])),
        ("policyTypes", list(["Ingress"])),
        ("ingress", list([open])),
    ]);
    Some(map([
        ("apiVersion", "networking.k8s.io/v1".into()),
        ("kind", "NetworkPolicy".into()),
        ("metadata", metadata),
        ("spec", spec),
    ]))
}

fn open_ports(workload: &Workload<'_, '_>, backend: &Backend<'_, '_>, options: &Options) -> Vec<Value> {
    let open = |number: u16, protocol: &str| map([("port", number.into()), ("protocol", protocol.into())]);
    let all = workload.init_containers().iter().chain(workload.containers());
    let declared = all.flat_map(|container| container.find(&["ports"]).map(Node::items).unwrap_or_default());
    let others = declared.filter_map(|port| {
        let number: u16 = text(port, &["containerPort"]).parse().ok()?;
        let protocol =
            Some(text(port, &["protocol"])).filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
        (number != backend.number || protocol != "TCP").then(|| open(number, protocol))
    });
    [options.listen_port, options.admin_port].map(|own| open(own, "TCP")).into_iter().chain(others).collect()
}
