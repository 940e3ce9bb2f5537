"""Sidegate tried as an operator would: `trial.py ROOT`, with the image's file system in ROOT. Needs root, iproute2, openssl, Java.

Each pod is a network namespace with a backend that knows nothing of Sidegate and listens on its loopback, and Sidegate from the
image's file system before it, with a read-only root, as a user that owns nothing. Clients are in a namespace of their own, and
their requests go on while certificates are rotated, policies are swapped and one pod follows another. None may fail.
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
    print("the trial holds")


class Trial:
    """A deployment of one kind of backend, from its first pod to the second."""

    def __init__(self, kind, folder, root, network, number):
        self.kind, self.folder, self.root, self.network, self.number = kind, folder, root, network, number
        folder.mkdir(mode=0o755)
        self.pki = files.Pki(folder / "pki", [network.address(number, replica) for replica in (1, 2)])
        self.mounts = files.Mounts(folder, self.pki, files.policy())

    def run(self):
        with self.pod(1) as first:
            self.says("a pod is ready", lambda: eventually("it is ready", first.is_ready))
            self.asks = clients.Client(self.pki, first.address)
            for what, check in [
                ("nobody reaches the backend around it", lambda: self.nobody_reaches_the_backend(first)),
                ("each is answered what is due", lambda: self.everyone_gets_their_answer(first)),
                ("nothing of the root can be written", lambda: self.the_root_is_read_only(first)),
            ]:
                self.says(what, check)
            with clients.Load(self.pki, [first]) as load:
                self.says("the server's certificate is rotated", self.rotate_the_server_s_certificate)
                self.says("the client CA is rotated", lambda: self.rotate_the_client_ca(load))
                self.says("policies are swapped", lambda: self.swap_policies(first))
                self.says("a pod follows another", lambda: self.roll_out(first, load))
            print(f"{self.kind}: {load.requests} requests, none failed", flush=True)

    def says(self, what, check):
        start = time.monotonic()
        check()
        print(f"{self.kind}: {what} ({time.monotonic() - start:.1f} s)", flush=True)

    def pod(self, replica):
        return pods.Pod(self.network, self.number, replica, self.root, self.mounts, backends.KINDS[self.kind])

    def nobody_reaches_the_backend(self, pod):
        assert pod.takes_connections(8443) and not pod.takes_connections(pod.backend.port)
        assert self.asks.get("/echo/a", None).status == 401

    def everyone_gets_their_answer(self, pod):
        answer = self.asks.get("/echo/a?x=1", "producer")
        assert answer.status == 200, answer
        said = answer.json()
        assert (said["method"], said["path"], said["query"]) == ("GET", "/echo/a", "x=1"), said
        assert "client-cert" in said["headers"], said
        assert "x-client-name" not in self.asks.get("/echo/a", "producer", {"X-Client-Name": "admin"}).json()["headers"]
        assert (self.asks.get("/echo/a", None).status, self.asks.get("/echo/a", "stranger").status) == (401, 401)
        denied = self.asks.get("/cookies", "producer")
        assert (denied.status, denied.json()["reason"]) == (403, "insufficient_permissions"), denied
        assert pod.metric('sidegate_decisions_total{outcome="denied",reason="insufficient_permissions"}') == 1

    def the_root_is_read_only(self, pod):
        status = Path(f"/proc/{pod.sidegate.pid}/status").read_text()
        ids = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
        assert set(ids["Uid"] + ids["Gid"]) == {"65532"} and ids["NoNewPrivs"] == ["1"], status
        assert int(ids["CapEff"][0], 16) == int(ids["CapPrm"][0], 16) == 0, status
        mounts = Path(f"/proc/{pod.sidegate.pid}/mountinfo").read_text()
        writable = [line for line in mounts.splitlines() if "ro" not in line.split()[5].split(",")]
        assert mounts and not writable, writable

    def rotate_the_server_s_certificate(self):
        before = self.asks.server_certificate()
        self.mounts.tls.swap(self.pki.server())
        eventually("new handshakes show the new certificate", lambda: self.asks.server_certificate() != before)

    def rotate_the_client_ca(self, load):
        old, new = "producer", "successor"
        assert self.asks.get("/echo/a", new).status == 401
        self.mounts.client_ca.swap({"old.pem": self.pki.ca("old"), "new.pem": self.pki.ca("new")})
        eventually("clients of the new CA are known", lambda: self.asks.get("/echo/a", new).status == 200)
        assert self.asks.get("/echo/a", old).status == 200
        load.present(new)
        open_one = self.asks.connect(old)
        assert open_one.get("/echo/a").status == 200
        self.mounts.client_ca.swap({"new.pem": self.pki.ca("new")})
        # What is open is judged by the new CAs as well, at its next request.
        eventually("clients of the old CA are not", lambda: open_one.status("/echo/a") == 401)
        assert self.asks.get("/echo/a", old).status == 401
        assert self.asks.get("/echo/a", new).status == 200

    def swap_policies(self, pod):
        ask = lambda: self.asks.connect("successor").status("/cookies")
        assert ask() == 403
        self.mounts.policies.swap({"policy.yaml": files.policy("GET /cookies")})
        eventually("what is newly granted is allowed", lambda: ask() == 200)
        self.mounts.policies.swap({"policy.yaml": files.policy("GET download")})
        eventually("a mistake is counted", lambda: pod.metric('sidegate_reload_success{part="policies"}') == 0)
        assert ask() == 200 and pod.is_ready()
        self.mounts.policies.swap({"policy.yaml": files.policy()})
        eventually("what is no longer granted is denied", lambda: ask() == 403)
        eventually("the mistake is counted no more", lambda: pod.metric('sidegate_reload_success{part="policies"}') == 1)

    def roll_out(self, first, load):
        with self.pod(2) as second:
            eventually("the second pod is ready", second.is_ready)
            load.endpoints.add(second)
            upload = clients.SlowUpload(self.pki, first.address, "successor", seconds=6)
            eventually("an upload is under way", lambda: upload.started)
            first.terminate()
            # As endpoints are: whoever routes here learns of the end by the probe, and later than at once.
            eventually("the probe says so", lambda: not first.is_ready())
            time.sleep(1)
            load.endpoints.remove(first)
            assert first.wait(DEADLINE) == 0, first.log()
            assert upload.answer() == 200, "an upload that was under way"
            before = load.requests
            eventually("the second pod is asked", lambda: load.requests > before + 50)
            load.stop()
            assert second.metric('sidegate_decisions_total{outcome="allowed",reason="permitted"}') > 50


if __name__ == "__main__":
    main(sys.argv[1])
