"""What is in the tree is what .deny.toml allows, and builds with the Rust that Cargo.toml states.

The same bans, licences and sources as `cargo deny check bans licenses sources`, without the minutes that cargo-deny takes to build.
Not its advisories: they need a database from the network. Whoever has the tool asks it with `cargo deny check`.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def allowed(expression, licences):
    """Whether an SPDX expression can be met by these licences. `/` is how crates of old write OR."""
    words = re.findall(r"[()]|[^\s()/]+|/", expression)
    terms = []
    while words:
        word = words.pop(0)
        if words and words[0] == "WITH":
            word = " ".join([word, words.pop(0), words.pop(0)])
        terms.append({"(": "(", ")": ")", "OR": "or", "/": "or", "AND": "and"}.get(word, repr(word in licences)))
    # Nothing but parentheses, `and`, `or`, `True` and `False` is left.
    return eval(" ".join(terms))


def version(text):
    return [int(part) for part in (text.split(".") + ["0", "0"])[:3]]


def problems(deny, packages, ours):
    banned = {entry["crate"]: entry["reason"] for entry in deny["bans"]["deny"]}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["name"] in banned:
            yield f"{name} is banned: {banned[package['name']]}"
        if not package["license"] or not allowed(package["license"], deny["licenses"]["allow"]):
            yield f"{name} has a licence that is not allowed: {package['license']}"
        if package["source"] not in (CRATES_IO, None):
            yield f"{name} comes from {package['source']}"
        if version(package["rust_version"] or "1.0") > version(ours):
            yield f"{name} needs Rust {package['rust_version']}, and Cargo.toml says {ours}"


def used():
    """Names and versions of what something uses. `cargo metadata` names what weak features would bring, too (`ring?/alloc`)."""
    command = ["cargo", "tree", "--locked", "--all-features", "--target=all", "--edges=all", "--prefix=none", "--format={p}"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return {tuple(line.split(" ")[:2]) for line in lines if line}


def main():
    deny = tomllib.loads((ROOT / ".deny.toml").read_text())
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version=1"]
    said = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    ours = next(package for package in said["packages"] if package["id"] == said["resolve"]["root"])
    names = used()
    packages = [package for package in said["packages"] if (package["name"], f"v{package['version']}") in names]
    wrong = list(problems(deny, packages, ours["rust_version"]))
    if f"{ours['rust_version']} or newer" not in (ROOT / "README.md").read_text():
        wrong.append(f"README.md does not say that Rust {ours['rust_version']} is needed")
    print("\n".join(wrong) or f"{len(packages)} packages, all as they may be")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
