"""Redis and Valkey servers behind one address: a single one, a primary that Sentinels name, or a Cluster."""
