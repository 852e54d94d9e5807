-- The same table and column, under the same names, as migrations/postgres/0006_key_canary.sql, which explains them.

create table key_canaries (
    key_id     blob primary key,
    sealed     blob not null,
    created_at integer not null default (cast(unixepoch('subsec') * 1000000 as integer))
) strict;
alter table webhook_endpoints add column signing_root blob;
