"""``nearby gateways``: what each gateway is doing; and the way to the admin ports, shared with ``nearby drain``."""
