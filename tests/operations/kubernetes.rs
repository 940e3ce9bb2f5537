//! The manifests of `deploy/kubernetes/` build, Kubernetes accepts them, and the program runs with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sidegate::diagnostic::Source;
use sidegate::document::{Budget, Node, duration, parse_all};
use sidegate::inject;

use crate::support::manifests::{assert_valid, built};
use crate::support::proxy::{Setup, command, run};
use crate::support::{Backend, installed, is_missing};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(name)
}

/// The examples, by the name of their folder.
const EXAMPLES: [&str; 2] = ["cert-manager", "spiffe"];

fn text<'n>(node: &'n Node<'_>, path: &[&str]) -> &'n str {
    node.find(path).and_then(Node::text).unwrap_or_else(|| panic!("nothing at {path:?}"))
}

/// Calls a test with each built example: its name, and its objects by kind and name.
fn for_each_example(test: impl Fn(&str, &BTreeMap<String, &Node<'_>>)) {
    for name in EXAMPLES {
        let Some(stream) = built(&folder("examples").join(name)) else { return };
        let source = Source::new(name, stream);
        let roots = parse_all(&source, Budget::MANIFESTS).unwrap();
        let key =
            |node: &Node<'_>| format!("{}/{}", text(node, &["kind"]), text(node, &["metadata", "name"]));
        test(name, &roots.iter().map(|node| (key(node), node)).collect());
    }
}

fn pod<'n, 's>(objects: &BTreeMap<String, &'n Node<'s>>) -> &'n Node<'s> {
    objects["Deployment/events"].find(&["spec", "template", "spec"]).unwrap()
}

fn sidecar<'n, 's>(objects: &BTreeMap<String, &'n Node<'s>>) -> &'n Node<'s> {
    &pod(objects).find(&["initContainers"]).unwrap().items()[0]
}

/// The variables of the sidecar.
fn environment(objects: &BTreeMap<String, &Node<'_>>) -> BTreeMap<String, String> {
    let variables = sidecar(objects).find(&["env"]).unwrap().items();
    variables.iter().map(|set| (text(set, &["name"]).to_owned(), text(set, &["value"]).to_owned())).collect()
}

#[test]
fn the_component_is_the_sidecar_that_inject_writes() {
    let file = folder("sidecar/patch.yaml");
    let head = "# Written by `UPDATE_SNAPSHOTS=1 cargo test --test promises kubernetes`, from src/inject/sidecar.rs.\n";
    let patch = head.to_owned() + &inject::component();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&file, &patch).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), patch);
}

#[test]
fn kubernetes_accepts_the_examples() {
    let streams = tempfile::tempdir().unwrap();
    for name in EXAMPLES {
        let Some(stream) = built(&folder("examples").join(name)) else { return };
        fs::write(streams.path().join(format!("{name}.yaml")), stream).unwrap();
    }
    assert_valid(&[streams.path().to_owned()]);
}

/// A check that accepts everything would prove nothing.
#[test]
fn the_check_refuses_flawed_manifests() {
    let python = installed("venv/bin/python");
    let mut probe = std::process::Command::new(&python);
    if is_missing("kubernetes-validate", probe.args(["-c", "import kubernetes_validate"])) {
        return;
    }
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    for (flaw, manifest) in [
        (
            "colour",
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, colour: red}]}}",
        ),
        (
            "spec.issuer is unknown",
            "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: a}, spec: {issuer: b}}",
        ),
        ("find schema", "{apiVersion: example.com/v1, kind: Thing, metadata: {name: a}}"),
    ] {
        fs::write(file.path(), manifest).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operations/kubernetes/validate.py");
        let output = std::process::Command::new(&python).arg(script).arg(file.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && said.contains(flaw), "{flaw}: {said}");
    }
}

