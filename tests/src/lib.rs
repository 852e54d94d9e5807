//! Fixtures for tests over the real `wharf` binary, on both database backends.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use wharf_tests::{Backend, Host, Receiver};
//!
//! let receiver = Receiver::start().await?;
//! let host = Host::start(Backend::Postgres).await?;
//! let answer = host.post("/webhooks/register", &serde_json::json!({"targetUrl": receiver.url()})).await?;
//! assert_eq!(answer.status, 400);
//! # Ok(())
//! # }
//! ```
//!
//! Promises: every [`Site`] has a database, a Redis database and a directory of its own, so tests run side by side;
//! whatever a fixture starts or creates goes with it; a failed test prints what its hosts logged; nothing sleeps for a
//! fixed time, everything waits for a condition ([`eventually`]).
//!
//! Leaves out: starting PostgreSQL and Redis. `cargo xtask test` does that and names them in `WHARF_TEST_DATABASE_URL`
//! and `WHARF_TEST_REDIS_URL`.

mod admin;
mod attacker;
mod audit;
mod binary;
mod bomb;
mod browser;
mod client;
mod collector;
mod eventually;
mod host;
mod ledger;
mod log;
pub mod model;
mod postgres;
mod proxy;
mod raw_server;
mod receiver;
mod redis_database;
mod scrape;
mod shop;
mod site;
pub mod tls_servers;
mod traffic;
pub mod zoo;

pub use admin::{ADMIN_TOKEN, Admin};
pub use attacker::Attacker;
pub use audit::Account;
pub use binary::{built_plugin, guest, repository, tool, wharf_binary};
pub use bomb::compile_bomb;
pub use browser::Browser;
pub use client::{Answer, client, client_with, standard_tls};
pub use collector::{Collector, Span};
pub use eventually::{PATIENCE, eventually, fault_lasts};
pub use host::{Host, HostBuilder, Signal};
pub use ledger::Ledger;
pub use log::LogLine;
pub use postgres::Database;
pub use proxy::Proxy;
pub use raw_server::{RawServer, read_request};
pub use receiver::{Receiver, Request};
pub use redis_database::RedisDatabase;
pub use scrape::{Family, LabelSet, Scrape};
pub use shop::Shop;
pub use site::{Backend, Site};
pub use traffic::{Imports, Traffic};

/// Makes tests of async functions that take a [`Backend`]: each function named becomes one test per backend, in the
/// modules `embedded` and `postgres`.
///
/// ```
/// use wharf_tests::{Backend, Host, on_every_backend};
///
/// async fn answers_health_checks(backend: Backend) {
///     let host = Host::start(backend).await.expect("a host");
///     assert_eq!(host.get("/healthz").await.expect("an answer").status, 200);
/// }
///
/// on_every_backend!(answers_health_checks);
/// ```
#[macro_export]
macro_rules! on_every_backend {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[test]
            fn $test() -> impl std::process::Termination {
                $crate::run(super::$test($crate::Backend::Embedded))
            })+
        }
        mod postgres {
            $(#[test]
            fn $test() -> impl std::process::Termination {
                $crate::run(super::$test($crate::Backend::Postgres))
            })+
        }
    };
}

/// Runs a test's future to its end, on two threads, with TLS set up. The test function must return what it answers, so
/// that an error fails the test.
#[must_use]
pub fn run<T: std::process::Termination>(test: impl Future<Output = T>) -> T {
    standard_tls();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for the test")
        .block_on(test)
}
