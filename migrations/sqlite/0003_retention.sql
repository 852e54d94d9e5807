-- Finished events in the order in which they are forgotten (RETENTION). Those in work are not in it.
create index callback_outbox_finished on callback_outbox (updated_at) where status <> 'pending';
