"""PostgreSQL in a container, for AINS_TEST_POSTGRES=docker.

Needs a Docker daemon on this machine and nothing from a registry: an image that is missing is made
by :mod:`tests.support.docker_image`.
"""

import secrets
from collections.abc import Callable

from docker.errors import ImageNotFound
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import ExecWaitStrategy

from tests.support.docker_image import DEFAULT_IMAGE, build_image

_PORT = 5432
_STARTUP_SECONDS = 60
# What the tests check is not whether a disk keeps its promises.
_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=200")
_COMMAND = ["postgres", *(word for setting in _SETTINGS for word in ("-c", setting))]


def start_container(image: str = DEFAULT_IMAGE) -> tuple[str, Callable[[], None]]:
    """Run a throwaway PostgreSQL server, reachable from this machine only.

    Args:
        image: ours, made when missing, or any image of the official ``postgres`` repository that
            the daemon has.

    Returns:
        The DSN of a superuser in the database ``postgres``, and a function that removes the
        container and everything in it.

    Raises:
        docker.errors.DockerException: there is no daemon, or it refused.
        TimeoutError: the server did not answer within a minute; carries its log as a note.
    """
    # Ryuk, which would remove the container of a killed test run, is an image from a registry.
    testcontainers_config.ryuk_disabled = True
    testcontainers_config.connection_mode_override = ConnectionMode.docker_host
    password = secrets.token_hex(16)
    container = (
        DockerContainer(image, env={"POSTGRES_PASSWORD": password})
        .with_command(_COMMAND)
        .waiting_for(
            # By TCP: the official image initialises itself behind a Unix socket first.
            ExecWaitStrategy(["pg_isready", "-h", "127.0.0.1"])
            .with_startup_timeout(_STARTUP_SECONDS)
            .with_poll_interval(0.1)
        )
    )
    container.ports = {f"{_PORT}/tcp": ("127.0.0.1", None)}  # type: ignore[dict-item]  # docker-py's own form
    client = container.get_docker_client().client
    try:
        client.images.get(image)
    except ImageNotFound:
        if image == DEFAULT_IMAGE:
            build_image(client)
    try:
        container.start()
    except BaseException:
        container.stop()
        raise
    port = container.get_exposed_port(_PORT)
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres", container.stop
