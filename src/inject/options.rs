//! What is asked for: which workload, where its backend is, and what the pod is given.

use std::fmt;

/// What is put where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workloads, as `NAME` or `KIND/NAME`; none: the only one that there is.
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
    /// Where the client CAs are.
    pub client_ca: Bundle,
    /// Where the backend is, where that is not HTTP on its port at loopback.
    pub backend_url: Option<String>,
    /// A variable of the backend that makes it listen on loopback alone.
    pub bind: Option<Variable>,
    /// Whether the backend listens on loopback alone already.
    pub loopback: bool,
    /// What the backend is asked for, to see whether it is well.
    pub health_path: Option<String>,
    /// Seconds that open requests have when a pod ends.
    pub drain: u64,
    /// Whether to add a NetworkPolicy that closes the way around the sidecar.
    pub network_policy: bool,
    /// The CPU that the sidecar asks for.
    pub cpu: String,
    /// The memory that it asks for, and may take.
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
    /// Whether the backend cannot be reached at the pod's address.
    pub(super) const fn hides_backend(&self) -> bool {
        self.loopback || self.bind.is_some()
    }
}

/// A port as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By its number.
    Number(u16),
    /// By its name.
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

/// Where the client CAs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bundle {
    /// A Secret.
    Secret(String),
    /// A ConfigMap.
    ConfigMap(String),
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}
