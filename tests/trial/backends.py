"""The backends: applications without any knowledge of Sidegate, each with the way in which its pod resolves its name."""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
APPLICATIONS = REPOSITORY / "tests/traffic/real_backends"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))


def python():
    interpreter = TARGET / "tools/venv/bin/python"
    gunicorn = ["-m", "gunicorn", "--bind=127.0.0.1:0", "--worker-class=gthread", "--threads=8", "--keep-alive=60"]
    return [interpreter, *gunicorn, "--chdir", APPLICATIONS, "wsgi:application"]


def java():
    return ["java", APPLICATIONS / "Application.java"]


class Kind:
    """The command that starts a backend, and the source of its address: a line of /etc/hosts or a DNS server."""

    def __init__(self, command, hosts=None, resolver=False):
        self.command, self.hosts, self.resolver = command, hosts, resolver


# One backend is found by /etc/hosts, the other by DNS.
KINDS = {
    "python": Kind(python, hosts="127.0.0.1 events.local"),
    "java": Kind(java, resolver=True),
}


class Backend:
    """A backend in a network namespace. It chooses its port and prints it."""

    def __init__(self, kind, namespace):
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        command = ["ip", "netns", "exec", namespace, *map(str, kind.command())]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.port = next(int(port[1]) for line in self.process.stderr if (port := re.search(r"127\.0\.0\.1:(\d+)", line)))
        self.resolver = None
        if kind.resolver:
            command = ["ip", "netns", "exec", namespace, sys.executable, Path(__file__).with_name("resolver.py")]
            self.resolver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self.resolver.stdout.readline() == "ready\n"

    def end(self):
        for process in filter(None, (self.process, self.resolver)):
            process.kill()
            process.wait()
