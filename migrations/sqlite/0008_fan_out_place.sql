-- The same columns as in migrations/postgres/0008_fan_out_place.sql, which explains them.
alter table callback_outbox add column fan_out_after blob;
alter table callback_outbox add column fan_out_deferred text;
create index webhook_endpoints_by_event_and_id on webhook_endpoints (organization_id, event, id);
drop index webhook_endpoints_by_event;
