//! The options of an injection: the workload, its backend, and the content of the pod.

use std::fmt;

/// The options of an injection.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workloads, as `NAME` or `KIND/NAME`; empty: the only one.
    pub workloads: Vec<String>,
    /// The container that is the backend; `None`: the only one with a port.
    pub container: Option<String>,
    /// The backend's port; `None`: the only one that is declared.
    pub port: Option<Asked>,
    /// The sidecar's image.
    pub image: String,
    /// The port for clients.
    pub listen_port: u16,
    /// The port of the admin listener.
    pub admin_port: u16,
    /// The ConfigMap that holds `sidegate.yaml`.
    pub config: String,
    /// The ConfigMap that holds the policy.
    pub policies: String,
    /// The Secret that holds the server's certificate and key.
    pub tls: String,
    /// The client CAs.
    pub client_ca: Bundle,
    /// The backend's address, if it is not HTTP on its port at loopback.
    pub backend_url: Option<String>,
    /// A variable of the backend that makes it listen on loopback alone.
    pub bind: Option<Variable>,
    /// The backend listens on loopback alone already.
    pub loopback: bool,
    /// The path of the health check of the backend.
    pub health_path: Option<String>,
    /// Seconds that open requests have to finish when a pod ends.
    pub drain: u64,
    /// Add a NetworkPolicy that closes the way around the sidecar.
    pub network_policy: bool,
    /// The CPU request of the sidecar.
    pub cpu: String,
    /// The memory request of the sidecar, which is its limit too.
    pub memory: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workloads: Vec::new(),
            container: None,
            port: None,
            image: concat!("sidegate:", env!("CARGO_PKG_VERSION")).to_owned(),
            listen_port: 8443,
            admin_port: 9901,
            config: "sidegate".to_owned(),
            policies: "sidegate-policies".to_owned(),
            tls: "sidegate-tls".to_owned(),
            client_ca: Bundle::Secret("sidegate-client-ca".to_owned()),
            backend_url: None,
            bind: None,
            loopback: false,
            health_path: None,
            drain: 25,
            network_policy: true,
            cpu: "50m".to_owned(),
            memory: "192Mi".to_owned(),
        }
    }
}

impl Options {
    /// `true` if the backend cannot be reached at the pod's address.
    pub(super) const fn hides_backend(&self) -> bool {
        self.loopback || self.bind.is_some()
    }
}

/// A port, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A port number.
    Number(u16),
    /// The name of a port.
    Name(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The source of the client CAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bundle {
    /// A Secret.
    Secret(String),
    /// A ConfigMap.
    ConfigMap(String),
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}
