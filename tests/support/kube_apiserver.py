"""A real API server of Kubernetes on a real etcd, without nodes: it judges objects, and nothing runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.loopback import own_host, own_port
from tests.support.manifests import ROOT
from tests.support.valkey import _DIE_WITH_PARENT

BUILT = ROOT / "build" / "kube"
START_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 60.0
TOKEN = "a-token-of-tests"
_POLL_S = 0.1


class KubeApiServer:
    """One API server with all that Gateway API adds to it. Start it on the main thread."""

    def __init__(self) -> None:
        """Prepare it; nothing runs yet.

        Raises:
            AssertionError: it has not been built.
        """
        assert (BUILT / ".ready").exists(), "`make test-k8s` builds the API server first"
        self._directory = Path(tempfile.mkdtemp(prefix="nearby-kube-", dir="/tmp"))
        self._running: list[subprocess.Popen[bytes]] = []
        self._port = own_port()

    def start(self) -> None:
        """Start etcd and the server, teach it the kinds of Gateway API, and return once it answers."""
        here = self._directory
        etcd, peer = (f"http://{own_host()}:{own_port()}" for _ in range(2))
        self._spawn(
            *("etcd", "--data-dir", str(here / "etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *("--listen-peer-urls", peer, "--unsafe-no-fsync", "--logger", "zap"),
        )
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        (here / "accounts.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (here / "tokens.csv").write_text(f"{TOKEN},tester,1,system:masters\n")
        self._spawn(
            *(str(BUILT / "kube-apiserver"), "--etcd-servers", etcd, "--cert-dir", str(here / "certificates")),
            *("--bind-address", own_host(), "--advertise-address", own_host(), "--secure-port", str(self._port)),
            *("--token-auth-file", str(here / "tokens.csv"), "--authorization-mode", "RBAC"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", str(here / "accounts.key")),
            *("--service-account-signing-key-file", str(here / "accounts.key")),
            *("--service-cluster-ip-range", "10.96.0.0/16"),
            # There is no controller that would make accounts for pods, nor an endpoint to announce.
            *("--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none"),
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.kubectl("get", "--raw", "/readyz").returncode:
            if time.monotonic() > deadline or any(each.poll() is not None for each in self._running):
                log = self._log.read_text()
                self.close()
                raise AssertionError(f"the API server did not start:\n{log[-4000:]}")
            time.sleep(_POLL_S)
        taught = self.kubectl("apply", "--server-side", "-f", str(BUILT / "crds"))
        assert taught.returncode == 0, taught.stderr
        known = self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        assert known.returncode == 0, known.stderr

    def kubectl(self, *arguments: str, sent: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``kubectl`` against the server, ``sent`` on its standard input."""
        server = f"--server=https://{own_host()}:{self._port}"
        flags = (server, f"--token={TOKEN}", "--insecure-skip-tls-verify", f"--cache-dir={self._directory}/cache")
        return subprocess.run(
            [str(BUILT / "kubectl"), "--kubeconfig=/dev/null", *flags, *arguments],
            input=sent,
            capture_output=True,
            text=True,
            timeout=CALL_TIMEOUT_S,
            env={"HOME": str(self._directory), "PATH": os.environ["PATH"]},
        )

    def dry_run(self, objects: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Let the server judge ``objects`` (YAML) without storing them; an unknown field is an error."""
        return self.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", *more, "-f", "-", sent=objects
        )

    def close(self) -> None:
        """Kill the processes and delete their folder. Idempotent."""
        for process in reversed(self._running):
            process.kill()
            process.wait()
        self._running.clear()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _spawn(self, program: str, *arguments: str) -> None:
        found = shutil.which(program)
        assert found is not None, f"{program} is missing"
        with self._log.open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, found, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
