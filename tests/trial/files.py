"""The files of a pod: certificates and policies, in folders that are replaced in the same way as by the kubelet."""

import os
import shutil
import subprocess
from pathlib import Path


class Volume:
    """A mounted ConfigMap or Secret: its files are links into `..data`, a link that is replaced atomically."""

    def __init__(self, folder, contents):
        self.folder, self.generation, self.names = folder, 0, set()
        folder.mkdir(mode=0o755)
        self.swap(contents)

    def swap(self, contents):
        self.generation += 1
        before = self.folder / f"..{self.generation - 1}"
        now = self.folder / f"..{self.generation}"
        now.mkdir(mode=0o755)
        for name, text in contents.items():
            (now / name).write_text(text)
            (now / name).chmod(0o644)
        (self.folder / "..data_tmp").symlink_to(now.name)
        os.replace(self.folder / "..data_tmp", self.folder / "..data")
        for name in contents.keys() - self.names:
            (self.folder / name).symlink_to(f"..data/{name}")
        for name in self.names - contents.keys():
            (self.folder / name).unlink()
        self.names = set(contents)
        shutil.rmtree(before, ignore_errors=True)


def policy(*more):
    routes = "".join(f"    - \"{route}\"\n" for route in ["* /echo/**", *more])
    return f"""version: 1
permissions:
  events:
{routes}clients:
  - name: producers
    match: {{ organization: Shop }}
    permissions: [events]
"""


class Mounts:
    """The volumes of a deployment."""

    def __init__(self, folder, pki, rules):
        self.folder = folder
        self.tls = Volume(folder / "tls", pki.server())
        self.client_ca = Volume(folder / "client-ca", {"old.pem": pki.ca("old")})
        self.policies = Volume(folder / "policies", {"policy.yaml": rules})
        self.volumes = [self.tls, self.client_ca, self.policies]

    def add(self, name, contents):
        volume = Volume(self.folder / name, contents)
        self.volumes.append(volume)
        return volume


class Pki:
    """An old and a new client CA, and the certificates of clients and servers."""

    def __init__(self, folder, addresses):
        self.folder, self.names, self.servers = folder, ",".join(f"IP:{address}" for address in addresses), 0
        folder.mkdir(mode=0o755)
        # An own configuration, because the configuration of the machine may add extensions.
        (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = subject\n[subject]\n")
        for name in ("server-ca", "old", "new", "other"):
            self.issue(name, None, f"/CN={name}", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        for name, authority in (("producer", "old"), ("successor", "new"), ("stranger", "other")):
            self.issue(name, authority, f"/O=Shop/CN={name}", "extendedKeyUsage=clientAuth")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def issue(self, name, authority, subject, *extensions):
        added = [word for extension in extensions for word in ("-addext", extension)]
        issuer = ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"] if authority else []
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-config", "openssl.cnf"]
        self.openssl("req", "-x509", "-subj", subject, *KEY, *files, *issuer, *added)

    def server(self):
        """The contents of a Secret with a new server certificate."""
        self.servers += 1
        name = f"server-{self.servers}"
        self.issue(name, "server-ca", "/CN=server", f"subjectAltName={self.names}", "extendedKeyUsage=serverAuth")
        return {"tls.crt": self.read(f"{name}.pem"), "tls.key": self.read(f"{name}.key")}

    def ca(self, name):
        return self.read(f"{name}.pem")

    def read(self, name):
        return (self.folder / name).read_text()

    def path(self, name):
        return str(self.folder / name)


KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "30"]
