-- The same columns as in migrations/postgres/0015_store_care.sql, which explains them.
alter table stores add column removed_at integer;
alter table stores add column sync_token_sealed blob;
create index stores_by_organization on stores (organization_id, id);
create index stores_by_marketplace on stores (marketplace, id);
create index stores_by_external_id on stores (external_store_id, id);
create index stores_removed on stores (removed_at, id) where removed_at is not null;

-- The same tables, too.
create table holds (
    id        blob not null unique,
    what      text not null check (what in ('store', 'organization', 'marketplace')),
    name      text not null,
    side      text not null check (side in ('organization', 'operator')),
    store_id  blob check ((what = 'store') = (store_id is not null)),
    reason    text,
    placed_by text not null,
    since     integer not null,
    owner     text check ((side = 'organization') = (owner is not null)),
    primary key (what, name, side)
) strict;
create index holds_by_store on holds (store_id) where store_id is not null;
create index holds_by_owner on holds (owner) where owner is not null;
create table hold_changes (
    id     integer primary key check (id = 1),
    number integer not null
) strict;
insert into hold_changes (id, number) values (1, 0);

alter table sync_jobs add column held_at integer;
create index sync_jobs_held on sync_jobs (store_id) where held_at is not null;
