-- Wharf on SQLite. The same tables, under the same names, as migrations/postgres/0001_initial.sql, which explains them.
-- Times are microseconds since 1970, ids 16-byte blobs, money exact decimal text, JSON checked text.

create table stores (
    id                 blob primary key,
    identity           text not null unique,
    organization_id    text not null,
    marketplace        text not null,
    external_store_id  text not null,
    store_name         text not null,
    access_token       blob not null,
    currency           text not null check (length(currency) = 3),
    sync_token         blob not null unique,
    sync_status        text not null default 'pending' check (sync_status in ('pending', 'success', 'partial', 'failed')),
    last_sync_at       integer,
    imported_orders    integer not null default 0,
    rate_limited_count integer not null default 0,
    created_at         integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    updated_at         integer not null default (cast(unixepoch('subsec') * 1000000 as integer))
) strict;
create index stores_by_creation on stores (created_at, id);

create table sync_logs (
    id            blob primary key default (randomblob(16)),
    store_id      blob not null references stores (id),
    receipt       text not null,
    status        text not null default 'pending' check (status in ('pending', 'success', 'failed', 'rate_limited')),
    attempt       integer not null default 0,
    next_retry_at integer,
    exhausted     integer not null default 0,
    order_id      text,
    amount        text,
    currency      text,
    imported_at   integer,
    last_error    text,
    plugin_digest text,
    created_at    integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    updated_at    integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    due_at        integer generated always as (
        case when status = 'success' or exhausted then null else coalesce(next_retry_at, created_at) end
    ) stored,
    unique (store_id, receipt)
) strict;
create index sync_logs_recent on sync_logs (store_id, created_at desc, id desc, status);
create index sync_logs_due on sync_logs (store_id, due_at, id) where due_at is not null;

create table sync_jobs (
    store_id       blob primary key references stores (id),
    state          text not null check (state in ('idle', 'queued', 'running')),
    dirty          integer not null default 0,
    fence          integer not null default 0,
    due_at         integer,
    claimed_by     text,
    attempt        integer not null default 0,
    last_error     text,
    run_id         blob,
    run_started_at integer,
    processed      integer not null default 0,
    succeeded      integer not null default 0,
    failed         integer not null default 0,
    rate_limited   integer not null default 0,
    updated_at     integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    check ((state = 'idle') = (due_at is null))
) strict;
create index sync_jobs_due on sync_jobs (due_at) where due_at is not null;

create table webhook_endpoints (
    id              blob primary key,
    identity        text not null unique,
    organization_id text not null,
    event           text not null,
    target_url      text not null,
    shaper          text not null default 'standard',
    is_active       integer not null default 1,
    disabled_reason text,
    secret          blob not null,
    created_at      integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    updated_at      integer not null default (cast(unixepoch('subsec') * 1000000 as integer))
) strict;
create index webhook_endpoints_by_event on webhook_endpoints (organization_id, event);

create table callback_outbox (
    id              blob primary key default (randomblob(16)),
    organization_id text not null,
    store_id        blob not null,
    event           text not null,
    payload         text not null default '{}' check (json_valid(payload)),
    status          text not null default 'pending' check (status in ('pending', 'success', 'failed')),
    attempt         integer not null default 0,
    next_retry_at   integer,
    last_error      text,
    due_at          integer default (cast(unixepoch('subsec') * 1000000 as integer)),
    fence           integer not null default 0,
    fan_out_attempt integer not null default 0,
    created_at      integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    updated_at      integer not null default (cast(unixepoch('subsec') * 1000000 as integer))
) strict;
create index callback_outbox_due on callback_outbox (due_at) where due_at is not null;

create table callback_messages (
    outbox_id     blob not null references callback_outbox (id) on delete cascade,
    shaper        text not null,
    plugin_digest text not null,
    content_type  text not null,
    headers       text not null check (json_valid(headers)),
    body          blob not null,
    primary key (outbox_id, shaper)
) strict;

create table callback_deliveries (
    id              blob primary key,
    outbox_id       blob not null references callback_outbox (id) on delete cascade,
    endpoint_id     blob not null references webhook_endpoints (id) on delete cascade,
    organization_id text not null,
    shaper          text not null,
    state           text not null default 'pending' check (state in ('pending', 'success', 'failed')),
    attempt         integer not null default 0,
    due_at          integer,
    fence           integer not null default 0,
    claimed_by      text,
    last_error      text,
    created_at      integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    updated_at      integer not null default (cast(unixepoch('subsec') * 1000000 as integer)),
    unique (outbox_id, endpoint_id),
    check ((state = 'pending') = (due_at is not null))
) strict;
create index callback_deliveries_due on callback_deliveries (endpoint_id, due_at, id) where due_at is not null;
create index callback_deliveries_by_endpoint on callback_deliveries (endpoint_id, id);

create table callback_attempts (
    delivery_id blob not null references callback_deliveries (id) on delete cascade,
    attempt     integer not null,
    started_at  integer not null,
    latency_us  integer not null,
    http_status integer,
    error       text,
    response    text,
    primary key (delivery_id, attempt)
) strict;
