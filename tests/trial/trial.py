"""A trial of the image in operation: `trial.py ROOT`, with the image's file system in ROOT. Needs root, iproute2, openssl, Java.

Each pod is a network namespace with a backend that listens on its loopback, and Sidegate from the file system of the image, with a
read-only root and a user without any files. Clients are in another namespace. Their requests continue while certificates are
rotated, policies are replaced and a second pod replaces the first. No request may fail.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import backends
import clients
import files
import pods
from adoption import Adoption
from waiting import DEADLINE, eventually


def main(root):
    if os.geteuid() != 0 or not shutil.which("ip"):
        if os.environ.get("CI"):
            sys.exit("the trial needs root and iproute2")
        print("skipped: the trial needs root and iproute2")
        return
    with tempfile.TemporaryDirectory(prefix="sidegate-trial-") as folder:
        os.chmod(folder, 0o755)
        with pods.Network() as network:
            for number, kind in enumerate(backends.KINDS):
                Trial(kind, Path(folder) / kind, Path(root), network, number).run()
            Adoption(Path(folder) / "adoption", Path(root), network, len(backends.KINDS)).run()
    print("the trial passed")


class Trial:
    """A deployment with one kind of backend, from its first pod to the rollout of the second."""

    def __init__(self, kind, folder, root, network, number):
        self.kind, self.folder, self.root, self.network, self.number = kind, folder, root, network, number
        folder.mkdir(mode=0o755)
        self.pki = files.Pki(folder / "pki", [network.address(number, replica) for replica in (1, 2)])
        self.mounts = files.Mounts(folder, self.pki, files.policy())

    def run(self):
        with self.pod(1) as first:
            self.step("a pod is ready", lambda: eventually("the pod is ready", first.is_ready))
            self.client = clients.Client(self.pki, first.address)
            for what, check in [
                ("the backend is reachable only through Sidegate", lambda: self.check_backend_is_unreachable(first)),
                ("each client gets the right answer", lambda: self.check_answers(first)),
                ("no file of the root can be written", lambda: self.check_root_is_read_only(first)),
            ]:
                self.step(what, check)
            with clients.Load(self.pki, [first]) as load:
                self.step("the server certificate is rotated", self.rotate_server_certificate)
                self.step("the client CA is rotated", lambda: self.rotate_client_ca(load))
                self.step("policies are replaced", lambda: self.replace_policies(first))
                self.step("a second pod replaces the first", lambda: self.roll_out(first, load))
            print(f"{self.kind}: {load.requests} requests, none failed", flush=True)

    def step(self, what, check):
        start = time.monotonic()
        check()
        print(f"{self.kind}: {what} ({time.monotonic() - start:.1f} s)", flush=True)

    def pod(self, replica):
        return pods.Pod(self.network, self.number, replica, self.root, self.mounts, backends.KINDS[self.kind])

    def check_backend_is_unreachable(self, pod):
        assert pod.accepts_connections(8443) and not pod.accepts_connections(pod.backend.port)
        assert self.client.get("/echo/a", None).status == 401

    def check_answers(self, pod):
        answer = self.client.get("/echo/a?x=1", "producer")
        assert answer.status == 200, answer
        echoed = answer.json()
        assert (echoed["method"], echoed["path"], echoed["query"]) == ("GET", "/echo/a", "x=1"), echoed
        assert "client-cert" in echoed["headers"], echoed
        assert "x-client-name" not in self.client.get("/echo/a", "producer", {"X-Client-Name": "admin"}).json()["headers"]
        assert (self.client.get("/echo/a", None).status, self.client.get("/echo/a", "stranger").status) == (401, 401)
        denied = self.client.get("/cookies", "producer")
        assert (denied.status, denied.json()["reason"]) == (403, "insufficient_permissions"), denied
        assert pod.metric('sidegate_decisions_total{outcome="denied",reason="insufficient_permissions",fault="policy"}') == 1

    def check_root_is_read_only(self, pod):
        status = Path(f"/proc/{pod.sidegate.pid}/status").read_text()
        ids = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
        assert set(ids["Uid"] + ids["Gid"]) == {"65532"} and ids["NoNewPrivs"] == ["1"], status
        assert int(ids["CapEff"][0], 16) == int(ids["CapPrm"][0], 16) == 0, status
        mounts = Path(f"/proc/{pod.sidegate.pid}/mountinfo").read_text()
        writable = [line for line in mounts.splitlines() if "ro" not in line.split()[5].split(",")]
        assert mounts and not writable, writable

    def rotate_server_certificate(self):
        before = self.client.server_certificate()
        self.mounts.tls.swap(self.pki.server())
        eventually("new handshakes present the new certificate", lambda: self.client.server_certificate() != before)

    def rotate_client_ca(self, load):
        old, new = "producer", "successor"
        assert self.client.get("/echo/a", new).status == 401
        self.mounts.client_ca.swap({"old.pem": self.pki.ca("old"), "new.pem": self.pki.ca("new")})
        eventually("clients of the new CA are accepted", lambda: self.client.get("/echo/a", new).status == 200)
        assert self.client.get("/echo/a", old).status == 200
        load.present(new)
        open_connection = self.client.connect(old)
        assert open_connection.get("/echo/a").status == 200
        self.mounts.client_ca.swap({"new.pem": self.pki.ca("new")})
        # The next request on an open connection is also judged by the new CAs.
        eventually("clients of the old CA are refused", lambda: open_connection.status("/echo/a") == 401)
        assert self.client.get("/echo/a", old).status == 401
        assert self.client.get("/echo/a", new).status == 200

    def replace_policies(self, pod):
        status = lambda: self.client.connect("successor").status("/cookies")
        assert status() == 403
        self.mounts.policies.swap({"policy.yaml": files.policy("GET /cookies")})
        eventually("a new grant allows the request", lambda: status() == 200)
        self.mounts.policies.swap({"policy.yaml": files.policy("GET download")})
        eventually("a mistake is counted", lambda: pod.metric('sidegate_reload_success{part="policies"}') == 0)
        assert status() == 200 and pod.is_ready()
        self.mounts.policies.swap({"policy.yaml": files.policy()})
        eventually("a removed grant denies the request", lambda: status() == 403)
        eventually("the metric shows no mistake", lambda: pod.metric('sidegate_reload_success{part="policies"}') == 1)

    def roll_out(self, first, load):
        with self.pod(2) as second:
            eventually("the second pod is ready", second.is_ready)
            load.endpoints.add(second)
            upload = clients.SlowUpload(self.pki, first.address, "successor", seconds=6)
            eventually("an upload is in progress", lambda: upload.started)
            first.terminate()
            # Kubernetes removes an endpoint some time after its readiness probe fails; the second simulates that time.
            eventually("the readiness probe fails", lambda: not first.is_ready())
            time.sleep(1)
            load.endpoints.remove(first)
            assert first.wait(DEADLINE) == 0, first.log()
            assert upload.answer() == 200, "the upload in progress"
            before = load.requests
            eventually("the second pod gets requests", lambda: load.requests > before + 50)
            load.stop()
            assert second.metric('sidegate_decisions_total{outcome="allowed",reason="permitted",fault="none"}') > 50


if __name__ == "__main__":
    main(sys.argv[1])
