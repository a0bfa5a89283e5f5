"""``nearby drain``: take gateways out of service, and watch it happen."""
