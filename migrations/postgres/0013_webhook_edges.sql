-- Verdicts count for what they were given on, and what is asked for is remembered.

-- Rises with every change after which earlier attempts say nothing of the endpoint: another URL, or being enabled.
alter table webhook_endpoints add column generation bigint not null default 0;

-- A resend that was asked for while an attempt was under way. Settling that attempt makes the delivery due again.
alter table callback_deliveries add column resend_requested boolean not null default false;
-- When the attempt began whose worker was not heard of again, if the latest claim took it over.
alter table callback_deliveries add column lost_at timestamptz;
