-- The same columns as in migrations/postgres/0009_plugin_faults.sql, which explains them.
alter table sync_logs add column plugin_faults integer not null default 0;
create index sync_logs_resting on sync_logs (id) where exhausted and plugin_faults > 0;
alter table callback_outbox add column shaper_faults integer not null default 0;
