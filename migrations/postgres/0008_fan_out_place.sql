-- An event of an organization with many endpoints is fanned out page by page, each page a transaction of its own.
-- The last endpoint that has its delivery; null before the first page.
alter table callback_outbox add column fan_out_after uuid;
-- Why endpoints of an earlier page were left out: their shaper was out of service. The walk begins anew for them.
alter table callback_outbox add column fan_out_deferred text;
-- Pages of endpoints go by id. It takes the place of the index without one.
create index webhook_endpoints_by_event_and_id on webhook_endpoints (organization_id, event, id);
drop index webhook_endpoints_by_event;
