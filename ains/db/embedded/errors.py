"""What can go wrong with the embedded server. Each message says what is wrong and what to do."""

__all__ = [
    "BinariesNotFound",
    "DataDirUnusable",
    "EmbeddedError",
    "PortTaken",
    "StartFailed",
    "VersionMismatch",
]


class EmbeddedError(Exception):
    """The embedded PostgreSQL can't be used; the message is a sentence for a person."""


class BinariesNotFound(EmbeddedError):
    """No usable PostgreSQL programs are on this machine."""


class DataDirUnusable(EmbeddedError):
    """The data directory, or a directory above it, can't be used as it is."""


class VersionMismatch(EmbeddedError):
    """The cluster was made by another major version of PostgreSQL."""


class PortTaken(EmbeddedError):
    """The port that was asked for belongs to another program."""


class StartFailed(EmbeddedError):
    """initdb or the server gave up; the message ends with the last lines of its log."""
