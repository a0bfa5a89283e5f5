"""The routes of the public port, one module per resource."""
