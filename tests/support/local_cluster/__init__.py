"""Runs the pods of an overlay on this machine: the same commands, variables and files, and an address for each pod.

Cassandra and PostgreSQL are given by the caller. What a cluster does beside running containers (DNS, volumes, probes,
``preStop``, restarts) is done here, as far as the processes can tell.
"""
