-- Verdicts count for what they were given on, and what is asked for is remembered.

-- Rises with every change after which earlier attempts say nothing of the endpoint: another URL, or being enabled.
alter table webhook_endpoints add column generation bigint not null default 0;

-- A resend that was asked for while an attempt was under way. Settling that attempt makes the delivery due again.
alter table callback_deliveries add column resend_requested boolean not null default false;
-- When the attempt began whose worker was not heard of again, if the latest claim took it over.
alter table callback_deliveries add column lost_at timestamptz;

-- An event that is for one endpoint alone (a test), and the id of its delivery, which its client was told.
alter table callback_outbox add column only_endpoint uuid;
alter table callback_outbox add column only_delivery uuid;
create unique index callback_outbox_by_delivery on callback_outbox (only_delivery) where only_delivery is not null;
-- The shapers that an event waits for, divided by commas; null where it waits for none.
alter table callback_outbox add column waits_for text;
create index callback_outbox_waiting on callback_outbox (organization_id, event) where waits_for is not null;

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
