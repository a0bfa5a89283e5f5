"""``nearby accounts``: what operators do about accounts, over the admin port of the API."""
