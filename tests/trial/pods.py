"""Pods: network namespaces, each with a backend and Sidegate from the file system of the image."""

import ctypes
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from backends import Backend
from files import Volume

CLONE_NEWNET = 0x40000000
# The work of a container runtime and the kubelet: the root is read-only, volumes are mounted below it, and the program runs as the
# user of the image without any way to get more rights.
CONTAINER = """set -e
mount --make-rprivate /
mount --bind "$ROOT" "$MOUNTED_ROOT"
mount -t tmpfs none "$MOUNTED_ROOT/etc/sidegate"
for volume in "$VOLUMES"/*/; do
  mount_point="$MOUNTED_ROOT/etc/sidegate/$(basename "$volume")"
  mkdir "$mount_point"
  mount --bind "$volume" "$mount_point"
  mount -o remount,bind,ro "$mount_point"
done
for file in hosts resolv.conf; do
  mount --bind "$VOLUMES/$file" "$MOUNTED_ROOT/etc/$file"
  mount -o remount,bind,ro "$MOUNTED_ROOT/etc/$file"
done
mount -t proc -o ro none "$MOUNTED_ROOT/proc"
mount -o remount,ro "$MOUNTED_ROOT/etc/sidegate"
mount -o remount,bind,ro "$MOUNTED_ROOT"
exec env -i "$(command -v chroot)" --userspec=65532:65532 --groups= "$MOUNTED_ROOT" /usr/bin/sidegate run --config /etc/sidegate/config/sidegate.yaml
"""
CONFIGURATION = """listen: 0.0.0.0:8443
tls:
  certificate: /etc/sidegate/tls/tls.crt
  key: /etc/sidegate/tls/tls.key
  client_ca: /etc/sidegate/client-ca/
backend: {{ url: "http://events.local:{port}" }}
policies: /etc/sidegate/policies/
identity_headers: {{ custom: {{ X-Client-Name: email }} }}
admin: {{ listen: 0.0.0.0:9901 }}
# All clients of the trial have the same address.
limits: {{ lobby: {{ max_per_source: 1000, connections_per_second: 10000 }} }}
"""


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Network:
    """The network of a node with a bridge for the pods. This process, with its clients, moves into it."""

    def __init__(self):
        self.name, self.namespaces = f"sidegate-{os.getpid()}", []

    def __enter__(self):
        ip("netns", "add", self.name)
        self.namespaces.append(self.name)
        with open(f"/run/netns/{self.name}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        ip("link", "set", "lo", "up")
        ip("link", "add", "pods", "type", "bridge")
        ip("address", "add", "10.77.0.1/16", "dev", "pods")
        ip("link", "set", "pods", "up")
        return self

    def __exit__(self, *_):
        for namespace in reversed(self.namespaces):
            subprocess.run(["ip", "netns", "delete", namespace])

    @staticmethod
    def address(number, replica):
        return f"10.77.{number}.{10 + replica}"

    def join(self, number, replica):
        """A new namespace on the bridge."""
        name, link = f"{self.name}-{number}-{replica}", f"pod{number}-{replica}"
        ip("netns", "add", name)
        self.namespaces.append(name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", link, "master", "pods", "up")
        ip("-n", name, "address", "add", f"{self.address(number, replica)}/16", "dev", "eth0")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", "eth0", "up")
        return name


class Pod:
    """A backend and Sidegate in one namespace; both are killed at the end."""

    def __init__(self, network, number, replica, root, mounts, kind, more=""):
        self.address = network.address(number, replica)
        self.namespace = network.join(number, replica)
        self.kind, self.root, self.mounts, self.more = kind, root, mounts, more
        self.folder = mounts.folder / f"pod-{replica}"
        self.folder.mkdir(mode=0o755)

    def __enter__(self):
        self.backend = Backend(self.kind, self.namespace)
        self.mount_points()
        environment = os.environ | {
            "ROOT": str(self.root),
            "MOUNTED_ROOT": str(self.folder / "root"),
            "VOLUMES": str(self.folder / "volumes"),
        }
        container = ["setpriv", "--no-new-privs", "unshare", "--mount", "sh", "-c", CONTAINER]
        command = ["ip", "netns", "exec", self.namespace, *container]
        with open(self.folder / "log", "w") as log, open(self.folder / "audit", "w") as audit:
            self.sidegate = subprocess.Popen(command, stdout=audit, stderr=log, env=environment)
        return self

    def __exit__(self, failed, *_):
        self.sidegate.kill()
        self.sidegate.wait()
        self.backend.end()
        if failed:
            print(f"--- Sidegate's log at {self.address}\n{self.log()}", flush=True)

    def mount_points(self):
        (self.folder / "root").mkdir()
        volumes = self.folder / "volumes"
        volumes.mkdir()
        self.config = Volume(volumes / "config", self.configuration(self.more))
        for volume in self.mounts.volumes:
            (volumes / volume.folder.name).symlink_to(volume.folder)
        (volumes / "hosts").write_text((self.kind.hosts or "127.0.0.1 localhost") + "\n")
        (volumes / "resolv.conf").write_text("nameserver 127.0.0.1\n" if self.kind.resolver else "")
        (self.root / "proc").mkdir(exist_ok=True)
        for name in ("hosts", "resolv.conf"):
            (self.root / "etc" / name).touch()

    def configuration(self, more):
        return {"sidegate.yaml": CONFIGURATION.format(port=self.backend.port) + more}

    def configure(self, more):
        """Changes the configuration in the same way as an edit of its ConfigMap."""
        self.config.swap(self.configuration(more))

    def is_ready(self):
        assert self.sidegate.poll() is None, f"Sidegate has ended: {self.log()}"
        return self.get("/readyz")[0] == 200

    def get(self, path):
        """Status and text of the admin listener; status 0 without a connection."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:9901{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def metric(self, series):
        page = self.get("/metrics")[1]
        return next((float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(f"{series} ")), None)

    def accepts_connections(self, port):
        with socket.socket() as client:
            client.settimeout(5)
            return client.connect_ex((self.address, port)) == 0

    def terminate(self):
        self.sidegate.send_signal(signal.SIGTERM)

    def wait(self, seconds):
        return self.sidegate.wait(seconds)

    def log(self):
        return (self.folder / "log").read_text()
