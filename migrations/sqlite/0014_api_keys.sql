-- The same table as in migrations/postgres/0014_api_keys.sql, which explains it.
create table api_keys (
    id              blob primary key,
    organization_id text,
    name            text not null,
    scopes          text not null,
    mac             blob not null,
    made_by         text not null,
    created_at      integer not null,
    expires_at      integer,
    last_used_at    integer,
    revoked_at      integer
) strict;
create index api_keys_by_organization on api_keys (coalesce(organization_id, ''), id);
