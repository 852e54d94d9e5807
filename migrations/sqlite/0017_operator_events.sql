-- The same column and indexes as in migrations/postgres/0017_operator_events.sql, which explains them.
alter table webhook_endpoints add column last_error text;
create index webhook_endpoints_failing on webhook_endpoints (id) where is_active and failing_since is not null;
create index webhook_endpoints_disabled on webhook_endpoints (id) where not is_active;
create index webhook_endpoints_by_organization on webhook_endpoints (organization_id, id);
create index if not exists callback_deliveries_failed on callback_deliveries (id) where state = 'failed';
create index if not exists callback_deliveries_failed_by_endpoint on callback_deliveries (endpoint_id, id)
    where state = 'failed';
