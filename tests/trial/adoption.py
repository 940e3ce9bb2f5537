"""The steps of the runbook that put Sidegate in front of an existing backend, each with the commands of the runbook."""

import json
import subprocess

import backends
import clients
import files
import pods
from waiting import eventually

EMPTY_POLICY = "version: 1\n"
DENIED = 'sidegate_trial_denials_total{rule=""}'
ENFORCED = 'sidegate_mode{mode="enforce"}'


class Adoption:
    """The way from no policy to a change that is tried as a shadow policy."""

    def __init__(self, folder, root, network, number):
        folder.mkdir(mode=0o755)
        self.program, self.folder = root / "usr/bin/sidegate", folder
        self.pki = files.Pki(folder / "pki", [network.address(number, 1)])
        self.mounts = files.Mounts(folder, self.pki, EMPTY_POLICY)
        self.next = self.mounts.add("next", {"policy.yaml": EMPTY_POLICY})
        self.pod = pods.Pod(network, number, 1, root, self.mounts, backends.KINDS["python"], "mode: audit\n")
        self.client = clients.Client(self.pki, self.pod.address)

    def run(self):
        with self.pod:
            eventually("the pod is ready", self.pod.is_ready)
            for step in (self.enforce_nothing, self.learn, self.test, self.enforce, self.try_a_change):
                step()
                print(f"adoption: {step.__name__.replace('_', ' ')}", flush=True)

    def status(self, path, identity="producer"):
        return self.client.get(path, identity).status

    def sidegate(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True)
        assert done.returncode in (0, 1) and not done.stderr, done
        return done.returncode, done.stdout

    def enforce_nothing(self):
        statuses = [self.status(path) for path in ("/echo/1", "/echo/2", "/gzip")]
        assert statuses == [200, 200, 200], statuses
        assert self.status("/echo/1", None) == 401
        assert self.pod.metric(DENIED) == 3

    def learn(self):
        _, self.learned = self.sidegate("policy", "suggest", self.pod.folder / "audit")
        assert "/gzip" in self.learned and "/echo/" in self.learned, self.learned

    def test(self):
        first = self.folder / "first.yaml"
        first.write_text(self.learned)
        code, output = self.sidegate("policy", "check", "--strict", first)
        assert code == 0, output
        code, output = self.sidegate("policy", "replay", "--format", "json", self.pod.folder / "audit", "--policy", first)
        # The policy would allow the three requests that audit mode counted as denied; no other decision would change.
        assert (code, len(json.loads(output)["changes"])) == (1, 3), output
        self.mounts.policies.swap({"policy.yaml": self.learned})
        eventually("the policy is in force", lambda: self.pod.metric("sidegate_config_generation") == 2)
        assert [self.status(path) for path in ("/echo/1", "/gzip", "/cookies")] == [200, 200, 200]
        # The policy would deny only the path that was not requested before.
        assert self.pod.metric(DENIED) == 4

    def enforce(self):
        self.pod.configure("mode: enforce\n")
        eventually("the policy is enforced", lambda: self.pod.metric(ENFORCED) == 1)
        assert [self.status(path) for path in ("/echo/1", "/gzip", "/cookies")] == [200, 200, 403]

    def try_a_change(self):
        without = "\n".join(line for line in self.learned.splitlines() if "/gzip" not in line)
        self.next.swap({"policy.yaml": without})
        code, output = self.sidegate("policy", "diff", self.folder / "first.yaml", self.next.folder)
        assert code == 1 and "/gzip" in output, output
        self.pod.configure("mode: enforce\nshadow_policies: /etc/sidegate/next/\n")
        eventually("the shadow policy is judged", lambda: self.status("/gzip") == 200 and self.differences() > 0)
        assert self.status("/echo/1") == 200

    def differences(self):
        page = self.pod.get("/metrics")[1]
        counts = [line for line in page.splitlines() if line.startswith("sidegate_shadow_differences_total{")]
        assert all('change="newly_denied"' in count for count in counts), counts
        return sum(float(count.rsplit(" ", 1)[1]) for count in counts)
