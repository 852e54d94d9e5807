-- The same columns as in migrations/postgres/0012_orders.sql, which explains them.
alter table sync_logs add column refusals integer not null default 0;
alter table sync_logs add column duplicate_of blob;
alter table sync_logs add column request_id text;
alter table sync_logs add column sync_request_id text;
create index sync_logs_orders on sync_logs (store_id, order_id) where order_id is not null and duplicate_of is null;
create index sync_logs_unfinished on sync_logs (store_id, id) where status <> 'success';
alter table stores add column last_run_at integer;
alter table stores add column credentials_changed_at integer;
alter table sync_jobs add column request_id text;
alter table sync_jobs add column run_request_id text;
alter table callback_outbox add column request_id text;
create table marketplaces (
    name            text primary key,
    first_served_at integer not null
) strict;
insert into marketplaces (name, first_served_at) select marketplace, min(created_at) from stores group by marketplace;
