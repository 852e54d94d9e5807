-- The same columns as in migrations/postgres/0013_webhook_edges.sql, which explains them.
alter table webhook_endpoints add column generation integer not null default 0;
alter table callback_deliveries add column resend_requested integer not null default 0 check (resend_requested in (0, 1));
alter table callback_deliveries add column lost_at integer;
