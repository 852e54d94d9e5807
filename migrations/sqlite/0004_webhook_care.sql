-- The same columns, under the same names, as migrations/postgres/0004_webhook_care.sql, which explains them.

alter table webhook_endpoints add column retired_secrets blob;
alter table webhook_endpoints add column signs_v1a integer not null default 0 check (signs_v1a in (0, 1));
alter table webhook_endpoints add column rate_per_minute integer check (rate_per_minute > 0);
alter table webhook_endpoints add column paced_until integer;
alter table webhook_endpoints add column failures integer not null default 0;
alter table webhook_endpoints add column failing_since integer;
alter table webhook_endpoints add column pauses integer not null default 0;
alter table webhook_endpoints add column paused_until integer;

alter table callback_deliveries add column schedule_base integer not null default 0;
create index callback_deliveries_dead on callback_deliveries (organization_id, id) where state = 'failed';
-- The events of an organization in order, for an endpoint that missed some.
create index callback_outbox_by_organization on callback_outbox (organization_id, created_at, id);
