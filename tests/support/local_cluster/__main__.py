"""``python -m tests.support.local_cluster``: the dev overlay on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from http_port.process import stop_signals
from tests.support.cassandra import CassandraNode
from tests.support.local_cluster.cluster import StandIns, running_cluster
from tests.support.manifests import rendered
from tests.support.postgresql import PostgresServer


def main() -> None:
    """Start the servers that are not pods here, then the pods, and say where they are."""
    with ExitStack() as stack:
        cassandra = stack.enter_context(closing(CassandraNode()))
        postgresql = stack.enter_context(closing(PostgresServer()))
        for server in (cassandra, postgresql):
            server.start()
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nearby-k8s-"))
        stand_ins = StandIns(cassandra.address, postgresql.url())
        asyncio.run(_run(stand_ins, Path(folder)))


async def _run(stand_ins: StandIns, folder: Path) -> None:
    async with stop_signals() as stop, running_cluster(rendered("dev"), stand_ins, folder) as cluster:
        for name, pod in sorted(cluster.pods.items()):
            sys.stdout.write(f"{name}\t{pod.ip}\n")
        (api,), (keeper,) = cluster.of("nearby-api"), cluster.of("nearby-ring-keeper")
        sys.stdout.write(
            f"\nAPI: http://{api.ip}:8080; gateways: "
            f"{' '.join(f'ws://{gateway.ip}:8081/v1/ws' for gateway in cluster.of('nearby-gateway'))}\n"
            f"NEARBY_ADMIN_TOKEN={cluster.secrets['nearby-tokens']['admin-token']} "
            f"nearby ring show --keeper http://{keeper.ip}:9080\nVolumes and logs: {folder}. Ctrl-C ends it.\n"
        )
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    main()
