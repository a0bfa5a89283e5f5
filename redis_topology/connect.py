"""Opens whatever an address names."""

from __future__ import annotations

from nearby.redis_address import RedisAddress, Topology
from redis_topology.cluster import ClusterServers
from redis_topology.servers import OneServer, Servers, open_client


def open_servers(address: RedisAddress) -> Servers:
    """Return the servers of ``address``; the caller closes them. Nothing is connected yet."""
    if address.topology is Topology.CLUSTER:
        return ClusterServers(address)
    return OneServer(open_client(address))
