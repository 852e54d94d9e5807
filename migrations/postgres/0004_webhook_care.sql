-- What it takes to look after webhook endpoints: rotation of secrets, a pace, a circuit, and a second chance for what failed.

-- Secrets that were replaced and still sign until their overlap ends; encrypted as one text.
alter table webhook_endpoints add column retired_secrets bytea;
-- Whether deliveries are signed by an Ed25519 key pair (v1a) too.
alter table webhook_endpoints add column signs_v1a boolean not null default false;
-- At most so many deliveries a minute; null for no limit.
alter table webhook_endpoints add column rate_per_minute bigint check (rate_per_minute > 0);
-- With a limit: when the next delivery may begin.
alter table webhook_endpoints add column paced_until timestamptz;
-- Attempts that failed since one last succeeded, and when the first of them was.
alter table webhook_endpoints add column failures bigint not null default 0;
alter table webhook_endpoints add column failing_since timestamptz;
-- The circuit: how often it was opened since an attempt last succeeded, and until when nothing is sent.
alter table webhook_endpoints add column pauses bigint not null default 0;
alter table webhook_endpoints add column paused_until timestamptz;

-- The attempt after which the retry schedule began anew, because somebody asked for the delivery once more.
alter table callback_deliveries add column schedule_base bigint not null default 0;
-- Dead letters by organization.
create index callback_deliveries_dead on callback_deliveries (organization_id, id) where state = 'failed';
-- The events of an organization in order, for an endpoint that missed some.
create index callback_outbox_by_organization on callback_outbox (organization_id, created_at, id);
