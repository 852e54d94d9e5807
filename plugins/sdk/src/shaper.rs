//! The world `payload-shaper`: turning events into webhook bodies.

use crate::__bindings::shaper::exports::wharf::plugin::shaper as wit;

pub use wit::{Event, Manifest, Message};

/// A form of webhook payloads. Export it with [`crate::export_shaper!`].
pub trait Shaper {
    /// Describes the shaper, in the same way for every call.
    fn manifest() -> Manifest;

    /// Turns an event into a message. Same event, same bytes.
    ///
    /// # Errors
    /// A text for people: this event cannot be shaped.
    fn shape(event: Event) -> Result<Message, String>;
}

impl Manifest {
    /// The name that endpoints choose the shaper by (`a-z`, `0-9`, `-`), the name for people, and the plugin's
    /// semantic version, usually `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: &str, display_name: &str, version: &str) -> Self {
        Self {
            name: name.into(),
            display_name: display_name.into(),
            version: version.into(),
        }
    }
}

impl Message {
    /// A message of a content type, without further headers.
    pub fn new(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            content_type: content_type.into(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Adds a header. The host refuses names that it or HTTP itself owns.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

#[doc(hidden)]
impl<T: Shaper> wit::Guest for T {
    fn describe() -> Manifest {
        T::manifest()
    }

    fn shape(event: Event) -> Result<Message, String> {
        <T as Shaper>::shape(event)
    }
}
