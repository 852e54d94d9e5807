-- The audit of plugins: every step in the life of every revision, in every process. Only ever added to.

create table plugin_transitions (
    id         uuid primary key,
    at         timestamptz not null,
    plugin     text not null,
    -- SHA-256 of the revision; null if its file could not even be read.
    digest     text,
    -- Null for a revision that is new.
    from_state text,
    to_state   text not null,
    reason     text not null,
    actor      text not null
);
create index plugin_transitions_by_plugin on plugin_transitions (plugin, id);
