"""Load tests with Locust; begin with docs/load-testing.md. ``locustfile.py`` wires the parts together."""
