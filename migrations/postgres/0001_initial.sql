-- Wharf on PostgreSQL. The same tables, under the same names, as migrations/sqlite/0001_initial.sql.
-- Times are exact to the microsecond. Ids are UUID v7 made by the host; the defaults serve rows put in by hand.

create table stores (
    id                 uuid primary key,
    -- SHA-256 of organization, marketplace and external id: unique for any length (a b-tree entry holds 2.7 KB at most).
    identity           text not null unique,
    organization_id    text not null,
    marketplace        text not null,
    external_store_id  text not null,
    store_name         text not null,
    -- Encrypted: see host/store/src/seal.rs.
    access_token       bytea not null,
    currency           text not null check (length(currency) = 3),
    sync_token         uuid not null unique,
    sync_status        text not null default 'pending' check (sync_status in ('pending', 'success', 'partial', 'failed')),
    last_sync_at       timestamptz,
    imported_orders    bigint not null default 0,
    rate_limited_count bigint not null default 0,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now()
);
create index stores_by_creation on stores (created_at, id);

create table sync_logs (
    id            uuid primary key default gen_random_uuid(),
    store_id      uuid not null references stores (id),
    receipt       text not null,
    status        text not null default 'pending' check (status in ('pending', 'success', 'failed', 'rate_limited')),
    attempt       bigint not null default 0,
    next_retry_at timestamptz,
    exhausted     boolean not null default false,
    order_id      text,
    amount        numeric,
    currency      text,
    imported_at   timestamptz,
    last_error    text,
    -- SHA-256 of the plugin that gave the latest answer.
    plugin_digest text,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    -- When the sync engine should ask again; null when there is nothing left to ask.
    due_at        timestamptz generated always as (
        case when status = 'success' or exhausted then null else coalesce(next_retry_at, created_at) end
    ) stored,
    unique (store_id, receipt)
);
-- The latest logs of a store decide its status.
create index sync_logs_recent on sync_logs (store_id, created_at desc, id desc) include (status);
-- Due work only: finished logs, nearly all of ten million, are not in it.
create index sync_logs_due on sync_logs (store_id, due_at, id) where due_at is not null;

-- The ledger of sync jobs: one row a store, so a store can never have two queued jobs.
create table sync_jobs (
    store_id       uuid primary key references stores (id),
    state          text not null check (state in ('idle', 'queued', 'running')),
    -- Work arrived while the job ran: its end queues it again.
    dirty          boolean not null default false,
    -- Rises with every claim. A worker may write only while the fence is still the one that it claimed.
    fence          bigint not null default 0,
    -- Queued: when to run. Running: when the lease ends and another worker may take over. Idle: null.
    due_at         timestamptz,
    claimed_by     text,
    -- Claims since the last run that ended well.
    attempt        bigint not null default 0,
    last_error     text,
    -- The run in progress. It outlives a crash: the next claim goes on counting where the last commit ended.
    run_id         uuid,
    run_started_at timestamptz,
    processed      bigint not null default 0,
    succeeded      bigint not null default 0,
    failed         bigint not null default 0,
    rate_limited   bigint not null default 0,
    updated_at     timestamptz not null default now(),
    check ((state = 'idle') = (due_at is null))
);
create index sync_jobs_due on sync_jobs (due_at) where due_at is not null;

create table webhook_endpoints (
    id              uuid primary key,
    -- SHA-256 of organization, event and URL.
    identity        text not null unique,
    organization_id text not null,
    event           text not null,
    target_url      text not null,
    shaper          text not null default 'standard',
    is_active       boolean not null default true,
    disabled_reason text,
    -- Encrypted signing secret.
    secret          bytea not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);
create index webhook_endpoints_by_event on webhook_endpoints (organization_id, event);

-- One row an event: the aggregate of its deliveries. A row put in by plain SQL is delivered like any other.
create table callback_outbox (
    id              uuid primary key default gen_random_uuid(),
    organization_id text not null,
    store_id        uuid not null,
    event           text not null,
    payload         json not null default '{}',
    status          text not null default 'pending' check (status in ('pending', 'success', 'failed')),
    attempt         bigint not null default 0,
    next_retry_at   timestamptz,
    last_error      text,
    -- When to make its deliveries (or when the lease of the worker that does so ends); null when they are made.
    due_at          timestamptz default now(),
    fence           bigint not null default 0,
    fan_out_attempt bigint not null default 0,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);
create index callback_outbox_due on callback_outbox (due_at) where due_at is not null;

-- What an event looks like on the wire: shaped once, sent identically to every endpoint and on every retry.
create table callback_messages (
    outbox_id     uuid not null references callback_outbox (id) on delete cascade,
    shaper        text not null,
    plugin_digest text not null,
    content_type  text not null,
    headers       json not null,
    body          bytea not null,
    primary key (outbox_id, shaper)
);

-- One event on its way to one endpoint.
create table callback_deliveries (
    id              uuid primary key,
    outbox_id       uuid not null references callback_outbox (id) on delete cascade,
    endpoint_id     uuid not null references webhook_endpoints (id) on delete cascade,
    organization_id text not null,
    shaper          text not null,
    state           text not null default 'pending' check (state in ('pending', 'success', 'failed')),
    attempt         bigint not null default 0,
    -- When to send, or when the lease of the worker that is sending ends; null when finished.
    due_at          timestamptz,
    fence           bigint not null default 0,
    claimed_by      text,
    last_error      text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    unique (outbox_id, endpoint_id),
    check ((state = 'pending') = (due_at is not null))
);
-- Due work by endpoint, so that claims can take turns.
create index callback_deliveries_due on callback_deliveries (endpoint_id, due_at, id) where due_at is not null;
create index callback_deliveries_by_endpoint on callback_deliveries (endpoint_id, id);

create table callback_attempts (
    delivery_id uuid not null references callback_deliveries (id) on delete cascade,
    attempt     bigint not null,
    started_at  timestamptz not null,
    latency_us  bigint not null,
    -- Null when no answer came.
    http_status bigint,
    error       text,
    -- The first bytes of the answer.
    response    text,
    primary key (delivery_id, attempt)
);
