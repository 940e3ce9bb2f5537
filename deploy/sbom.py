"""What is in the program, as CycloneDX 1.6 in JSON: `python3 deploy/sbom.py TARGET`.

Made of what cargo itself says was resolved, with the checksums of Cargo.lock. Crates that only tests or builds on other targets
use are not in it; crates that run while it is built are, marked as excluded from what is shipped.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def metadata(target):
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def checksums():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}


def used(target):
    """Names and versions of what something uses. `cargo metadata` names what weak features would bring, too (`ring?/alloc`)."""
    kinds = ["--edges=normal,build", "--prefix=none", "--format={p}"]
    command = ["cargo", "tree", "--locked", "--target", target, *kinds]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return {tuple(line.split(" ")[:2]) for line in lines if line}


def reached(nodes, root, kinds):
    """The packages that are reached by dependencies of these kinds."""
    seen, ahead = set(), [root]
    while ahead:
        package = ahead.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] in kinds for kind in dependency["dep_kinds"]):
                ahead.append(dependency["pkg"])
    return seen


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksum, shipped):
    entry = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if shipped else "excluded",
        "purl": reference(package),
    }
    if package["license"]:
        # Crates of old write `/` where SPDX has OR.
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def bom(target):
    said = metadata(target)
    nodes = {node["id"]: node for node in said["resolve"]["nodes"]}
    packages = {package["id"]: package for package in said["packages"]}
    root = said["resolve"]["root"]
    names = used(target)
    known = {it for it, package in packages.items() if (package["name"], f"v{package['version']}") in names}
    shipped, all_of_them = reached(nodes, root, {None}) & known, reached(nodes, root, {None, "build"}) & known
    sums = checksums()
    entries = [
        component(packages[it], sums[packages[it]["name"], packages[it]["version"]], it in shipped)
        for it in all_of_them
        if it != root
    ]
    depends = [
        {
            "ref": reference(packages[it]),
            "dependsOn": sorted({reference(packages[on["pkg"]]) for on in nodes[it]["deps"] if on["pkg"] in all_of_them}),
        }
        for it in all_of_them
    ]
    program = component(packages[root], None, True) | {"type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program, "properties": [{"name": "sidegate:target", "value": target}]},
        "components": sorted(entries, key=lambda entry: entry["bom-ref"]),
        "dependencies": sorted(depends, key=lambda entry: entry["ref"]),
    }


json.dump(bom(sys.argv[1]), sys.stdout, indent=1)
print()
