//! `sidegate inject` adds the sidecar to manifests of all shapes, changes nothing else, changes nothing the second time, and
//! refuses manifests that it cannot inject. The manifests of `tests/operations/inject/` have the shapes of those of
//! well-known projects.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::manifests::assert_valid;
use crate::support::proxy::{ProgramOutput, command};

/// The manifests, each with the flags for it.
const MANIFESTS: [(&str, &str); 15] = [
    ("podinfo.yaml", "--port http"),
    ("argocd.yaml", "--workload deployment/argocd-server --port 8080"),
    ("grafana.yaml", "--bind GF_SERVER_HTTP_ADDR=127.0.0.1"),
    ("node-exporter.yaml", ""),
    ("minio.yaml", ""),
    ("ingress-nginx.yaml", "--port http --listen-port 9443"),
    ("jenkins.yaml", "--port http"),
    ("external-dns.yaml", "--port 7979 --no-network-policy"),
    ("cert-manager.yaml", "--port http-metrics --client-ca-config-map trust --drain 0s"),
    (
        "keda.yaml",
        "--port http --admin-port 9902 --image registry.example/sidegate:1.2.3 --memory 1Gi --cpu 1",
    ),
    ("wordpress.json", ""),
    ("backup.yaml", ""),
    (
        "trainer.yaml",
        "--bind HOST=127.0.0.1 --policies trainers --config-map training --tls-secret t --client-ca-secret c",
    ),
    ("registry.yaml", "--container registry --bind REGISTRY_HTTP_ADDR=127.0.0.1:5000"),
    ("prometheus.yaml", "--port web --loopback --health-path /-/ready --backend-url h2c://127.0.0.1:9090"),
];

/// The manifests that are refused, each with the flags for it.
const REFUSED: [(&str, &str); 18] = [
    ("host_network", ""),
    ("by_hand", ""),
    ("port_clash", "--port 8080"),
    ("several_containers", ""),
    ("port_not_found", "--port grpc"),
    ("no_container", "--container app"),
    ("no_port", ""),
    ("not_tcp", "--port dns"),
    ("speaks_tls", "--listen-port 9443"),
    ("several_paths", "--bind HOST=127.0.0.1"),
    ("no_path", "--bind HOST=127.0.0.1"),
    ("aliases", "--container web"),
    ("aliases_of_a_service", ""),
    ("windows", ""),
    ("template", ""),
    ("several_workloads", ""),
    ("unknown_workload", "--workload deployment/a"),
    ("nothing", ""),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operations/inject")
}

fn inject(folder: &Path, file: &str, flags: &str) -> ProgramOutput {
    let mut command = command(&["inject", file]);
    let output = command.args(flags.split_whitespace()).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    ProgramOutput { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Returns whether the committed text and the answer differ. `UPDATE_SNAPSHOTS=1` writes the text anew.
fn differs(file: &Path, answer: &str) -> bool {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(file, answer).unwrap();
    }
    fs::read_to_string(file).unwrap_or_default() != answer
}

#[test]
fn every_manifest_gets_its_sidecar_as_committed() {
    let after = folder().join("after");
    for (name, flags) in MANIFESTS {
        let finished = inject(&folder(), name, flags);
        assert_eq!(finished.code, Some(0), "{name}: {}", finished.stderr);
        assert!(!differs(&after.join(name), &finished.stdout), "{name} becomes\n{}", finished.stdout);
        let said = after.join(name).with_extension("warnings");
        assert!(!differs(&said, &finished.stderr), "{name} warns\n{}", finished.stderr);
    }
    let written = |folder: &Path| {
        fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count()
    };
    assert_eq!(written(&folder()), MANIFESTS.len(), "a manifest is not injected by a test");
    assert_eq!(written(&after), 2 * MANIFESTS.len(), "a result has no manifest");
}

#[test]
fn injecting_twice_changes_nothing_the_second_time() {
    let again = tempfile::tempdir().unwrap();
    for (name, flags) in MANIFESTS {
        let once = fs::read_to_string(folder().join("after").join(name)).unwrap();
        fs::write(again.path().join(name), &once).unwrap();
        let finished = inject(again.path(), name, flags);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{name}");
        assert_eq!(finished.stdout, once, "{name}");
    }
}

/// Returns the lines of a text that another text lacks, in the alignment that keeps most lines.
fn removed_lines<'t>(before: &'t str, after: &str) -> Vec<&'t str> {
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    // The number of lines that can be kept from each pair of positions on.
    let mut kept = vec![vec![0; after.len() + 1]; before.len() + 1];
    for (i, line) in before.iter().enumerate().rev() {
        for (j, other) in after.iter().enumerate().rev() {
            let same = if line == other { kept[i + 1][j + 1] + 1 } else { 0 };
            kept[i][j] = same.max(kept[i + 1][j]).max(kept[i][j + 1]);
        }
    }
    let (mut lost, mut i, mut j) = (Vec::new(), 0, 0);
    while i < before.len() {
        if j < after.len() && before[i] == after[j] && kept[i][j] == kept[i + 1][j + 1] + 1 {
            (i, j) = (i + 1, j + 1);
        } else if j < after.len() && kept[i][j + 1] >= kept[i + 1][j] {
            j += 1;
        } else {
            lost.push(before[i].trim());
            i += 1;
        }
    }
    lost
}

/// Only lines of a port, of the handler of a probe, or with the one changed value are removed.
#[test]
fn nothing_else_of_a_manifest_changes() {
    const PARTS: [&str; 13] = [
        "port",
        "Port",
        "protocol:",
        "name: ",
        "httpGet",
        "tcpSocket",
        "path: /",
        "scheme: HTTP",
        "terminationGracePeriodSeconds: 120",
        "terminationGracePeriodSeconds: 300",
        "olume",
        "# Asks for nothing",
        "containers",
    ];
    // Of the last one, only the `-` before its neighbour is removed.
    const WHOLE: [&str; 4] =
        ["lifecycle: {}", "env: []", "value: :5000   # everywhere", "image: example.com/registry:3"];
    for (name, _) in MANIFESTS {
        let before = fs::read_to_string(folder().join(name)).unwrap();
        let after = fs::read_to_string(folder().join("after").join(name)).unwrap();
        let lost = removed_lines(&before, &after);
        for line in &lost {
            let is_meant =
                WHOLE.contains(line) || PARTS.iter().any(|part| line.contains(part)) || *line == "}";
            assert!(is_meant, "{name} lost `{line}`");
        }
        assert!(lost.len() <= 10, "{name} lost {lost:#?}");
    }
}

#[test]
fn kubernetes_accepts_the_results() {
    assert_valid(&[folder(), folder().join("after")]);
}

#[test]
fn a_manifest_that_cannot_be_injected_is_refused_with_the_reason() {
    let folder = folder().join("refused");
    for (name, flags) in REFUSED {
        let finished = inject(&folder, &format!("{name}.yaml"), flags);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{name}: {finished:?}");
        let committed = folder.join(name).with_extension("stderr");
        assert!(!differs(&committed, &finished.stderr), "{name} is refused with\n{}", finished.stderr);
    }
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        2 * REFUSED.len(),
        "a manifest is not injected by a test"
    );
}

#[test]
fn manifests_come_from_standard_input_as_well() {
    let text = fs::read(folder().join("podinfo.yaml")).unwrap();
    let mut child = command(&["inject", "-", "--port", "http"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, fs::read(folder().join("after/podinfo.yaml")).unwrap());
    let finished = inject(&folder(), "not-there.yaml", "");
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("cannot read `not-there.yaml`"), "{finished:?}");
}
