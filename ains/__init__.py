"""AINS: a registry of agents and a queue of tasks, whose metrics the database itself keeps exact."""

__version__ = "0.1.0"
