"""Fails where a profile no longer fits the program: `cargo build --message-format json | python3 deploy/profile/fits.py PROFILE`.

The compiler finds the counts of a function by the function's symbol, and drops them where the function's branches are not those that
were counted. So a function that was renamed or changed is compiled as without a profile, and nothing else shows it. This script counts
the trained functions of Sidegate that the build still finds. Other messages of the compiler are passed on.
"""

import json
import re
import sys
from pathlib import Path

# The smallest share of the trained functions that a build must find. The profile saves a quarter of a request's time.
REQUIRED = 0.75
SYMBOL = re.compile(rb"_ZN[\w.$]+?17h[0-9a-f]{16}E")
# Only Sidegate's functions are counted: other crates change with Cargo.lock alone.
CRATE = b"sidegate"
CHANGED = "hash mismatch"


def symbols(content):
    return {symbol for symbol in SYMBOL.findall(content) if CRATE in symbol}


def read(messages):
    """Returns the libraries of Sidegate, the symbols of the functions that have changed, and whether the build succeeded."""
    libraries, changed, succeeded = [], set(), False
    for line in messages:
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "sidegate":
            libraries += [Path(file) for file in message["filenames"] if file.endswith(".rlib")]
        elif message.get("reason") == "compiler-message":
            text = message["message"]["rendered"] or ""
            if CHANGED in text:
                changed |= symbols(text.encode())
            else:
                sys.stderr.write(text)
        elif message.get("reason") == "build-finished":
            succeeded = message["success"]
    return libraries, changed, succeeded


def main():
    profile = Path(sys.argv[1])
    libraries, changed, succeeded = read(sys.stdin)
    if not succeeded:
        # Cargo has said why, and its exit code is the one that counts (pipefail).
        return 0
    trained = symbols(profile.read_bytes())
    # With link-time optimisation a library holds LLVM's bitcode, in which the symbols are plain text.
    compiled = set().union(*(symbols(library.read_bytes()) for library in libraries))
    found = (trained & compiled) - changed
    print(f"{profile.name}: {len(found)} of {len(trained)} trained functions are as they were", file=sys.stderr)
    if len(found) < REQUIRED * len(trained):
        print("the profile no longer fits the program: make it anew with tests/bench/train, and commit it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
