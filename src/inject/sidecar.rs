//! The sidecar in Kubernetes' terms: container, volumes, and the end of a pod. The Kustomize component is made from here as
//! well.

use super::value::{Value, list, map};
use super::{Bundle, Options};

/// The container's name, by which a sidecar is recognised.
pub(super) const NAME: &str = "sidegate";
/// The name of the port of the admin listener.
pub(super) const ADMIN: &str = "sidegate-admin";
/// The program's path in the image.
const PROGRAM: &str = "/usr/bin/sidegate";
/// The user id of the image.
const USER: u64 = 65_532;

/// The part of the sidecar that depends on the workload.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The port for clients.
    pub(super) port: Vec<(String, Value)>,
    /// The backend's address; without it `sidegate.yaml` names the backend.
    pub(super) backend_url: Option<String>,
    /// The pod is ready only while the backend is.
    pub(super) needs_backend: bool,
    /// The path of the health check of the backend.
    pub(super) health_path: Option<String>,
}

/// Returns the container: a native sidecar, which starts before the backend and does not keep jobs from ending.
pub(super) fn container(options: &Options, place: &Place) -> Value {
    let container = map([
        ("name", NAME.into()),
        ("image", options.image.as_str().into()),
        ("restartPolicy", "Always".into()),
        ("args", list(["run", "--config=/etc/sidegate/config/sidegate.yaml"])),
        ("env", list(environment(options, place))),
        ("ports", list([Value::Map(place.port.clone()), port(ADMIN, options.admin_port)])),
        ("startupProbe", probe("/livez", 1, 60)),
        ("livenessProbe", probe("/livez", 10, 3)),
        ("readinessProbe", probe("/readyz", 5, 2)),
        ("terminationMessagePolicy", "FallbackToLogsOnError".into()),
        ("resources", resources(options)),
        ("securityContext", security_context()),
        ("volumeMounts", list(mounts())),
    ]);
    if options.drain == 0 {
        return container;
    }
    // The kubelet stops sidecars last, but runs this hook at once: open requests drain while the backend is still there.
    let drain = map([("exec", map([("command", list([PROGRAM, "drain"]))]))]);
    container.with("lifecycle", map([("preStop", drain)]))
}

/// A port of a container.
pub(super) fn port(name: &str, number: u16) -> Value {
    map([("name", name.into()), ("containerPort", number.into()), ("protocol", "TCP".into())])
}

/// Settings that belong to the pod and not to the operator's `sidegate.yaml`: addresses, mounted files, the time to end.
fn environment(options: &Options, place: &Place) -> Vec<Value> {
    let mut set = vec![
        ("LISTEN", format!("0.0.0.0:{}", options.listen_port)),
        ("ADMIN_LISTEN", format!("0.0.0.0:{}", options.admin_port)),
        ("TLS_CERTIFICATE", "/etc/sidegate/tls/tls.crt".to_owned()),
        ("TLS_KEY", "/etc/sidegate/tls/tls.key".to_owned()),
        ("TLS_CLIENT_CA", "/etc/sidegate/client-ca".to_owned()),
        ("POLICIES", "/etc/sidegate/policies".to_owned()),
    ];
    if options.drain > 0 {
        set.push(("DRAIN_TIMEOUT", format!("{}s", options.drain)));
    }
    set.extend(place.backend_url.iter().map(|url| ("BACKEND_URL", url.clone())));
    set.extend(place.health_path.iter().map(|path| ("BACKEND_HEALTH_PATH", path.clone())));
    if place.needs_backend {
        set.push(("ADMIN_READINESS_NEEDS_BACKEND", "true".to_owned()));
    }
    let variable =
        |(name, value)| map([("name", format!("SIDEGATE_{name}").into()), ("value", Value::Text(value))]);
    set.into_iter().map(variable).collect()
}

fn probe(path: &str, period: u64, failures: u64) -> Value {
    map([
        ("httpGet", map([("path", path.into()), ("port", ADMIN.into())])),
        ("periodSeconds", period.into()),
        ("failureThreshold", failures.into()),
    ])
}

/// The backend's part of the end of a pod: it goes on while open requests drain, and is stopped only then.
pub(super) fn backend_pre_stop(options: &Options) -> Value {
    map([("sleep", map([("seconds", options.drain.into())]))])
}

/// The resources. There is no CPU limit: throttling would cost every client latency, and `workers` bounds the work.
fn resources(options: &Options) -> Value {
    let (cpu, memory) = (options.cpu.as_str(), options.memory.as_str());
    map([
        ("requests", map([("cpu", cpu.into()), ("memory", memory.into())])),
        ("limits", map([("memory", memory.into())])),
    ])
}

/// The "restricted" level of the Pod Security Standards, set on the container so that the pod's own settings stay as they
/// are.
fn security_context() -> Value {
    map([
        ("runAsNonRoot", Value::Yes),
        ("runAsUser", USER.into()),
        ("runAsGroup", USER.into()),
        ("allowPrivilegeEscalation", Value::No),
        ("readOnlyRootFilesystem", Value::Yes),
        ("capabilities", map([("drop", list(["ALL"]))])),
        ("seccompProfile", map([("type", "RuntimeDefault".into())])),
    ])
}

/// The folders below `/etc/sidegate`, none inside of another, each a volume of its own.
const FOLDERS: [&str; 4] = ["config", "policies", "tls", "client-ca"];

fn mounts() -> Vec<Value> {
    let mount = |folder: &str| {
        map([
            ("name", format!("{NAME}-{folder}").into()),
            ("mountPath", format!("/etc/sidegate/{folder}").into()),
            ("readOnly", Value::Yes),
        ])
    };
    FOLDERS.into_iter().map(mount).collect()
}

/// The volumes, by name. Their files are readable by every user (the default mode), but mounted into this container alone. No
/// `fsGroup` is needed, which would change the owner of the backend's own volumes.
pub(super) fn volumes(options: &Options) -> Vec<(String, Value)> {
    let config_map = |name: &str| ("configMap", map([("name", name.into())]));
    let secret = |name: &str| ("secret", map([("secretName", name.into())]));
    let sources = [
        config_map(&options.config),
        config_map(&options.policies),
        secret(&options.tls),
        match &options.client_ca {
            Bundle::Secret(name) => secret(name),
            Bundle::ConfigMap(name) => config_map(name),
        },
    ];
    let volume = |(folder, (kind, source)): (&str, (&str, Value))| {
        let name = format!("{NAME}-{folder}");
        (name.clone(), map([("name", name.into()), (kind, source)]))
    };
    FOLDERS.into_iter().zip(sources).map(volume).collect()
}
