-- Orders are counted once and can be followed; stores get another try with new credentials.

-- Times that the marketplace refused the receipt. Those of old rows are unknown; at worst they are asked about ten times more.
alter table sync_logs add column refusals bigint not null default 0;
-- The log that has the same order under another receipt, and is counted for both. Duplicates of before stay as they were.
alter table sync_logs add column duplicate_of uuid;
-- The request of the import, and that of the sync run that last asked.
alter table sync_logs add column request_id text;
alter table sync_logs add column sync_request_id text;
-- A store's orders by the marketplace's id. Not unique: a release of before would fail where it meets a duplicate. The
-- store's row is locked wherever orders are written.
create index sync_logs_orders on sync_logs (store_id, order_id) where order_id is not null and duplicate_of is null;
-- What new credentials may help.
create index sync_logs_unfinished on sync_logs (store_id, id) where status <> 'success';

-- When the sync engine last finished with the store. Imports move last_sync_at, too, and are no reason to rest.
alter table stores add column last_run_at timestamptz;
-- When its credentials changed; null once all that failed before is due again.
alter table stores add column credentials_changed_at timestamptz;

-- The request that asked for the next run, and that of the run in progress. Null: nobody asked, the scheduler found it due.
alter table sync_jobs add column request_id text;
alter table sync_jobs add column run_request_id text;

-- The request that caused the event.
alter table callback_outbox add column request_id text;

-- The marketplaces that a plugin serves or has served, in whatever process.
create table marketplaces (
    name            text primary key,
    first_served_at timestamptz not null
);
insert into marketplaces (name, first_served_at) select marketplace, min(created_at) from stores group by marketplace;
