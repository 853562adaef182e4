-- Lists of tasks, newest first. One statement for each index that a filter can lead by; every index
-- continues with (status, created_at, task_id), so that a page is read off the end of at most six ranges of
-- it and the total from the index alone, however many tasks there are.
--
-- $1 statuses, $2 and $3 created_at and task_id of the last task seen (NULL on the first page), $4 limit,
-- $5 offset, $6 how far to count, $7 ... the filters. One row more than the limit tells that another page
-- follows; a page without tasks is one row of NULLs beside the total. ORDER BY in the count and OFFSET 0
-- in the lookup keep them on their indexes: plans are made without knowing the parameters, and would
-- rather read the whole table.

-- name: list_all
-- counts as: SELECT tasks
WITH keys AS (
    SELECT k.created_at, k.task_id
      FROM unnest($1::text[]) AS s (status)
     CROSS JOIN LATERAL (
           SELECT t.created_at, t.task_id
             FROM tasks AS t
            WHERE t.status = s.status
              AND (t.created_at, t.task_id)
                  < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            ORDER BY t.created_at DESC, t.task_id DESC
            LIMIT $4::bigint + $5::bigint + 1
           ) AS k
     ORDER BY k.created_at DESC, k.task_id DESC
    OFFSET $5::bigint
     LIMIT $4::bigint + 1
),
counted AS (
    SELECT count(*) AS total
      FROM (SELECT FROM unnest($1::text[]) AS s (status)
             CROSS JOIN LATERAL (SELECT FROM tasks AS t
                                  WHERE t.status = s.status
                                  ORDER BY t.created_at DESC, t.task_id DESC
                                  LIMIT $6::bigint) AS matching
             LIMIT $6::bigint) AS seen
)
SELECT counted.total, t.*
  FROM counted
  LEFT JOIN keys ON true
  LEFT JOIN LATERAL (
       SELECT t.task_id, t.client_id, t.task_type, t.status, t.priority, t.assigned_agent_id,
              t.created_at, t.updated_at, t.input_data, t.capability_required
         FROM tasks AS t
        WHERE t.task_id = keys.task_id
       OFFSET 0
       ) AS t ON true
 ORDER BY keys.created_at DESC, keys.task_id DESC

-- name: list_by_client
-- counts as: SELECT tasks
WITH keys AS (
    SELECT k.created_at, k.task_id
      FROM unnest($1::text[]) AS s (status)
     CROSS JOIN LATERAL (
           SELECT t.created_at, t.task_id
             FROM tasks AS t
            WHERE t.client_id = $7
              AND t.status = s.status
              AND (t.created_at, t.task_id)
                  < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            ORDER BY t.created_at DESC, t.task_id DESC
            LIMIT $4::bigint + $5::bigint + 1
           ) AS k
     ORDER BY k.created_at DESC, k.task_id DESC
    OFFSET $5::bigint
     LIMIT $4::bigint + 1
),
counted AS (
    SELECT count(*) AS total
      FROM (SELECT FROM unnest($1::text[]) AS s (status)
             CROSS JOIN LATERAL (SELECT FROM tasks AS t
                                  WHERE t.client_id = $7
                                    AND t.status = s.status
                                  ORDER BY t.created_at DESC, t.task_id DESC
                                  LIMIT $6::bigint) AS matching
             LIMIT $6::bigint) AS seen
)
SELECT counted.total, t.*
  FROM counted
  LEFT JOIN keys ON true
  LEFT JOIN LATERAL (
       SELECT t.task_id, t.client_id, t.task_type, t.status, t.priority, t.assigned_agent_id,
              t.created_at, t.updated_at, t.input_data, t.capability_required
         FROM tasks AS t
        WHERE t.task_id = keys.task_id
       OFFSET 0
       ) AS t ON true
 ORDER BY keys.created_at DESC, keys.task_id DESC

-- name: list_by_type
-- counts as: SELECT tasks
WITH keys AS (
    SELECT k.created_at, k.task_id
      FROM unnest($1::text[]) AS s (status)
     CROSS JOIN LATERAL (
           SELECT t.created_at, t.task_id
             FROM tasks AS t
            WHERE t.task_type = $7
              AND t.status = s.status
              AND (t.created_at, t.task_id)
                  < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            ORDER BY t.created_at DESC, t.task_id DESC
            LIMIT $4::bigint + $5::bigint + 1
           ) AS k
     ORDER BY k.created_at DESC, k.task_id DESC
    OFFSET $5::bigint
     LIMIT $4::bigint + 1
),
counted AS (
    SELECT count(*) AS total
      FROM (SELECT FROM unnest($1::text[]) AS s (status)
             CROSS JOIN LATERAL (SELECT FROM tasks AS t
                                  WHERE t.task_type = $7
                                    AND t.status = s.status
                                  ORDER BY t.created_at DESC, t.task_id DESC
                                  LIMIT $6::bigint) AS matching
             LIMIT $6::bigint) AS seen
)
SELECT counted.total, t.*
  FROM counted
  LEFT JOIN keys ON true
  LEFT JOIN LATERAL (
       SELECT t.task_id, t.client_id, t.task_type, t.status, t.priority, t.assigned_agent_id,
              t.created_at, t.updated_at, t.input_data, t.capability_required
         FROM tasks AS t
        WHERE t.task_id = keys.task_id
       OFFSET 0
       ) AS t ON true
 ORDER BY keys.created_at DESC, keys.task_id DESC

