//! Asking a shaper for an event's body.

use wharf_domain::Event;
use wharf_engine::{Blame, Fault};
use wharf_store::outbox::Message;

use crate::App;

/// The reason why an event has no body.
pub(crate) enum Unshaped {
    /// The shaper will never take it.
    Refused(String),
    /// The shaper failed on it by its own fault.
    Faulted(String),
    /// The shaper cannot be asked now.
    OutOfService(String),
}

impl App {
    /// The event's body as this shaper makes it.
    pub(crate) async fn shape(&self, shaper: &str, event: &Event) -> Result<Message, Unshaped> {
        let call = self.0.engine.shape(shaper, event);
        let called = self.call_plugin("shape", call).await;
        match called.result {
            Ok(message) => Ok(Message {
                shaper: shaper.to_owned(),
                plugin_digest: called
                    .digest
                    .map(|digest| digest.to_string())
                    .unwrap_or_default(),
                content_type: message.content_type,
                headers: message.headers,
                body: message.body,
            }),
            // Its word is final: the same event would be refused again.
            Err(Fault::Refused(why)) => Err(Unshaped::Refused(format!(
                "the shaper refused the event: {why}"
            ))),
            // It may fail on this one event alone, which is therefore tried only a few times.
            Err(fault) if fault.blame() == Blame::Plugin => {
                Err(Unshaped::Faulted(format!("shaper {shaper}: {fault}")))
            }
            // Neither the event nor its endpoint is to blame, so it waits for as long as it takes.
            Err(fault) => Err(Unshaped::OutOfService(format!("shaper {shaper}: {fault}"))),
        }
    }
}
