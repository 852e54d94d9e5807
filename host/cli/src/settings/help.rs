//! Help texts of the secrets, which have no flags that clap could list. Lines fit into clap's 100 columns.

/// Help for commands that open the database.
macro_rules! database_help {
    () => {
        "

Secrets are set in the environment, never by flags, or read from the file that <NAME>_FILE names:
  [env: DATABASE_URL]
          `postgres://...`, or `sqlite:PATH` or a path for SQLite
          [default: SQLite in the data folder]"
    };
}

/// The lines for the keys, after [`database_help`].
macro_rules! encryption_key_help {
    () => {
        "
  [env: WHARF_ENCRYPTION_KEY]
          Encrypts secrets at rest: 32 bytes in base64 or hexadecimal digits, or several such keys as
          `new,old`: the first encrypts, all decrypt (see `wharf keys`)
          [default: the file `key` in the data folder, made at the first start; none with PostgreSQL]"
    };
}

/// The lines for everything that works, after [`encryption_key_help`].
macro_rules! service_help {
    () => {
        "
  [env: REDIS_URL]
          `redis://...` or, with TLS, `rediss://...`: carries the news that there is work between
          processes [default: within this process]
  [env: WEBHOOK_SECRET]
          Adds the original service's signature (X-Webhook-Signature); at least 16 characters"
    };
}

/// The lines for the API's server and its clients.
macro_rules! admin_token_help {
    () => {
        "
  [env: WHARF_ADMIN_TOKEN]
          Bearer token of the admin API, which may do everything; at least 16 characters
          [default: the file `admin-token` in the data folder, made at the first start; with
          PostgreSQL none, and the admin API is off]"
    };
}

pub(crate) use {admin_token_help, database_help, encryption_key_help, service_help};
