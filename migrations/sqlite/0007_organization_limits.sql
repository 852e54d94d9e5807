-- The same table as in migrations/postgres/0007_organization_limits.sql, which explains it.
create table organization_limits (
    organization_id text not null,
    operation text not null,
    spent_until integer not null,
    primary key (organization_id, operation)
) strict;
create index organization_limits_by_age on organization_limits (spent_until);
