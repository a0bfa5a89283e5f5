"""Users, credentials, friendships, sharing switches and the change feed, over SQLAlchemy Core.

:func:`social_graph.graph.open_social_graph` opens it, ``python -m social_graph`` brings its database up to date.
"""