/// The program runs with the configuration and policy of the ConfigMaps and the variables of the container. A client may do
/// what its role permits.
#[test]
fn the_program_runs_with_the_configuration_of_the_examples() {
    for_each_example(|name, objects| {
        let backend = Backend::ok();
        let policy = text(objects["ConfigMap/sidegate-policies"], &["data", "policy.yaml"]);
        let setup = Setup::new(&backend.url()).policy(policy);
        let file = setup.path("mounted.yaml");
        fs::write(&file, text(objects["ConfigMap/sidegate"], &["data", "sidegate.yaml"])).unwrap();
        // The test sets the mounted files and free ports itself.
        let own = BTreeMap::from([
            ("SIDEGATE_LISTEN", "127.0.0.1:0".to_owned()),
            ("SIDEGATE_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("SIDEGATE_TLS_CERTIFICATE", setup.path("server.crt").display().to_string()),
            ("SIDEGATE_TLS_KEY", setup.path("server.key").display().to_string()),
            ("SIDEGATE_TLS_CLIENT_CA", setup.path("client-ca.crt").display().to_string()),
            ("SIDEGATE_POLICIES", setup.path("policy.yaml").display().to_string()),
        ]);
        let mut command = command(&["run", "--config", file.to_str().unwrap()]);
        for (variable, value) in environment(objects) {
            command.env(&variable, own.get(variable.as_str()).unwrap_or(&value));
        }
        let proxy = setup.start_as(command.env("SIDEGATE_BACKEND_URL", backend.url()));
        let mut producer = proxy.connect();
        let expected = if name == "spiffe" { "200" } else { "403 insufficient_permissions" };
        assert_eq!(producer.get("/events").unwrap().verdict(), expected, "{name}");
        let mut stranger = proxy.anonymous().connect(proxy.address).unwrap();
        assert_eq!(stranger.get("/events").unwrap().verdict(), "401 not_authenticated", "{name}");
    });
}

#[test]
fn the_policies_of_the_examples_pass_policy_check() {
    for name in EXAMPLES {
        let policy = folder("examples").join(name).join("policy.yaml");
        let policy = policy.to_str().unwrap();
        for words in [
            &["policy", "check", "--strict", policy][..],
            &["policy", "test", "--min-coverage", "100", policy],
        ] {
            let finished = run(words);
            assert_eq!(finished.code, Some(0), "{finished:?}");
        }
    }
}

/// Each container fulfils the "restricted" level of the Pod Security Standards.
#[test]
fn every_container_is_restricted() {
    for_each_example(|name, objects| {
        let all = ["initContainers", "containers"].map(|list| pod(objects).find(&[list]).unwrap().items());
        for container in all.into_iter().flatten() {
            let said = |path: &[&str]| text(container, &[&["securityContext"], path].concat());
            assert_eq!(said(&["runAsNonRoot"]), "true", "{name}");
            assert_eq!(said(&["allowPrivilegeEscalation"]), "false", "{name}");
            assert_eq!(said(&["readOnlyRootFilesystem"]), "true", "{name}");
            assert_eq!(said(&["seccompProfile", "type"]), "RuntimeDefault", "{name}");
            let dropped = container.find(&["securityContext", "capabilities", "drop"]).unwrap().items();
            assert_eq!(dropped.iter().map(|one| one.text().unwrap()).collect::<Vec<_>>(), ["ALL"], "{name}");
        }
    });
}

/// Open requests may take `drain_timeout` to end. The backend stays for as long, and then has the usual time of Kubernetes.
#[test]
fn the_backend_outlives_open_requests() {
    for_each_example(|name, objects| {
        let drain = duration(&environment(objects)["SIDEGATE_DRAIN_TIMEOUT"]).unwrap();
        let backend = &pod(objects).find(&["containers"]).unwrap().items()[0];
        let seconds = |node, path: &[&str]| Duration::from_secs(text(node, path).parse().unwrap());
        let sleep = seconds(backend, &["lifecycle", "preStop", "sleep", "seconds"]);
        let whole = seconds(pod(objects), &["terminationGracePeriodSeconds"]);
        assert!(
            sleep >= drain && whole >= sleep + Duration::from_secs(30),
            "{name}: {drain:?} {sleep:?} {whole:?}"
        );
        let drains: Vec<_> = sidecar(objects)
            .find(&["lifecycle", "preStop", "exec", "command"])
            .unwrap()
            .items()
            .iter()
            .collect();
        assert_eq!(
            drains.iter().map(|word| word.text().unwrap()).collect::<Vec<_>>(),
            ["/usr/bin/sidegate", "drain"],
            "{name}"
        );
        assert!(
            include_str!("../../deploy/Containerfile").contains("ENTRYPOINT [\"/usr/bin/sidegate\"]"),
            "{name}"
        );
    });
}

/// The upper bound of deploy/README.md, "Memory", is within the limit of the container.
#[test]
fn the_memory_limit_is_enough_for_the_configuration() {
    for_each_example(|name, objects| {
        let file =
            Source::new("sidegate.yaml", text(objects["ConfigMap/sidegate"], &["data", "sidegate.yaml"]));
        let roots = parse_all(&file, Budget::CONFIGURATION).unwrap();
        let number = |path: &[&str]| text(&roots[0], path).parse::<u64>().unwrap();
        let (mib, kib) = (1 << 20, 1 << 10);
        let connections =
            number(&["limits", "max_connections"]) + number(&["limits", "lobby", "max_connections"]);
        let bound = 64 * mib
            + connections * (128 * kib + 2 * number(&["limits", "http", "max_header_bytes"]))
            + number(&["backend", "max_in_flight"]) * 640 * kib
            + number(&["workers"]) * 12 * mib;
        let limit = text(sidecar(objects), &["resources", "limits", "memory"]).strip_suffix("Mi").unwrap();
        let limit = limit.parse::<u64>().unwrap() * mib;
        assert!(bound <= limit, "{name}: {} MiB of {} MiB", bound / mib, limit / mib);
    });
}

#[test]
fn autoscaling_uses_metrics_that_exist() {
    let (rule, scaler) =
        ("autoscaling/prometheus-adapter.yaml", "autoscaling/horizontal-pod-autoscaler.yaml");
    let [rule, scaler] = [rule, scaler].map(|file| fs::read_to_string(folder(file)).unwrap());
    let operators = include_str!("../../deploy/README.md");
    let (_, query) = rule.split_once("metricsQuery:").unwrap();
    let metrics: Vec<_> = query
        .split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .filter(|word| word.starts_with("sidegate_"))
        .collect();
    assert_eq!(metrics, ["sidegate_slots_used", "sidegate_slots_limit"]);
    for metric in metrics {
        assert!(operators.contains(&format!("| `{metric}` |")), "{metric}");
    }
    assert!(rule.contains("as: sidegate_slot_use\n") && scaler.contains("name: sidegate_slot_use\n"));
}
