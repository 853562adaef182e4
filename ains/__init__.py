"""AINS: a registry of agents and a queue of tasks; the database keeps their metrics exact."""

__version__ = "0.1.0"
