"""Publish and subscribe over a consistent-hash ring of Redis servers."""
