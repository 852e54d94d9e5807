-- What an operator looks at over all organizations, found without looking at what does well.

-- What the last failed attempt met, in the operator's words; null since one succeeded. Its owner is told less.
alter table webhook_endpoints add column last_error text;
-- Over `failing_since`, which stays as it is while failures go on: each of them would write the index anew.
create index webhook_endpoints_failing on webhook_endpoints (id) where is_active and failing_since is not null;
create index webhook_endpoints_disabled on webhook_endpoints (id) where not is_active;
create index webhook_endpoints_by_organization on webhook_endpoints (organization_id, id);

-- Dead letters of all organizations, and of one endpoint. They hold nothing else and are made by reading the table once,
-- while nothing is written to it. Where that takes too long, make them first, by `create index concurrently` with these
-- names: then there is nothing left to do here.
create index if not exists callback_deliveries_failed on callback_deliveries (id) where state = 'failed';
create index if not exists callback_deliveries_failed_by_endpoint on callback_deliveries (endpoint_id, id)
    where state = 'failed';
