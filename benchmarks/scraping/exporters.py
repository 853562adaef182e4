"""Configurations of the exporters that Debian ships: the same families as custom queries."""

import json
from pathlib import Path
from typing import Final

from benchmarks.scraping.queries import QUERIES, Query

__all__ = ["POSTGRES_EXPORTER", "SQL_EXPORTER", "PostgresExporter", "SqlExporter"]

POSTGRES_EXPORTER: Final = "prometheus-postgres-exporter"
SQL_EXPORTER: Final = "prometheus-sql-exporter"


def _driver_url(url: str) -> str:
    """As Go's driver wants it."""
    return f"postgres://{url.partition('://')[2]}?sslmode=disable"


class PostgresExporter:
    """prometheus-postgres-exporter with these queries alone; it can do histograms."""

    def __init__(self, url: str, port: int, place: Path) -> None:
        """Write the configuration to ``place``."""
        queries = place / "queries.yaml"
        queries.write_text(json.dumps(_namespaces(), indent=2))  # JSON is YAML
        self.environment = {"DATA_SOURCE_NAME": _driver_url(url)}
        self.command = [
            POSTGRES_EXPORTER,
            *("--disable-default-metrics", "--disable-settings-metrics"),
            *("--no-collector.database", "--no-collector.bgwriter", "--log.level=error"),
            f"--extend.query-path={queries}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]


def _namespaces() -> dict[str, object]:
    """Its names are made of a namespace, which has one query, and the name of a column.

    What has no labels shares one.
    """
    single = {q.family.removeprefix("ains_"): q for q in QUERIES if not q.labels}
    together = ", ".join(f"({_columns(q, column)}) AS {column}_" for column, q in single.items())
    found: dict[str, object] = {
        "ains": {
            "query": f"SELECT * FROM {together}",
            "metrics": [_metric(column, query) for column, query in single.items()],
        }
    }
    for query in QUERIES:
        if query in single.values():
            continue
        words = query.family.split("_")
        splits = [("_".join(words[:c]), "_".join(words[c:])) for c in range(len(words) - 1, 0, -1)]
        namespace, column = next(
            (n, c) for n, c in splits if n not in found and c not in query.labels
        )
        metrics = [{label: {"usage": "LABEL", "description": label}} for label in query.labels]
        found[namespace] = {
            "query": _columns(query, column),
            "metrics": [*metrics, _metric(column, query)],
        }
    return found


def _metric(column: str, query: Query) -> dict[str, dict[str, str]]:
    return {column: {"usage": query.kind.upper(), "description": query.family}}


def _columns(query: Query, column: str) -> str:
    labels = "".join(f"{label}, " for label in query.labels)
    if query.kind != "histogram":
        return f'SELECT {labels}value AS "{column}" FROM ({query.sql}) AS q'
    bounds = ", ".join(map(str, map(float, query.bounds)))
    counts = ", ".join(f'"{le}"' for le in query.les[:-1])
    return (
        f'SELECT {labels}ARRAY[{bounds}]::float8[] AS "{column}", '
        f'ARRAY[{counts}] AS "{column}_bucket", '
        f'sum AS "{column}_sum", count AS "{column}_count" FROM ({query.grouped}) AS q'
    )


class SqlExporter:
    """prometheus-sql-exporter, which asks on a schedule, here once, and answers from memory.

    It knows gauges only: a histogram is one of them for each bound, sum and count.
    """

    def __init__(self, url: str, port: int, place: Path) -> None:
        """Write the configuration to ``place``."""
        config = place / "sql_exporter.yml"
        config.touch(mode=0o600)  # there is a password in it
        config.write_text(
            json.dumps(
                {
                    "jobs": [
                        {
                            "name": "bench",
                            "interval": "24h",
                            "connections": [_driver_url(url)],
                            "queries": [_job(query) for query in QUERIES],
                        }
                    ]
                },
                indent=2,
            )
        )
        self.environment = {"CONFIG": str(config), "LOGLEVEL": "debug"}
        self.command = [
            SQL_EXPORTER,
            f"-config.file={config}",
            f"-web.listen-address=127.0.0.1:{port}",
        ]


def _job(query: Query) -> dict[str, object]:
    histogram = query.kind == "histogram"
    return {
        "name": query.family,
        "help": query.family,
        "labels": list(query.labels),
        "values": [*query.les, "sum", "count"] if histogram else ["value"],
        "query": query.grouped if histogram else query.sql,
        "allow_zero_rows": True,
    }
