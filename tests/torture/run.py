"""One run: history passes, whatever may happen does, and somebody looks all the time."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import aiohttp
import asyncpg

from ains.metrics import database_collectors
from collectors.connection import pool_maker
from collectors.scrape import Scraper
from collectors.verify import Difference, verify
from tests.support.databases import eventually
from tests.support.load import Load
from tests.support.retention import LEDGERS, count, fold
from tests.support.scraped import total
from tests.torture.crew import Crew
from tests.torture.judge import Judge, of, over_http
from tests.torture.record import disagreements
from tests.torture.upkeep import upkeep
from tests.torture.world import DAYS, World, world

_SLOTS = 3
_SECONDS = 400.0

_PARTITIONS_LEFT = """
SELECT count(*) FROM metrics.ledger_partitions() AS p WHERE p.from_at < now() - interval '1 day'
"""

Breaking = Callable[[asyncpg.Connection], Awaitable[None]]


@dataclass
class Verdict:
    """What came of a run."""

    seed: int
    facts: int = 0
    """Written, by all ledgers together."""
    kept: int = 0
    """Of these, not pruned."""
    dropped: int = 0
    """Partitions."""
    rotations: int = 0
    seconds: float = 0.0
    scrapes: dict[str, Counter[str]] = field(default_factory=dict)
    """By place, and by what had happened last."""
    complaints: list[str] = field(default_factory=list)
    """Of those who looked on."""
    differences: Sequence[Difference] = ()
    """What verification found at the end."""
    disagreements: list[str] = field(default_factory=list)
    """Between the last scrape and the records of what was done."""


async def torture(seed: int, facts: int, breaking: Breaking | None = None) -> Verdict:
    """Torture a world until that many facts have been written, or somebody complains."""
    started = monotonic()
    verdict = Verdict(seed)
    try:
        async with asyncio.timeout(_SECONDS), world(facts) as tortured:
            if breaking is not None:
                await tortured.change(breaking)
            async with _going(tortured, seed) as run:
                await run.until(facts)
                await run.end()
                await run.conclude(verdict)
    except BaseException as error:
        error.add_note(f"AINS_TEST_TORTURE_SEED={seed}")
        raise
    verdict.seconds = monotonic() - started
    return verdict


class _Run:
    """Everybody who has a part in it."""

    def __init__(
        self, tortured: World, rng: random.Random, crew: Crew, load: Load, judges: list[Judge]
    ) -> None:
        self.world = tortured
        self.rng = rng
        self.crew = crew
        self.load = load
        self.judges = judges
        self.background: list[asyncio.Task[None]] = []

    @property
    def complaints(self) -> list[str]:
        return [complaint for judge in self.judges for complaint in judge.complaints]

    def plan(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What happens to the world, one after the other, each as many facts after the last."""
        happens = {
            "a service killed": self._kill_service,
            "a service restarted": self._restart_service,
            "the database killed": self.world.kill_database,
            "the database restarted": self.world.restart_database,
            "a writer killed": self._kill_writer,
            "another writer killed": self._kill_writer,
            "ains prune": self._prune,
            "a rotation": self._rotate,
        }
        before, after = list(happens.items()), list(happens.items())
        after.append(("ains metrics verify", self._verify))
        self.rng.shuffle(before)
        self.rng.shuffle(after)
        return [
            *before,
            ("the promotion", self.world.promote),
            *((f"{name} after the promotion", happen) for name, happen in after),
        ]

    async def until(self, facts: int) -> None:
        """Have everything happen while so many facts are written; ends early with a complaint."""
        plan = self.plan()
        share = facts // (len(plan) + 1)
        for number, (name, happen) in enumerate(plan, 1):
            # Writers go on meanwhile, but not without end, however slow the machine is.
            self.world.wanted = share * (number + 1)
            await self._written(share * number)
            if self.complaints:
                return
            await happen()
            for judge in self.judges:
                judge.phase = name
            for judge in self.judges:
                await judge.has_seen(name)
        self.world.wanted = facts
        await self._written(facts)

    async def _written(self, facts: int) -> None:
        while not self.complaints and self.world.facts < facts:
            self.crew.assert_writing()
            for task in self.background:
                assert not task.done(), task.result()
            await asyncio.sleep(0.1)

    async def _kill_service(self) -> None:
        await self.world.kill_service()
        await self.world.start_service()

    async def _restart_service(self) -> None:
        await self.world.stop_service()
        await self.world.start_service()

    async def _kill_writer(self) -> None:
        await self.crew.replace(self.rng)

    async def _rotate(self) -> None:
        """Upkeep tries, too, but hardly ever finds all writers out of the way."""

        async def rotated() -> object:
            return await self.world.fetchval("SELECT metrics.rotate()::integer")

        await eventually(rotated, 60)

    async def _prune(self) -> None:
        done = await self.world.run("prune")
        assert done.returncode == 0, done.stdout + done.stderr

    async def _verify(self) -> None:
        """While everything goes on."""
        done = await self.world.run("metrics", "verify")
        assert done.returncode == 0, done.stdout + done.stderr

    async def end(self) -> None:
        """Nobody writes any more; who looks, looks for the last time, when all has arrived."""
        await self.crew.stop()
        await self.load.finish()
        await self.cease()
        await self.judges[0].look()
        await self.world.stop_service()
        if self.world.primary is not self.world.standby:
            await self.world.standby.wait_for_replay_of(self.world.primary)
        await self.judges[1].look()

    async def cease(self) -> None:
        """Nobody looks, and nobody keeps the database up."""
        working = set(self.background)
        while working:
            # Again: where a wait ends at the same moment, a cancellation can get lost.
            for task in working:
                task.cancel()
            _, working = await asyncio.wait(working, timeout=1)

    async def conclude(self, verdict: Verdict) -> None:
        """What do the records say, and what verification, before and after the last fold?"""
        last = self.judges[1].last
        verdict.scrapes = {judge.place: judge.scrapes for judge in self.judges}
        verdict.complaints = self.complaints
        db = await asyncpg.connect(self.world.url)
        try:
            verdict.facts = await db.fetchval("SELECT sum(n)::bigint FROM torture.facts")
            verdict.kept = sum([await count(db, ledger) for ledger in LEDGERS])
            verdict.dropped = len(LEDGERS) * len(DAYS) - await db.fetchval(_PARTITIONS_LEFT)
            verdict.rotations = await db.fetchval("SELECT rotations FROM metrics.fold_state")
            verdict.disagreements = await disagreements(db, last)
            accepted, shown = len(self.load.accepted), "ains_tasks_created_total"
            if total(last, shown, task_type="load") < accepted:
                verdict.disagreements.append(f"{accepted} tasks were accepted over HTTP")
            found = list((await verify(db, database_collectors())).differences)
            await fold(db)
            verdict.differences = found + (await verify(db, database_collectors())).differences
        finally:
            await db.close()


@asynccontextmanager
async def _going(tortured: World, seed: int) -> AsyncIterator[_Run]:
    """Start everybody; whoever is left at the end, ends."""
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        )
        scraper = Scraper(pool_maker(tortured.standby.dsn), database_collectors())
        stack.push_async_callback(scraper.close)
        crew = Crew(tortured.url, seed)
        stack.callback(crew.close)
        load = Load([tortured.service], agents=1, clients=1, pause=0.1)
        await stack.enter_async_context(load.running())
        judges = [
            Judge("the service", over_http(http, f"{tortured.service}/metrics")),
            Judge("the standby", of(scraper)),
        ]
        run = _Run(tortured, rng, crew, load, judges)
        work = [tortured.time(), *(judge.watch(0.02) for judge in judges)]
        work += [upkeep(tortured.url, random.Random(f"{seed} {n}")) for n in range(2)]
        run.background = [asyncio.create_task(one) for one in work]
        stack.push_async_callback(run.cease)
        for slot in range(_SLOTS):
            crew.start(slot)
        yield run
