"""Where Alembic starts: run the migrations on the connection that :mod:`social_graph.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from social_graph.rights_schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
