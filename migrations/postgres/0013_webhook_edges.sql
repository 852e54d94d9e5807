-- Verdicts count for what they were given on, and what is asked for is remembered.

-- Rises with every change after which earlier attempts say nothing of the endpoint: another URL, or being enabled.
alter table webhook_endpoints add column generation bigint not null default 0;

-- A resend that was asked for while an attempt was under way. Settling that attempt makes the delivery due again.
alter table callback_deliveries add column resend_requested boolean not null default false;
-- When the attempt began whose worker was not heard of again, if the latest claim took it over.
alter table callback_deliveries add column lost_at timestamptz;

-- Requests that their clients named by a key (`Idempotency-Key`), so that each is carried out once.
create table idempotency_keys (
    -- SHA-256 over route, organization and key: names of 255 characters do not fit into a b-tree entry.
    identity        text primary key,
    organization_id text not null,
    -- SHA-256 over path and body: under one key there is one request.
    content         text not null,
    fence           bigint not null,
    -- When whoever carries it out is thought to be gone; null once it is answered.
    held_until      timestamptz,
    -- Encrypted: it may hold a secret.
    answer          bytea,
    created_at      timestamptz not null
);
create index idempotency_keys_by_organization on idempotency_keys (organization_id);
create index idempotency_keys_by_age on idempotency_keys (created_at);
