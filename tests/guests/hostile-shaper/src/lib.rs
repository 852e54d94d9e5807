//! A shaper, `hostile`, that does what the event's organization id says. One that says nothing is shaped into `{}`.
//!
//! `spin`, `trap` and their like stand in [`misdeeds`]; `content-type:<text>` and `header:<name>=<value>` put what they
//! name into an otherwise good message, and `error:<text>` is the error. A stamped component obeys its stamp before the
//! event, see the crate `faults`.

use wharf_plugin_sdk::shaper::{Event, Manifest, Message, Shaper};

struct Hostile;

impl Shaper for Hostile {
    fn manifest() -> Manifest {
        let name =
            match misdeeds::at_describe().map(|what| what.split_once(':').unwrap_or((what, ""))) {
                Some(("name", name)) => name,
                Some(("trap", _)) => misdeeds::trap(),
                Some(("spin", _)) => misdeeds::spin(),
                _ => "hostile",
            };
        Manifest::new(name, "Hostile", env!("CARGO_PKG_VERSION"))
    }

    fn shape(event: Event) -> Result<Message, String> {
        let what = misdeeds::at_text(&event.organization_id).unwrap_or(&event.organization_id);
        match what.split_once(':') {
            Some((field, text)) => answer(field, text),
            None => Ok(misbehave(what)),
        }
    }
}

fn json(body: impl Into<Vec<u8>>) -> Message {
    Message::new("application/json", body)
}

fn answer(field: &str, text: &str) -> Result<Message, String> {
    match (field, text.split_once('=')) {
        ("content-type", _) => Ok(Message::new(text, "{}")),
        ("header", Some((name, value))) => Ok(json("{}").header(name, value)),
        ("error", _) => Err(text.into()),
        _ => Ok(json("{}")),
    }
}

fn misbehave(name: &str) -> Message {
    match name {
        "spin" => misdeeds::spin(),
        "spin-in-host-calls" => misdeeds::spin_in_host_calls(),
        "trap" => misdeeds::trap(),
        "panic" => misdeeds::panic(),
        "exit" => misdeeds::exit(),
        "recurse" => json(misdeeds::recurse(0).to_string()),
        "alloc" => misdeeds::allocate(),
        "alloc-in-pieces" => misdeeds::allocate_in_pieces(),
        "log-flood" => {
            misdeeds::flood_log();
            json("{}")
        }
        "giant-output" => json(vec![b'x'; 2 << 20]),
        "many-headers" => (0..10_000).fold(json("{}"), |message, n| {
            message.header(&format!("x-{n}"), "1")
        }),
        "header-injection" => json("{}").header("x-a", "1\r\nx-forged: 1"),
        "broken-text" => json("{}").header("x-a", &misdeeds::broken_text()),
        _ => json("{}"),
    }
}

wharf_plugin_sdk::export_shaper!(Hostile);
