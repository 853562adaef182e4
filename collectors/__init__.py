"""From Postgres to Prometheus: each scrape reads one snapshot of the database and renders it.

The package imports nothing of ``ains``: all it needs is a database with the ``metrics`` schema.
"""
