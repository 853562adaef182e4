"""The ledgers counted again from their facts, and what it says about each task."""

import asyncpg

_RECOUNT = """
WITH again AS (
    SELECT c.family, c.label_1, c.label_2, c.bucket, sum(c.n) AS n, sum(c.sum_us) AS sum_us
      FROM (SELECT * FROM metrics.task_contributions(
                ARRAY(SELECT ROW (e.*)::public.task_events_open
                        FROM (SELECT * FROM public.task_events_open
                               UNION ALL
                              SELECT * FROM public.task_events_closed) AS e))
             UNION ALL
            SELECT * FROM metrics.chain_contributions(
                ARRAY(SELECT ROW (e.*)::public.chain_events_open FROM public.chain_events AS e))
             UNION ALL
            SELECT * FROM metrics.webhook_contributions(
                ARRAY(SELECT ROW (e.*)::public.webhook_events_open FROM public.webhook_events AS e))
           ) AS c
     GROUP BY 1, 2, 3, 4
)
SELECT family, label_1, label_2, bucket, a.n AS again, s.n AS shown
  FROM again AS a
  FULL JOIN metrics.series AS s USING (family, label_1, label_2, bucket)
 WHERE (a.n, a.sum_us) IS DISTINCT FROM (s.n, s.sum_us)
"""

# Every task has entered each status once more than it left it if that is where it is, else equally
# often. A task that two dispatchers assign has left PENDING once too often.
_IMPOSSIBLE = """
SELECT m.task_id, m.status, sum(m.change) AS balance
  FROM (SELECT task_id, to_status AS status, 1 AS change FROM public.task_events
        UNION ALL
        SELECT task_id, from_status, -1 FROM public.task_events WHERE from_status <> '') AS m
  LEFT JOIN public.tasks AS t USING (task_id)
 GROUP BY m.task_id, m.status, t.status
HAVING sum(m.change) <> (m.status = t.status)::integer
"""


async def differences(db: asyncpg.Connection) -> list[str]:
    """Series whose value is not what a recount of the facts gives."""
    return [str(row) for row in await db.fetch(_RECOUNT)]


async def impossible_histories(db: asyncpg.Connection) -> list[str]:
    """Tasks whose facts can't have happened: assigned twice without a requeue, for example."""
    return [str(row) for row in await db.fetch(_IMPOSSIBLE)]
