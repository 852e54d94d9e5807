-- Until when an organization has used up its budget for an operation that makes work for others: sending test events,
-- sending deliveries again, recovering. A row that lies in the past says nothing and may go at any time.
create table organization_limits (
    organization_id text not null,
    operation text not null,
    spent_until timestamptz not null,
    primary key (organization_id, operation)
);
create index organization_limits_by_age on organization_limits (spent_until);
