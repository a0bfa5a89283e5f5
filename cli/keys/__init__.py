"""``nearby keys``: the keys that sign access tokens, put in and taken out without logging anybody out."""
