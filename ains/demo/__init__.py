"""A simulated population that uses the API as real agents and clients do: ``ains serve --demo``.

Everything goes through `ains.client` and HTTP; the demo knows nothing else of the server.
"""

from ains.demo.simulation import run

__all__ = ["run"]
