//! The container and the port that the sidecar stands in front of, and the check that the pod has room for the sidecar.

use super::manifest::{Workload, text};
use super::{Asked, Options, Problems, sidecar};
use crate::diagnostic::Code;
use crate::document::Node;

/// The container that is the backend, and its port.
#[derive(Debug)]
pub(super) struct Backend<'n, 's> {
    pub(super) container: &'n Node<'s>,
    pub(super) number: u16,
    /// The port's position among the container's ports, if it is declared.
    pub(super) declared: Option<usize>,
    /// The port's name, if it has one. The sidecar gets the name, so that Services and probes that use it reach the sidecar.
    pub(super) name: Option<&'n str>,
}

/// A declared port.
#[derive(Clone, Copy, Debug)]
struct Port<'n, 's> {
    container: &'n Node<'s>,
    index: usize,
    node: &'n Node<'s>,
    number: u16,
    name: Option<&'n str>,
}

impl<'n, 's> Backend<'n, 's> {
    /// The container and the port that the options name, or the only possible ones.
    pub(super) fn find(
        workload: &Workload<'n, 's>,
        options: &Options,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let containers = candidates(workload, options, problems)?;
        let ports: Vec<Port<'n, 's>> = containers.iter().flat_map(|container| ports(container)).collect();
        let fitting: Vec<_> = ports.iter().filter(|port| port.is(options.port.as_ref())).collect();
        match (fitting.as_slice(), &options.port, containers.as_slice()) {
            ([port], ..) => port.backend(problems),
            // Kubernetes does not require that ports are declared: an undeclared one may be served all the same.
            ([], Some(Asked::Number(number)), [container]) => {
                Some(Self { container, number: *number, declared: None, name: None })
            }
            ([], Some(asked), _) => {
                let message = format!("no container of `{}` declares the port `{asked}`", workload.object);
                problems.error(Code::PortNotFound, workload.pod, message, &listed(&ports));
                None
            }
            ([], None, _) => {
                let message = format!("no container of `{}` declares a port", workload.object);
                problems.error(
                    Code::PortNotFound,
                    workload.pod,
                    message,
                    "say which port is the backend's: --port 8080",
                );
                None
            }
            ([first, ..], ..) => {
                let message = format!(
                    "`{}` declares several ports, and one of them is to be the backend's",
                    workload.object
                );
                let help = format!(
                    "say which, with --port, and --container where it is in two of them; {}",
                    listed(&ports)
                );
                problems.error(Code::SeveralPorts, first.node, message, &help);
                None
            }
        }
    }

    /// `true` if the `port` of a probe or a service means the backend's: its number, or its name if it has one.
    pub(super) fn is_meant(&self, port: &str) -> bool {
        self.name == Some(port) || port.parse() == Ok(self.number)
    }

    /// The container's name.
    pub(super) fn container_name(&self) -> &'n str {
        text(self.container, &["name"])
    }

    /// The declared port itself.
    pub(super) fn port(&self) -> Option<&'n Node<'s>> {
        self.container.find(&["ports"])?.items().get(self.declared?)
    }
}

fn candidates<'n, 's>(
    workload: &Workload<'n, 's>,
    options: &Options,
    problems: &mut Problems<'_>,
) -> Option<Vec<&'n Node<'s>>> {
    let all = workload.containers();
    let Some(wanted) = &options.container else { return Some(all.iter().collect()) };
    let found: Vec<_> = all.iter().filter(|container| text(container, &["name"]) == wanted).collect();
    if found.is_empty() {
        let names: Vec<_> = all.iter().map(|container| format!("`{}`", text(container, &["name"]))).collect();
        let message = format!("`{}` has no container `{wanted}`", workload.object);
        problems.error(Code::NoContainer, workload.pod, message, &format!("it has {}", names.join(", ")));
        return None;
    }
    Some(found)
}

fn ports<'n, 's>(container: &'n Node<'s>) -> impl Iterator<Item = Port<'n, 's>> {
    let declared = container.find(&["ports"]).map(Node::items).unwrap_or_default();
    declared.iter().enumerate().filter_map(move |(index, node)| {
        let number = text(node, &["containerPort"]).parse().ok()?;
        let name = Some(text(node, &["name"])).filter(|name| !name.is_empty());
        Some(Port { container, index, node, number, name })
    })
}

impl<'n, 's> Port<'n, 's> {
    fn protocol(&self) -> &'n str {
        match text(self.node, &["protocol"]) {
            "" => "TCP",
            protocol => protocol,
        }
    }

    /// `true` if the port can be the backend's: the one that the options name, or any TCP port.
    fn is(&self, asked: Option<&Asked>) -> bool {
        match asked {
            Some(Asked::Number(number)) => self.number == *number && self.protocol() == "TCP",
            Some(Asked::Name(name)) => self.name == Some(name),
            None => self.protocol() == "TCP",
        }
    }

    fn backend(self, problems: &mut Problems<'_>) -> Option<Backend<'n, 's>> {
        if self.protocol() != "TCP" {
            let message =
                format!("port {} speaks {}, and HTTP is spoken by TCP", self.number, self.protocol());
            problems.error(Code::NotTcp, self.node, message, "say which port serves HTTP, with --port");
            return None;
        }
        Some(Backend {
            container: self.container,
            number: self.number,
            declared: Some(self.index),
            name: self.name,
        })
    }
}

fn listed(ports: &[Port<'_, '_>]) -> String {
    let shown = ports.iter().map(|port| {
        let name = port.name.map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{}{name} of `{}`", port.number, text(port.container, &["name"]))
    });
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() { "no port is declared".to_owned() } else { format!("there is {}", shown.join(", ")) }
}

/// Reports conflicts with the sidecar's own ports, names and volumes.
pub(super) fn is_free(workload: &Workload<'_, '_>, options: &Options, problems: &mut Problems<'_>) {
    let all = workload.init_containers().iter().chain(workload.containers());
    for port in all.flat_map(ports) {
        for (own, flag) in [(options.listen_port, "--listen-port"), (options.admin_port, "--admin-port")] {
            if port.number == own && port.protocol() == "TCP" {
                let message = format!("port {own} is taken by `{}`", text(port.container, &["name"]));
                problems.error(
                    Code::PortClash,
                    port.node,
                    message,
                    &format!("give the sidecar another one: {flag} PORT"),
                );
            }
        }
    }
    let own = sidecar::volumes(options);
    for volume in workload.pod.find(&["volumes"]).map(Node::items).unwrap_or_default() {
        if own.iter().any(|(name, _)| name == text(volume, &["name"])) {
            let message = format!("there is a volume `{}` already", text(volume, &["name"]));
            problems.error(
                Code::ByHand,
                volume,
                message,
                "take out what was added by hand, and inject again",
            );
        }
    }
}
