"""Checks manifests: files, and the files of folders. Every object of a stream, and of a List, against the strict schema of
Kubernetes 1.37; custom resources, which are not in it, against what of their published APIs is used here."""

import pathlib
import sys

import kubernetes_validate
import yaml

VERSION = "1.37"

SELECTOR = {"matchLabels": dict}

# Custom resources by kind: each field that may be there, with its type or its own fields. `!` marks those that must be.
CUSTOM = {
    ("cert-manager.io/v1", "Certificate"): {
        "secretName!": str,
        "duration": str,
        "renewBefore": str,
        "privateKey": {"algorithm": ("RSA", "ECDSA", "Ed25519"), "size": int, "rotationPolicy": ("Never", "Always")},
        "usages": [("digital signature", "key encipherment", "server auth", "client auth")],
        "dnsNames": [str],
        "issuerRef!": {"name!": str, "kind": ("Issuer", "ClusterIssuer"), "group": str},
    },
    ("cert-manager.io/v1", "Issuer"): {"ca": {"secretName!": str}},
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector!": SELECTOR,
        "podMetricsEndpoints": [{"port": str, "path": str, "interval": str, "scheme": ("http", "https")}],
    },
}


def fits(value, shape, place):
    """What of a value is not as its shape says."""
    if isinstance(shape, type):
        return [] if isinstance(value, shape) else [f"{place} is no {shape.__name__}"]
    if isinstance(shape, tuple):
        return [] if value in shape else [f"{place} is none of {shape}"]
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return [f"{place} is no list with something in it"]
        return [problem for i, item in enumerate(value) for problem in fits(item, shape[0], f"{place}[{i}]")]
    if not isinstance(value, dict):
        return [f"{place} is no mapping"]
    known = {name.rstrip("!"): inner for name, inner in shape.items()}
    needed = {name.rstrip("!") for name in shape if name.endswith("!")}
    problems = [f"{place} has no {name}" for name in sorted(needed - value.keys())]
    for name, inner in value.items():
        problems += fits(inner, known[name], f"{place}.{name}") if name in known else [f"{place}.{name} is unknown"]
    return problems


def flaws(thing):
    """What is wrong with an object."""
    shape = CUSTOM.get((thing.get("apiVersion"), thing.get("kind")))
    if shape is not None:
        return fits(thing.get("spec"), shape, "spec")
    try:
        kubernetes_validate.validate(thing, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


def objects(file):
    """The objects of a stream, those of its Lists one by one."""
    for document in yaml.safe_load_all(file.read_text()):
        if document is not None:
            yield from document["items"] if document["kind"].endswith("List") else [document]


def files(path):
    """The manifests in a folder, or the file itself."""
    return sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".json")) if path.is_dir() else [path]


def main():
    count = wrong = 0
    for file in (file for path in sys.argv[1:] for file in files(pathlib.Path(path))):
        for thing in objects(file):
            count += 1
            for flaw in flaws(thing):
                wrong += 1
                print(f"{file}: {thing['kind']} {thing['metadata'].get('name')}: {flaw}")
    print(f"{count} objects, {wrong} flaws")
    sys.exit(1 if wrong or not count else 0)


main()
