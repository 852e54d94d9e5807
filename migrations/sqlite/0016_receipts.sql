-- The same as in migrations/postgres/0016_receipts.sql, which explains it. The indexes are built while the one process that
-- has the file starts: it reads sync_logs once, and nobody else waits.
create index if not exists sync_logs_unfinished_by_id on sync_logs (id) where status <> 'success' and attempt >= 0;
-- In other words than sync_logs_resting, which is the shorter one for its own statement: SQLite would take either for it.
create index if not exists sync_logs_exhausted on sync_logs (id) where exhausted <> (1 = 0);
create table sync_log_attempts (
    log_id        blob not null references sync_logs (id) on delete cascade,
    attempt       integer not null,
    at            integer not null,
    outcome       text not null,
    error         text,
    plugin_digest text,
    request_id    text,
    primary key (log_id, attempt)
) strict;
create index sync_log_attempts_by_age on sync_log_attempts (at);
create index plugin_transitions_by_digest on plugin_transitions (digest, id) where digest is not null;
