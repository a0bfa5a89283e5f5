"""All pods of an overlay, started together."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from k8s.make_secrets import new_secrets
from tests.support.eventually import eventually
from tests.support.local_cluster.environment import PodEnvironment
from tests.support.local_cluster.pod import Pod
from tests.support.local_cluster.translation import pod_addresses
from tests.support.manifests import Manifests, Workload

START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class StandIns:
    """What the caller runs in the place of the pods of Cassandra (``HOST:PORT``) and PostgreSQL."""

    cassandra: str
    database_url: str


_ELSEWHERE = frozenset({"nearby-cassandra", "nearby-postgres"})


class LocalCluster:
    """The pods of ``manifests`` by name; ``secrets`` are values of its Secrets. Files are in ``folder``."""

    def __init__(self, manifests: Manifests, stand_ins: StandIns, folder: Path, tasks: asyncio.TaskGroup) -> None:
        self.secrets = new_secrets(stand_ins.database_url)
        self.pods: dict[str, Pod] = {}
        self._manifests = manifests
        self._folder = folder
        self._tasks = tasks
        self._runs = [workload for workload in manifests.workloads if workload.name not in _ELSEWHERE]
        services = {each.name: each.object["spec"].get("serviceName", each.name) for each in self._runs}
        self._addresses = pod_addresses(services)
        self._hosts = {
            **self._addresses,
            **self._service_addresses(),
            "nearby-cassandra-0.nearby-cassandra": stand_ins.cassandra,
        }

    def start(self) -> None:
        """Start every pod; none waits for another."""
        for workload in self._runs:
            for number in range(workload.replicas or 1):
                self.start_pod(workload, number)

    def start_pod(self, workload: Workload, number: int) -> Pod:
        """Start pod ``number`` of ``workload``, as a controller would; the claims of one that was there before stay."""
        name = f"{workload.name}-{number}"
        variables = PodEnvironment(self._manifests, self.secrets, name, self.address(workload, number))
        folder = self._folder / "pods" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pod = self.pods[name] = Pod(workload, variables, self._hosts, folder, self._folder / "claims")
        self._tasks.create_task(pod.run(), name=name)
        return pod

    def address(self, workload: Workload, number: int) -> str:
        """Return the address that pod ``number`` of ``workload`` has, or would have."""
        service = workload.object["spec"].get("serviceName", workload.name)
        return self._addresses[f"{workload.name}-{number}.{service}"]

    async def wait_until_ready(self, within_s: float = START_TIMEOUT_S) -> None:
        """Return once every pod is ready, and every Job done.

        Raises:
            AssertionError: it took too long; tells which are not.
        """

        async def all_ready() -> bool:
            missing = [name for name, pod in self.pods.items() if not await pod.ready()]
            assert not missing, f"not ready: {', '.join(missing)}"
            return True

        await eventually(all_ready, within_s)

    def of(self, workload: str) -> list[Pod]:
        """Return the pods of ``workload``, in order."""
        return [pod for _, pod in sorted(self.pods.items()) if pod.workload.name == workload]

    def kill(self) -> None:
        """End everything at once."""
        for pod in self.pods.values():
            pod.kill()

    def _service_addresses(self) -> dict[str, str]:
        """Return the address of the first pod behind each Service."""
        found: dict[str, str] = {}
        for name, service in self._manifests.of("Service").items():
            behind = service["spec"]["selector"]["app.kubernetes.io/name"]
            if behind not in _ELSEWHERE:
                found[name] = self.address(self._manifests.workload(behind), 0)
        return found


@asynccontextmanager
async def running_cluster(manifests: Manifests, stand_ins: StandIns, folder: Path) -> AsyncIterator[LocalCluster]:
    """Start the pods of ``manifests``, wait until all are ready, and end them whatever happens."""
    async with asyncio.TaskGroup() as tasks:
        cluster = LocalCluster(manifests, stand_ins, folder, tasks)
        try:
            cluster.start()
            await cluster.wait_until_ready()
            yield cluster
        finally:
            cluster.kill()
