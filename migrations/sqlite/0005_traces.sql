-- The same column as migrations/postgres/0005_traces.sql, which explains it.
alter table callback_outbox add column traceparent text;
