"""A PostgreSQL of AINS's own, for when it is given none.

`EmbeddedPostgres.start` makes a cluster in a data directory, starts its server or joins the one
that runs there; `describe` tells about a data directory without touching it.

=================  =================================================================================
``server``         `EmbeddedPostgres`, the owner's view: start, watch, stop
``launch``         one start: find, make, lock, choose a port
``binaries``       where PostgreSQL's programs are
``privileges``     whose rights they run with, when we are root
``cluster``        the data directory, initdb, settings
``keeper``         the process that runs the server and outlives nobody
``layout``         the paths, the locks
``status``         `describe`, for `ains doctor`
``temporary``      data directories for tests
=================  =================================================================================
"""

from ains.db.embedded.binaries import Binaries, find_binaries
from ains.db.embedded.errors import (
    BinariesNotFound,
    DataDirUnusable,
    EmbeddedError,
    PortTaken,
    StartFailed,
    VersionMismatch,
)
from ains.db.embedded.layout import default_data_dir
from ains.db.embedded.server import EmbeddedPostgres
from ains.db.embedded.status import Status, describe
from ains.db.embedded.temporary import temporary_data_dir

__all__ = [
    "Binaries",
    "BinariesNotFound",
    "DataDirUnusable",
    "EmbeddedError",
    "EmbeddedPostgres",
    "PortTaken",
    "StartFailed",
    "Status",
    "VersionMismatch",
    "default_data_dir",
    "describe",
    "find_binaries",
    "temporary_data_dir",
]
