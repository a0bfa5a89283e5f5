"""The last known location of each user, in Redis."""
