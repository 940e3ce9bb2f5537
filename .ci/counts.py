"""The pure steps of a request take at most 5 % more instructions than tests/bench/counts.json says.

Instructions are counted by callgrind (Debian's `valgrind`), so the figures do not depend on what else the machine does. They do
depend on the compiler and the crates: `python3 .ci/counts.py --write` moves the baseline, and its change is looked at like any other.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "tests/bench/counts.json"
MOST_MORE = 0.05
# Sidegate itself as it is released, but for link-time optimisation; what it depends on as the tests have it, which is built already.
SETTINGS = ["opt-level=3", "debug-assertions=false", "overflow-checks=false", "codegen-units=1"]
BUILD = ["cargo", "build", "--locked", "--quiet", "--bench", "counts", "--message-format", "json"]


def program():
    settings = [argument for setting in SETTINGS for argument in ("--config", f"profile.dev.package.sidegate.{setting}")]
    environment = {**os.environ, "CARGO_INCREMENTAL": "0"}
    told = subprocess.run([*BUILD, *settings], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    built = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    return next(b["executable"] for b in built if b.get("executable") and b["target"]["name"] == "counts")


def count(program, step):
    """Instructions between the beginning and the end of each call of `counted`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        tool = ["valgrind", "--quiet", "--tool=callgrind", "--toggle-collect=*counted*", f"--callgrind-out-file={out}"]
        # Nothing of the environment is read by a step, and a longer one moves no stack.
        subprocess.run([*tool, program, step], check=True, env={"PATH": os.environ["PATH"]})
        return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE).group(1))


def counts(program):
    listed = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {step: round(count(program, step) / int(times)) for step, times in map(str.split, listed.splitlines())}


def problems(before, now):
    for step in sorted(before.keys() | now.keys()):
        if step not in before or step not in now:
            yield f"{step} is only in the {'baseline' if step in before else 'program'}"
        elif (more := now[step] / before[step] - 1) > MOST_MORE:
            yield f"{step}: {now[step]} instructions, {more:.1%} more than the baseline's {before[step]}"


def main():
    now = counts(program())
    if sys.argv[1:] == ["--write"]:
        BASELINE.write_text(json.dumps(now, indent=2) + "\n")
    before = json.loads(BASELINE.read_text())
    for step, instructions in now.items():
        print(f"{step:<20} {instructions:>7}   baseline {before.get(step, '-'):>7}")
    found = list(problems(before, now))
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        print("where that is meant: python3 .ci/counts.py --write, and say why in the commit", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
