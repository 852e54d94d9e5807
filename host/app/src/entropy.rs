//! Randomness for ids, tokens and secrets, from the operating system.

use uuid::Uuid;
use wharf_domain::{Time, uuid_v4, uuid_v7};

/// Random bytes, fit for secrets.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that asks the operating system for randomness"
)]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Not a seeded generator: some of these bytes are signing secrets.
    getrandom::fill(&mut bytes).expect("the operating system gives randomness once it has booted");
    bytes
}

/// A number from 0 up to 1, for jitter.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place for randomness; jitter needs no secrecy"
)]
pub(crate) fn fraction() -> f64 {
    fastrand::f64()
}

/// A new id that sorts by creation.
pub(crate) fn new_id(now: Time) -> Uuid {
    uuid_v7(now, random())
}

/// A new name that cannot be guessed.
pub(crate) fn new_token() -> Uuid {
    uuid_v4(random())
}
