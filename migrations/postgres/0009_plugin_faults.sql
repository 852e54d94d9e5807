-- Faults of plugins belong to their input, too.

-- Faults of the adapter on this receipt since it last got an answer. Too many of them, and it rests (exhausted).
alter table sync_logs add column plugin_faults bigint not null default 0;
-- The receipts that rest for that reason: they are tried again when another revision of the adapter serves.
create index sync_logs_resting on sync_logs (id) where exhausted and plugin_faults > 0;
-- Passes in which a shaper failed on this event. Too many of them, and its deliveries of that shape are dead letters.
alter table callback_outbox add column shaper_faults bigint not null default 0;
