"""``nearby ring``: look at the pub/sub ring and change it, over the admin API of a ring keeper."""
