"""Checks that the pure steps of a request need at most 5 % more instructions than tests/bench/counts.json says, and whole requests
to the released program at most 10 %. Counts of whole requests vary by up to 3 %, and by a third if the profile does not fit.

callgrind (Debian's `valgrind`) counts the instructions, so the figures do not depend on the load of the machine. They depend on the
compiler and the crates: `python3 .ci/counts.py --write` writes a new baseline, which is reviewed like every change.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "tests/bench/counts.json"
MOST_MORE = 0.05
MOST_MORE_WHOLE = 0.10
# Sidegate is built as in a release, without link-time optimisation; its dependencies as in the tests, which are built already.
SETTINGS = ["opt-level=3", "debug-assertions=false", "overflow-checks=false", "codegen-units=1"]
BUILD = ["cargo", "build", "--locked", "--quiet", "--message-format", "json", "--bench"]
CALLGRIND = ["valgrind", "--quiet", "--tool=callgrind"]
# Number of requests, one after another on one connection.
REQUESTS = 2000


def built(bench, *settings):
    environment = {**os.environ, "CARGO_INCREMENTAL": "0"}
    told = subprocess.run([*BUILD, bench, *settings], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    told = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    return next(b["executable"] for b in told if b.get("executable") and b["target"]["name"] == bench)


def total(out):
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE).group(1))


def count(program, step):
    """Instructions between the beginning and the end of each call of `counted`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        tool = [*CALLGRIND, "--toggle-collect=*counted*", f"--callgrind-out-file={out}"]
        # A fixed environment keeps the positions on the stack the same in every run.
        subprocess.run([*tool, program, step], check=True, env={"PATH": os.environ["PATH"]})
        return total(out)


def steps():
    settings = [argument for setting in SETTINGS for argument in ("--config", f"profile.dev.package.sidegate.{setting}")]
    program = built("counts", *settings)
    listed = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {step: round(count(program, step) / int(times)) for step, times in map(str.split, listed.splitlines())}


def asked(driver, program, row, times, folder):
    """Instructions of the whole program, from its start to its end."""
    out, below = folder / f"{row}-{times}", folder / "below"
    below.write_text(f"#!/bin/sh\nexec {shlex.join([*CALLGRIND, f'--callgrind-out-file={out}', str(program)])} \"$@\"\n")
    below.chmod(0o755)
    subprocess.run([driver, row, str(times)], check=True, env={**os.environ, "SIDEGATE_PROGRAM": str(below)})
    return total(out)


def requests():
    """What is between few requests and many: start, handshake and end are in both."""
    driver = built("training")
    rows = subprocess.run([driver, "--list"], stdout=subprocess.PIPE, text=True).stdout.split()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # As the image has it.
        subprocess.run(["deploy/rootfs", folder / "root"], cwd=ROOT, check=True)
        program = folder / "root/usr/bin/sidegate"
        few, many = ({row: asked(driver, program, row, times, folder) for row in rows} for times in (REQUESTS, 2 * REQUESTS))
        return {row: round((many[row] - few[row]) / REQUESTS) for row in rows}


def problems(before, now):
    for step in sorted(before.keys() | now.keys()):
        if step not in before or step not in now:
            yield f"{step} is only in the {'baseline' if step in before else 'program'}"
        elif (more := now[step] / before[step] - 1) > (MOST_MORE_WHOLE if step.startswith("request-") else MOST_MORE):
            yield f"{step}: {now[step]} instructions, {more:.1%} more than the baseline's {before[step]}"


def main():
    now = {**steps(), **requests()}
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
        print("where whole requests take more and their steps do not: tests/bench/train makes the profile anew", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
