//! Outbound HTTP: the only crate that makes HTTP clients.
//!
//! It promises that a guarded client never connects to an address that its [`Guard`] forbids, follows no redirect (the
//! new place would be judged by nobody), and uses no proxy of the environment (the proxy would resolve the name
//! instead). A peer may send only so much before its answer, and the head of an answer has a limit. Limits of time and on
//! bodies are its users': they know what an exchange is for.

mod client;
mod exchange;
mod guard;
mod metered;
mod resolver;
mod told;

pub use client::{operator_client, plugin_client, webhook_client};
pub use exchange::{Answer, AnswerBody, Error, GuardedClient, Request};
pub use guard::{Forbidden, Guard};
pub use resolver::{Resolver, SystemResolver};
pub use told::{NOT_PUBLIC, in_full, told};

// The client's types, so that no other crate depends on `reqwest` and makes a client of its own.
pub use reqwest::{Client, Method, RequestBuilder, StatusCode, Url, header};

#[cfg(test)]
mod tests;
