//! The commands, one file each.

pub(crate) mod api_key;
pub(crate) mod backup;
pub(crate) mod compile_plugin;
pub(crate) mod copy;
pub(crate) mod dead_letters;
pub(crate) mod delivery;
pub(crate) mod export;
pub(crate) mod flow;
pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod mock_webhook;
pub(crate) mod openapi;
pub(crate) mod operator_webhook;
#[allow(
    clippy::disallowed_methods,
    reason = "commands of one user: they read and write files, and end"
)]
pub(crate) mod plugin;
pub(crate) mod receipt;
pub(crate) mod scheduler;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod webhook;
pub(crate) mod worker;
