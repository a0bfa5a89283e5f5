"""``nearby explain``: why somebody does or does not see a friend."""
