//! Log lines. The host adds the plugin's name and digest; lines past a call's limit are counted and dropped.
//!
//! Each function takes whatever can be shown: `log::info(format_args!("asked for {receipt}"))`.

use std::fmt::Display;

use crate::__bindings::adapter::wharf::plugin::log::Level;

/// Writes a line that only an author wants to see.
pub fn debug(message: impl Display) {
    write(Level::Debug, &message);
}

/// Writes a line about the usual course of things.
pub fn info(message: impl Display) {
    write(Level::Info, &message);
}

/// Writes a line about something odd that did no harm.
pub fn warn(message: impl Display) {
    write(Level::Warn, &message);
}

/// Writes a line about something that went wrong.
pub fn error(message: impl Display) {
    write(Level::Error, &message);
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: &dyn Display) {
    crate::__bindings::adapter::wharf::plugin::log::log(level, &message.to_string());
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: &dyn Display) {
    eprintln!("{level:?}: {message}");
}
