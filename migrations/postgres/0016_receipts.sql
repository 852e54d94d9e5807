-- Receipts are listed and found over all stores, and tell of their attempts.

-- Where sync_logs is filled already, both were built before this without a lock (host/store/src/large_indexes.rs).
-- What is no success yet over all stores, newest first. The second condition always holds, and is asked for where all stores
-- are meant: without it the planner may take this index for one store's list, and read past all the others' receipts.
create index if not exists sync_logs_unfinished_by_id on sync_logs (id) where status <> 'success' and attempt >= 0;
-- What rests until somebody redrives it.
create index if not exists sync_logs_exhausted on sync_logs (id) where exhausted;

-- The attempts of a receipt: its log row alone tells of the last. One that succeeded at its first attempt has none here.
create table sync_log_attempts (
    log_id        uuid not null references sync_logs (id) on delete cascade,
    -- Its number, from 1.
    attempt       bigint not null,
    at            timestamptz not null,
    outcome       text not null,
    error         text,
    -- SHA-256 of the plugin that was asked.
    plugin_digest text,
    -- The request of the import or of the sync run.
    request_id    text,
    primary key (log_id, attempt)
);
create index sync_log_attempts_by_age on sync_log_attempts (at);

-- The name of the plugin that an attempt's revision is of.
create index plugin_transitions_by_digest on plugin_transitions (digest, id) where digest is not null;
