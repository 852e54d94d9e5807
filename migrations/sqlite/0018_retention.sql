-- The same table and index as in migrations/postgres/0018_retention.sql, which explains them.
create table copy_progress (
    table_name text primary key,
    source     text not null,
    after_key  text,
    copied     integer not null default 0
) strict;

create index plugin_transitions_by_age on plugin_transitions (at);
