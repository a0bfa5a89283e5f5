"""The REST API: the public port, and the internal one for gateways. It alone touches the user database."""
