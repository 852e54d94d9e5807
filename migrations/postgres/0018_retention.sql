-- How far an unfinished `wharf copy` into this database has got: one row a table. While there are any, no process works on it.
create table copy_progress (
    table_name text primary key,
    -- The database that is copied, without its password.
    source     text not null,
    -- The key of the last row that is here, as a JSON array of texts; null before the first.
    after_key  text,
    copied     bigint not null default 0
);

-- Steps of plugins in the order in which they are forgotten (AUDIT_RETENTION).
create index plugin_transitions_by_age on plugin_transitions (at);
