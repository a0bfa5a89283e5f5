"""A real node takes the configuration of Cassandra that the manifests have."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.support.cassandra import QUICK_TO_START, CassandraNode
from tests.support.manifests import rendered

ITS_OWN_HERE = {
    # Where the node listens and keeps things, which the test's own configuration says.
    *("native_transport_port", "storage_port", "seed_provider"),
    *("data_file_directories", "commitlog_directory", "saved_caches_directory", "hints_directory"),
    # It is one node alone, with a token of its own.
    *("num_tokens", "allocate_tokens_for_local_replication_factor"),
}


@pytest.mark.xdist_group("cassandra")
def test_a_node_starts_with_it_in_the_datacenter_that_the_keyspace_is_made_for(tmp_path: Path) -> None:
    manifests = rendered("production")
    (name,) = (name for name in manifests.of("ConfigMap") if name.startswith("nearby-cassandra-files"))
    files = manifests.config(name)
    settings = yaml.safe_load(files["cassandra.yaml"])
    assert settings.keys() >= ITS_OWN_HERE
    place = tmp_path / "cassandra-rackdc.properties"
    place.write_text(files["cassandra-rackdc.properties"])
    jvm = (*QUICK_TO_START, f"-Dcassandra-rackdc.properties=file://{place}")
    own = {key: str(value) for key, value in settings.items() if key not in ITS_OWN_HERE}
    with closing(CassandraNode(jvm=jvm, yaml=own)) as node:
        node.start()
        ((datacenter, cluster),) = node.query("SELECT data_center, cluster_name FROM system.local")
    replication = next(manifests.config(name) for name in manifests.of("ConfigMap") if name.startswith("nearby-init"))
    assert replication["NEARBY_CASSANDRA_REPLICATION"] == f"{datacenter}=3"
    assert cluster == "nearby"
