-- Care for stores: lists, holds, removal, and syncTokens that a copy of the database does not tell.

-- When its removal was asked for. From then on nobody finds the store; its rows go page by page, its own one last.
alter table stores add column removed_at timestamptz;
-- The syncToken, encrypted. Where it is set, sync_token holds the first 16 bytes of the token's SHA-256; where it is null,
-- the token itself, as programs of before wrote it. `wharf keys reseal` moves those.
alter table stores add column sync_token_sealed bytea;
-- Lists go by id, newest first.
create index stores_by_organization on stores (organization_id, id);
create index stores_by_marketplace on stores (marketplace, id);
create index stores_by_external_id on stores (external_store_id, id);
create index stores_removed on stores (removed_at, id) where removed_at is not null;

-- What nobody is asked for until it is resumed: a store, all of an organization, or all at a marketplace.
create table holds (
    id        uuid not null unique,
    what      text not null check (what in ('store', 'organization', 'marketplace')),
    -- The store's id, the organization or the marketplace.
    name      text not null,
    -- Whose hold it is. Each side ends its own alone.
    side      text not null check (side in ('organization', 'operator')),
    -- For a hold of a store: the store.
    store_id  uuid check ((what = 'store') = (store_id is not null)),
    reason    text,
    placed_by text not null,
    since     timestamptz not null,
    -- The organization that a hold of the side 'organization' belongs to: it may have so many.
    owner     text check ((side = 'organization') = (owner is not null)),
    primary key (what, name, side)
);
create index holds_by_store on holds (store_id) where store_id is not null;
create index holds_by_owner on holds (owner) where owner is not null;

-- One row, whose number rises with every change of holds: each process looks at it and at nothing else. Whoever changes a
-- hold, or puts jobs off because of one, locks it first.
create table hold_changes (
    id     bigint primary key check (id = 1),
    number bigint not null
);
insert into hold_changes (id, number) values (1, 0);

-- When the job was put off because its store is held; null: it was not.
alter table sync_jobs add column held_at timestamptz;
create index sync_jobs_held on sync_jobs (store_id) where held_at is not null;
