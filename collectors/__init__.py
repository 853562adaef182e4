"""From Postgres to Prometheus: each scrape reads one snapshot of the database and renders it.

The package imports nothing of ``ains``: it needs a database with the ``metrics`` schema, nothing else.
"""
