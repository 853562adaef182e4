"""What the catalog says of each family beyond its help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["EXAMPLES", "LABELS", "MEANINGS"]

MEANINGS: Final[Mapping[str, str]] = {
    "ains_tasks_created_total": "Tasks that were accepted, by whichever door: both POST "
    "routes, a batch, a step of a chain, an INSERT in psql.",
    "ains_tasks_completed_total": "Tasks that reached COMPLETED. A task that is reopened and "
    "completed again counts twice.",
    "ains_tasks_failed_total": "Tasks that reached FAILED and are not tried again. An attempt that "
    "is retried counts as a retry, not here.",
    "ains_task_retries_total": "Attempts that failed and were put back into the queue, by which "
    "retry of its task this was.",
    "ains_task_timeouts_total": "Attempts that ran into timeout_seconds, retried or not.",
    "ains_tasks_cancelled_total": "Tasks that reached CANCELLED. A task that is deleted before it "
    "ended counts as cancelled too.",
    "ains_tasks_reopened_total": "Tasks that had ended and went back to PENDING: by a manual "
    "retry, or an UPDATE in psql.",
    "ains_task_duration_seconds": "From the start of the final attempt to its end, for tasks that "
    "reached COMPLETED or FAILED. Waiting is not in it.",
    "ains_task_queue_seconds": "How long a task waited for an agent: from its creation, or from "
    "the moment its retry was due, to its assignment.",
    "ains_tasks_in_queue": "Tasks that are PENDING, those that wait for another task included. "
    "All ten priorities are always there.",
    "ains_tasks_in_flight": "Tasks that an agent has: given to it (ASSIGNED) or at work (ACTIVE).",
    "ains_tasks_blocked": "PENDING tasks that wait for a task they depend on. They are counted in "
    "the queue as well.",
    "ains_task_oldest_pending_timestamp_seconds": "When the oldest task was created that could be "
    "assigned now. Absent while there is none.",
    "ains_agents_total": "Agents that are registered, whatever their status. A gauge in spite of "
    "its name, which old dashboards use.",
    "ains_agents_active": "Agents that are AVAILABLE or BUSY and were heard of within "
    "AINS_AGENT_TTL. Falls by itself when heartbeats stop.",
    "ains_agent_trust_score": "Trust of each agent, from 0 to 1; it rises with completed tasks and "
    "falls with failed ones.",
    "ains_agent_tasks_completed_total": "Tasks completed by each agent: "
    "ains_tasks_completed_total, summed over task types.",
    "ains_agent_tasks_failed_total": "Tasks that failed for good in the hands of each agent.",
    "ains_agents_by_status": "Agents by their status. All statuses are always there.",
    "ains_chains_total": "Chains that have entered each status. PENDING is all that were created.",
    "ains_chain_steps_total": "Steps of chains that have entered each status.",
    "ains_chain_duration_seconds": "From the start of a chain's first step to the end of the "
    "chain.",
    "ains_chains_active": "Chains that have not ended: PENDING or RUNNING.",
    "ains_webhook_deliveries_total": "Deliveries that came to their end: the receiver took them, "
    "or all attempts were used up.",
    "ains_webhook_delivery_duration_seconds": "Time of each HTTP attempt, from the request to the "
    "response or the error.",
    "ains_webhook_attempts_total": "HTTP attempts, by how they went. A delivery may take several.",
    "ains_webhook_deliveries_pending": "Deliveries that are still to be made, or tried again.",
    "ains_http_requests_total": "Requests that were answered. Scrapes of /metrics are left out; a "
    "client that went away before its answer counts with status code 499.",
    "ains_http_request_duration_seconds": "From a request's arrival until its response was ready "
    "to be sent.",
    "ains_http_requests_in_progress": "Requests that are being handled at this moment.",
    "ains_db_connections_active": "Connections of this process's pool that are in use. One of them "
    "is for writes that are sent together; when all others are in use, requests begin to wait.",
    "ains_db_connections_idle": "Connections of this process's pool that are open and free.",
    "ains_db_connections_max": "How many connections this process's pool may have: AINS_POOL_MAX.",
    "ains_db_queries_total": "Statements that this process sent to the database, by kind and main "
    "table. Scrapes have connections of their own and are left out.",
    "ains_db_query_duration_seconds": "Time from sending a statement to having its answer.",
    "ains_application_info": "Always 1; its labels say what is running.",
    "ains_up": "Whether the database answered this scrape. While it is 0, all families from the "
    "database are absent: neither stale nor zero.",
    "ains_scrape_collector_success": "Whether each collector could read its families. One that "
    "fails leaves the others untouched.",
    "ains_scrape_collector_duration_seconds": "What each collector added to the time of this "
    "scrape.",
    "ains_scrape_ledger_open_events": "Facts that were not folded into the totals yet, so that "
    "this scrape had to add them. Grows when no worker folds.",
    "ains_scrape_ledger_folded_timestamp_seconds": "When a worker last folded open facts into the "
    "totals, or found that there were none.",
    "ains_scrape_database_replication_lag_seconds": "How far the database that was scraped is "
    "behind its primary. 0 on a primary.",
    "ains_scrape_merged_label_values": "Values that came after a label had reached "
    "AINS_METRICS_LABEL_LIMIT. Their facts count under other, and go on doing so.",
}
"""By family; says what the help has no room for."""

LABELS: Final[Mapping[str, str]] = {
    "task_type": "Kind of work, as the client named it",
    "client_id": "Who submitted the task",
    "agent_id": "The agent; empty when there was none",
    "label": "A label whose values come from outside",
    "ains_agent_trust_score.agent_id": "The agent",
    "ains_agent_tasks_completed_total.agent_id": "The agent",
    "ains_agent_tasks_failed_total.agent_id": "The agent",
    "failure_reason": "Code: agent_error, timeout, expired, agent_lost, dependency_failed, "
    "unknown, or the agent's own",
    "retry_count": "Which retry of its task this was, from 1",
    "priority": "1 (last) to 10 (first)",
    "status": "Status, in upper case as in the API",
    "ains_webhook_deliveries_total.status": "success or failed",
    "display_name": "The agent's name for people",
    "step_status": "RUNNING, COMPLETED, FAILED or CANCELLED",
    "chain_status": "COMPLETED, FAILED or CANCELLED",
    "event_type": "What was told, for example task.completed",
    "outcome": "success, http_error, timeout, connect_error or blocked",
    "method": "HTTP method; what no standard knows shares one value",
    "endpoint": "The route, such as /aitp/tasks/{task_id}; unmatched for paths without one",
    "status_code": "HTTP status of the answer",
    "query_type": "SELECT, INSERT, UPDATE, DELETE or OTHER",
    "table": "The statement's main table",
    "version": "Version of AINS",
    "environment": "AINS_ENVIRONMENT",
    "name": "Name of the service",
    "collector": "tasks, agents, chains or webhooks",
}
"""By label; one that means something else in a family by ``family.label``."""

_P95: Final = "histogram_quantile(0.95, sum by (le{by}) (rate({name}_bucket[5m])))"

EXAMPLES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "ains_tasks_created_total": (
        (
            "Tasks per second, by type",
            "sum by (task_type) (rate(ains_tasks_created_total[5m]))",
        ),
        (
            "The clients that submitted most today",
            "topk(5, sum by (client_id) (increase(ains_tasks_created_total[1d])))",
        ),
    ),
    "ains_tasks_completed_total": (
        ("Completed per second", "sum(rate(ains_tasks_completed_total[5m]))"),
        (
            "Share of tasks that end well",
            (
                "sum(rate(ains_tasks_completed_total[1h]))"
                " / (sum(rate(ains_tasks_completed_total[1h]))"
                " + sum(rate(ains_tasks_failed_total[1h])))"
            ),
        ),
    ),
    "ains_tasks_failed_total": (
        (
            "Why tasks fail",
            "sum by (failure_reason) (increase(ains_tasks_failed_total[1h]))",
        ),
    ),
    "ains_task_retries_total": (
        (
            "Retries for each task created",
            "sum(rate(ains_task_retries_total[1h])) / sum(rate(ains_tasks_created_total[1h]))",
        ),
    ),
    "ains_task_timeouts_total": (
        (
            "Types that time out",
            "topk(5, sum by (task_type) (increase(ains_task_timeouts_total[1h]))) > 0",
        ),
    ),
    "ains_tasks_cancelled_total": (
        (
            "Cancelled in the last hour, by type",
            "sum by (task_type) (increase(ains_tasks_cancelled_total[1h]))",
        ),
    ),
    "ains_tasks_reopened_total": (
        ("Reopened today", "sum(increase(ains_tasks_reopened_total[1d]))"),
    ),
    "ains_task_duration_seconds": (
        (
            "95th percentile, by type",
            _P95.format(by=", task_type", name="ains_task_duration_seconds"),
        ),
        (
            "Mean",
            (
                "sum(rate(ains_task_duration_seconds_sum[5m]))"
                " / sum(rate(ains_task_duration_seconds_count[5m]))"
            ),
        ),
    ),
    "ains_task_queue_seconds": (
        ("95th percentile of waiting", _P95.format(by="", name="ains_task_queue_seconds")),
        (
            "Share that waited a second at most",
            (
                'sum(rate(ains_task_queue_seconds_bucket{le="1.0"}[5m]))'
                " / sum(rate(ains_task_queue_seconds_count[5m]))"
            ),
        ),
    ),
    "ains_tasks_in_queue": (
        ("Length of the queue", "sum(ains_tasks_in_queue)"),
        ("Urgent tasks that wait", 'sum(ains_tasks_in_queue{priority=~"[89]|10"})'),
    ),
    "ains_tasks_in_flight": (
        ("At work now", 'ains_tasks_in_flight{status="ACTIVE"}'),
        (
            "How long until the queue is empty, in seconds",
            "sum(ains_tasks_in_queue) / sum(rate(ains_tasks_completed_total[10m]))",
        ),
    ),
    "ains_tasks_blocked": (
        (
            "Share of the queue that is blocked",
            "sum(ains_tasks_blocked) / sum(ains_tasks_in_queue)",
        ),
    ),
    "ains_task_oldest_pending_timestamp_seconds": (
        (
            "Age of the oldest task that could run",
            "time() - ains_task_oldest_pending_timestamp_seconds",
        ),
    ),
    "ains_agents_total": (("Registered but not active", "ains_agents_total - ains_agents_active"),),
    "ains_agents_active": (("Alert: nobody works", "ains_agents_active == 0"),),
    "ains_agent_trust_score": (("The least trusted", "bottomk(5, ains_agent_trust_score)"),),
    "ains_agent_tasks_completed_total": (
        (
            "Who completes most",
            "topk(5, rate(ains_agent_tasks_completed_total[1h]))",
        ),
    ),
    "ains_agent_tasks_failed_total": (
        (
            "Agents that fail more than a tenth",
            (
                "rate(ains_agent_tasks_failed_total[1h])"
                " > 0.1 * rate(ains_agent_tasks_completed_total[1h])"
            ),
        ),
    ),
    "ains_agents_by_status": (("Lost or signed off", 'ains_agents_by_status{status="INACTIVE"}'),),
    "ains_chains_total": (
        (
            "Share of chains that fail",
            (
                'increase(ains_chains_total{status="FAILED"}[1d])'
                ' / ignoring(status) increase(ains_chains_total{status="PENDING"}[1d])'
            ),
        ),
    ),
    "ains_chain_steps_total": (
        ("Steps completed per second", 'rate(ains_chain_steps_total{step_status="COMPLETED"}[5m])'),
    ),
    "ains_chain_duration_seconds": (
        ("95th percentile", _P95.format(by="", name="ains_chain_duration_seconds")),
    ),
    "ains_chains_active": (("Chains that run or wait", "ains_chains_active"),),
    "ains_webhook_deliveries_total": (
        (
            "Deliveries given up",
            'sum by (event_type) (increase(ains_webhook_deliveries_total{status="failed"}[1h]))',
        ),
    ),
    "ains_webhook_delivery_duration_seconds": (
        (
            "95th percentile, by event",
            _P95.format(by=", event_type", name="ains_webhook_delivery_duration_seconds"),
        ),
    ),
    "ains_webhook_attempts_total": (
        (
            "Why attempts fail",
            'sum by (outcome) (rate(ains_webhook_attempts_total{outcome!="success"}[5m]))',
        ),
    ),
    "ains_webhook_deliveries_pending": (
        ("Alert: deliveries pile up", "ains_webhook_deliveries_pending > 1000"),
    ),
    "ains_http_requests_total": (
        ("Requests per second, by route", "sum by (endpoint) (rate(ains_http_requests_total[5m]))"),
        (
            "Share of server errors",
            (
                'sum(rate(ains_http_requests_total{status_code=~"5.."}[5m]))'
                " / sum(rate(ains_http_requests_total[5m]))"
            ),
        ),
    ),
    "ains_http_request_duration_seconds": (
        (
            "99th percentile, by route",
            (
                "histogram_quantile(0.99, sum by (le, endpoint)"
                " (rate(ains_http_request_duration_seconds_bucket[5m])))"
            ),
        ),
    ),
    "ains_http_requests_in_progress": (
        ("In progress, by instance", "sum by (instance) (ains_http_requests_in_progress)"),
    ),
    "ains_db_connections_active": (
        (
            "How full the pool is",
            "ains_db_connections_active / ains_db_connections_max",
        ),
    ),
    "ains_db_connections_idle": (("Idle, by instance", "ains_db_connections_idle"),),
    "ains_db_connections_max": (("Of all instances", "sum(ains_db_connections_max)"),),
    "ains_db_queries_total": (
        (
            "The busiest tables",
            "topk(5, sum by (table, query_type) (rate(ains_db_queries_total[5m])))",
        ),
    ),
    "ains_db_query_duration_seconds": (
        (
            "99th percentile, by kind",
            (
                "histogram_quantile(0.99, sum by (le, query_type)"
                " (rate(ains_db_query_duration_seconds_bucket[5m])))"
            ),
        ),
    ),
    "ains_application_info": (("Versions that run", "count by (version) (ains_application_info)"),),
    "ains_up": (("Alert: the database is away", "ains_up == 0"),),
    "ains_scrape_collector_success": (
        ("Alert: a collector fails", "ains_scrape_collector_success == 0"),
    ),
    "ains_scrape_collector_duration_seconds": (
        ("The slowest collector", "topk(1, ains_scrape_collector_duration_seconds)"),
    ),
    "ains_scrape_ledger_open_events": (
        ("Alert: nobody folds", "ains_scrape_ledger_open_events > 100000"),
    ),
    "ains_scrape_ledger_folded_timestamp_seconds": (
        ("Seconds since the last fold", "time() - ains_scrape_ledger_folded_timestamp_seconds"),
    ),
    "ains_scrape_database_replication_lag_seconds": (
        ("Alert: old numbers", "ains_scrape_database_replication_lag_seconds > 60"),
    ),
    "ains_scrape_merged_label_values": (
        ("Alert: a label has too many values", "ains_scrape_merged_label_values > 0"),
    ),
}
"""Questions and the PromQL that answers them, by family."""