-- name: list_by_agent
-- counts as: SELECT tasks
-- What an agent polls for its work.
WITH keys AS (
    SELECT k.created_at, k.task_id
      FROM unnest($1::text[]) AS s (status)
     CROSS JOIN LATERAL (
           SELECT t.created_at, t.task_id
             FROM tasks AS t
            WHERE t.assigned_agent_id = $7
              AND t.status = s.status
              AND (t.created_at, t.task_id)
                  < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            ORDER BY t.created_at DESC, t.task_id DESC
            LIMIT $4::bigint + $5::bigint + 1
           ) AS k
     ORDER BY k.created_at DESC, k.task_id DESC
    OFFSET $5::bigint
     LIMIT $4::bigint + 1
),
counted AS (
    SELECT count(*) AS total
      FROM (SELECT FROM unnest($1::text[]) AS s (status)
             CROSS JOIN LATERAL (SELECT FROM tasks AS t
                                  WHERE t.assigned_agent_id = $7
                                    AND t.status = s.status
                                  ORDER BY t.created_at DESC, t.task_id DESC
                                  LIMIT $6::bigint) AS matching
             LIMIT $6::bigint) AS seen
)
SELECT counted.total, t.*
  FROM counted
  LEFT JOIN keys ON true
  LEFT JOIN LATERAL (
       SELECT t.task_id, t.client_id, t.task_type, t.status, t.priority, t.assigned_agent_id,
              t.created_at, t.updated_at, t.input_data, t.capability_required
         FROM tasks AS t
        WHERE t.task_id = keys.task_id
       OFFSET 0
       ) AS t ON true
 ORDER BY keys.created_at DESC, keys.task_id DESC

-- name: list_by_client_and_type
-- counts as: SELECT tasks
WITH keys AS (
    SELECT k.created_at, k.task_id
      FROM unnest($1::text[]) AS s (status)
     CROSS JOIN LATERAL (
           SELECT t.created_at, t.task_id
             FROM tasks AS t
            WHERE t.client_id = $7
              AND t.task_type = $8
              AND t.status = s.status
              AND (t.created_at, t.task_id)
                  < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            ORDER BY t.created_at DESC, t.task_id DESC
            LIMIT $4::bigint + $5::bigint + 1
           ) AS k
     ORDER BY k.created_at DESC, k.task_id DESC
    OFFSET $5::bigint
     LIMIT $4::bigint + 1
),
counted AS (
    SELECT count(*) AS total
      FROM (SELECT FROM unnest($1::text[]) AS s (status)
             CROSS JOIN LATERAL (SELECT FROM tasks AS t
                                  WHERE t.client_id = $7
                                    AND t.task_type = $8
                                    AND t.status = s.status
                                  ORDER BY t.created_at DESC, t.task_id DESC
                                  LIMIT $6::bigint) AS matching
             LIMIT $6::bigint) AS seen
)
SELECT counted.total, t.*
  FROM counted
  LEFT JOIN keys ON true
  LEFT JOIN LATERAL (
       SELECT t.task_id, t.client_id, t.task_type, t.status, t.priority, t.assigned_agent_id,
              t.created_at, t.updated_at, t.input_data, t.capability_required
         FROM tasks AS t
        WHERE t.task_id = keys.task_id
       OFFSET 0
       ) AS t ON true
 ORDER BY keys.created_at DESC, keys.task_id DESC

-- name: list_by_agent_and_more
-- counts as: SELECT tasks
-- An agent's tasks, of one client ($8) or one type ($9) or both.
WITH keys AS (
    SELECT k.created_at, k.task_id
      FROM unnest($1::text[]) AS s (status)
     CROSS JOIN LATERAL (
           SELECT t.created_at, t.task_id
             FROM tasks AS t
            WHERE t.assigned_agent_id = $7
              AND t.status = s.status
              AND ($8::text IS NULL OR t.client_id = $8)
              AND ($9::text IS NULL OR t.task_type = $9)
              AND (t.created_at, t.task_id)
                  < (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            ORDER BY t.created_at DESC, t.task_id DESC
            LIMIT $4::bigint + $5::bigint + 1
           ) AS k
     ORDER BY k.created_at DESC, k.task_id DESC
    OFFSET $5::bigint
     LIMIT $4::bigint + 1
),
counted AS (
    SELECT count(*) AS total
      FROM (SELECT FROM unnest($1::text[]) AS s (status)
             CROSS JOIN LATERAL (SELECT FROM tasks AS t
                                  WHERE t.assigned_agent_id = $7
                                    AND t.status = s.status
                                    AND ($8::text IS NULL OR t.client_id = $8)
                                    AND ($9::text IS NULL OR t.task_type = $9)
                                  ORDER BY t.created_at DESC, t.task_id DESC
                                  LIMIT $6::bigint) AS matching
             LIMIT $6::bigint) AS seen
)
SELECT counted.total, t.*
  FROM counted
  LEFT JOIN keys ON true
  LEFT JOIN LATERAL (
       SELECT t.task_id, t.client_id, t.task_type, t.status, t.priority, t.assigned_agent_id,
              t.created_at, t.updated_at, t.input_data, t.capability_required
         FROM tasks AS t
        WHERE t.task_id = keys.task_id
       OFFSET 0
       ) AS t ON true
 ORDER BY keys.created_at DESC, keys.task_id DESC
