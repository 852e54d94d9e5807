-- The keys that values are sealed with: one row for each, sealed with it. A process that cannot open every row has the
-- wrong key and does not start.
create table key_canaries (
    -- The beginning of the key's SHA-256.
    key_id     bytea primary key,
    sealed     bytea not null,
    created_at timestamptz not null default now()
);
-- What the endpoint's v1a key pairs are made from, encrypted. Null: it is derived from the key that the secret is sealed with.
alter table webhook_endpoints add column signing_root bytea;
