"""Servers that do the same fan-out as ``nearby``'s gateway, to be measured beside it in the same run.

Each of N users watches 40 others (:func:`benchmarks.targets.watched`). Somebody publishes entries on the users'
channels of a Redis or Valkey server; the reference sends each of them, as it came, to every socket whose user watches
that channel: one WebSocket text frame for one delivery. None computes distances, checks tokens or limits anything.
"""
