"""Who lives in the demo: agents, clients and the work they exchange. Data only."""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["AGENTS", "CLIENTS", "KINDS", "AgentProfile", "ClientProfile", "Habit", "Kind"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work: ``seconds`` is the median an average agent needs, ``timeout`` the limit."""

    task_type: str
    capability: str
    seconds: float
    timeout: int
    retries: int = 2
    retry_policy: Literal["exponential", "linear", "fixed"] = "exponential"
    strategy: Literal["round_robin", "least_loaded", "trust_weighted", "fastest_response"] = (
        "round_robin"
    )


KINDS: Final = (
    Kind("article_summary", "summarize", 0.8, 20, strategy="least_loaded"),
    Kind("ticket_triage", "classify", 0.25, 5, strategy="fastest_response"),
    Kind("sentiment", "classify", 0.15, 5),
    Kind("translation", "translate", 1.2, 20),
    Kind("image_caption", "vision", 2.0, 30, strategy="trust_weighted"),
    Kind("call_transcript", "transcribe", 6.0, 60, strategy="least_loaded"),
    Kind("sales_report", "sql", 1.5, 30, retry_policy="linear"),
    Kind("web_research", "web-search", 2.5, 6, retries=1, strategy="trust_weighted"),
    Kind("code_review", "code-review", 8.0, 120, retry_policy="fixed"),
    Kind("invoice_scan", "ocr", 1.0, 15),
)

Habit = Literal["steady", "naps", "vanishes"]


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """An agent: ``pace`` multiplies a kind's seconds, ``failures`` and ``hangs`` are chances.

    A *steady* agent is always there, one that *naps* stops taking work now and then, one that
    *vanishes* falls silent for longer than the agent TTL and comes back.
    """

    agent_id: str
    display_name: str
    capabilities: tuple[str, ...]
    pace: float = 1.0
    failures: float = 0.03
    hangs: float = 0.002
    reasons: tuple[str, ...] = ("model_overloaded", "rate_limited")
    hands: int = 4
    habit: Habit = "steady"
    tags: tuple[str, ...] = ()
    description: str = ""


AGENTS: Final = (
    AgentProfile("lexi-eu-1", "Lexi (Frankfurt)", ("summarize", "translate"), 0.9, 0.02),
    AgentProfile("lexi-us-1", "Lexi (Virginia)", ("summarize", "translate"), 1.1, 0.03),
    AgentProfile("polyglot-7b", "Polyglot 7B", ("translate",), 0.6, 0.12, 0.01),
    AgentProfile(
        "sorting-hat", "Sorting Hat", ("classify",), 0.5, 0.01, hands=8, tags=("fast", "cheap")
    ),
    AgentProfile("triage-bot-2", "Triage Bot", ("classify",), 1.6, 0.06),
    AgentProfile("argus-vision-a", "Argus Vision A", ("vision",), 1.0, 0.04, tags=("gpu",)),
    AgentProfile(
        "argus-vision-b",
        "Argus Vision B",
        ("vision",),
        0.7,
        0.15,
        0.01,
        reasons=("out_of_memory", "bad_image"),
        tags=("gpu",),
    ),
    AgentProfile(
        "stenographer",
        "Stenographer",
        ("transcribe",),
        1.0,
        0.05,
        reasons=("bad_audio", "agent_error"),
        hands=8,
    ),
    AgentProfile(
        "data-clerk-1", "Data Clerk", ("sql",), 1.0, 0.05, reasons=("query_timeout", "bad_schema")
    ),
    AgentProfile(
        "night-analyst", "Night Analyst", ("sql", "summarize"), 1.5, 0.03, habit="naps", hands=3
    ),
    AgentProfile(
        "scout-crawler",
        "Scout Crawler",
        ("web-search",),
        1.0,
        0.10,
        0.06,
        reasons=("http_error", "captcha", "agent_error"),
        hands=6,
    ),
    AgentProfile("nomad-crawler", "Nomad Crawler", ("web-search",), 0.8, 0.05, habit="vanishes"),
    AgentProfile("linus-reviewer", "Linus the Reviewer", ("code-review",), 1.3, 0.01, hands=6),
    AgentProfile(
        "intern-reviewer", "Intern Reviewer", ("code-review",), 0.8, 0.30, reasons=("confused",)
    ),
    AgentProfile(
        "paperless-ocr", "Paperless OCR", ("ocr",), 1.0, 0.04, habit="naps", tags=("documents",)
    ),
)


@dataclass(frozen=True, slots=True)
class ClientProfile:
    """A client: mean tasks per second, what it asks for, and how.

    One that is not ``registered`` uses POST /ains/tasks, the others POST /aitp/tasks; a ``batch``
    above 1 is how many it submits together. ``fickle`` is the chance that it cancels a task.
    """

    client_id: str
    display_name: str
    task_types: tuple[str, ...]
    rate: float
    registered: bool = True
    batch: int = 1
    fickle: float = 0.02
    priorities: tuple[int, ...] = (3, 5, 5, 5, 7)


CLIENTS: Final = (
    ClientProfile("newsroom", "Newsroom", ("article_summary", "translation"), 1.2),
    ClientProfile(
        "helpdesk", "Help Desk", ("ticket_triage", "sentiment"), 2.0, False, priorities=(5, 8, 9)
    ),
    ClientProfile(
        "photo-archive", "Photo Archive", ("image_caption",), 0.8, batch=12, priorities=(1, 2)
    ),
    ClientProfile("callcenter", "Call Center", ("call_transcript", "sentiment"), 0.6, False),
    ClientProfile("bi-dashboard", "BI Dashboard", ("sales_report",), 0.5, fickle=0.1),
    ClientProfile("research-desk", "Research Desk", ("web_research",), 0.7, fickle=0.08),
    ClientProfile("ci-pipeline", "CI Pipeline", ("code_review",), 0.3, False, priorities=(6, 10)),
    ClientProfile("back-office", "Back Office", ("invoice_scan",), 0.5, batch=5),
)
