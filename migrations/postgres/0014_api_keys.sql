-- Keys of clients and operators. The secret itself is nowhere.
create table api_keys (
    id              uuid primary key,
    -- Null for an operator's.
    organization_id text,
    name            text not null,
    -- Names divided by blanks.
    scopes          text not null,
    -- HMAC-SHA-256 of id and secret, behind the id of the host's key that it was made with.
    mac             bytea not null,
    made_by         text not null,
    created_at      timestamptz not null,
    expires_at      timestamptz,
    -- To the minute.
    last_used_at    timestamptz,
    revoked_at      timestamptz
);
-- An organization's name is never empty, so the empty one stands for the operator.
create index api_keys_by_organization on api_keys (coalesce(organization_id, ''), id);
