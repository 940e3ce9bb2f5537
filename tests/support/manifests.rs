//! Checks of manifests by the schemas of Kubernetes and by `kubectl kustomize`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{installed, is_missing, tools};

/// Checks every object of these files and folders against the schemas of Kubernetes 1.37. Custom resources are checked
/// against the rules in `tests/operations/kubernetes/validate.py`.
#[track_caller]
pub fn assert_valid(paths: &[PathBuf]) {
    let python = installed("venv/bin/python");
    if is_missing("kubernetes-validate", Command::new(&python).args(["-c", "import kubernetes_validate"])) {
        return;
    }
    let output = Command::new(python)
        .arg(tools::script("operations/kubernetes/validate.py"))
        .args(paths)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// Returns the output of `kubectl kustomize` for a folder; `None` if kubectl is not installed.
#[track_caller]
pub fn built(folder: &Path) -> Option<String> {
    let kubectl = installed("venv/bin/kubectl");
    if is_missing("kubectl", Command::new(&kubectl).args(["version", "--client"])) {
        return None;
    }
    let output = Command::new(kubectl).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
