-- The W3C traceparent of whatever caused the event, for those who deliver it later; null where no traces are collected.
alter table callback_outbox add column traceparent text;
