//! An adapter, `hostile`, that does what its receipt says. A receipt that says nothing is accepted.
//!
//! `spin`, `trap` and their like stand in [`misdeeds`]. `id:`, `amount:`, `currency:` and `time:` put what follows them
//! into an otherwise good order; `reason:`, `fault:` and `config:` answer with what they name. A stamped component obeys
//! its stamp before the receipt, see the crate `faults`.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU32, Ordering},
};

use wharf_plugin_sdk::{
    adapter::{Adapter, Fault, Manifest, Order, Request, Verdict},
    config,
};

struct Hostile;

impl Adapter for Hostile {
    fn manifest() -> Manifest {
        let manifest =
            Manifest::new("hostile", "Hostile", env!("CARGO_PKG_VERSION")).reads_config("granted");
        match misdeeds::at_describe() {
            Some(what) => misdescribe(what, manifest),
            None => manifest,
        }
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        let order = Order {
            id: id_of(&request.receipt),
            amount: "12.50".into(),
            currency: request.currency,
            imported_at: request.now,
        };
        let what = misdeeds::at_text(&request.receipt).unwrap_or(&request.receipt);
        match what.split_once(':') {
            Some((field, text)) => answer(field, text, order),
            None => misbehave(what, order),
        }
    }
}

/// An id of its own for each receipt: the host takes two of one id for one order.
fn id_of(receipt: &str) -> String {
    let mut hasher = DefaultHasher::new();
    receipt.hash(&mut hasher);
    format!("order-{:016x}", hasher.finish())
}

fn misdescribe(what: &str, mut manifest: Manifest) -> Manifest {
    match what.split_once(':').unwrap_or((what, "")) {
        ("name", text) => manifest.marketplace = text.into(),
        ("display", text) => manifest.display_name = text.into(),
        ("version", text) => manifest.version = text.into(),
        ("key", text) => return manifest.reads_config(text),
        ("origin", text) => return manifest.wants_origin(text),
        ("many-origins", _) => {
            manifest.wanted_origins = (0..10_000)
                .map(|n| format!("https://{n}.example.com"))
                .collect();
        }
        ("giant", _) => manifest.display_name = "x".repeat(16 << 20),
        ("random", _) => manifest.display_name = misdeeds::random_text(),
        ("trap", _) => misdeeds::trap(),
        ("spin", _) => misdeeds::spin(),
        ("alloc", _) => misdeeds::allocate(),
        ("sleep", _) => misdeeds::sleep(),
        _ => {}
    }
    manifest
}

fn answer(field: &str, text: &str, mut order: Order) -> Result<Verdict, Fault> {
    let text = text.to_owned();
    match field {
        "id" => order.id = text,
        "amount" => order.amount = text,
        "currency" => order.currency = text,
        "time" => order.imported_at = text,
        "reason" => return Ok(Verdict::Rejected(text)),
        "config" => {
            return Ok(Verdict::Rejected(
                config::get(&text).unwrap_or_else(|| "not granted".into()),
            ));
        }
        "fault" => return Err(fault(&text)),
        // With any text behind it, so that there are as many such receipts as a test wants.
        "unavailable" => return Err(Fault::Unavailable(text)),
        "sleep" => misdeeds::sleep(),
        "hoard" => misdeeds::hoard(),
        "trap" => misdeeds::trap(),
        _ => {}
    }
    Ok(Verdict::Accepted(order))
}

fn fault(name: &str) -> Fault {
    match name {
        "unauthorized" => Fault::Unauthorized("credentials refused".into()),
        "unavailable" => Fault::Unavailable("down".into()),
        "misconfigured" => Fault::Misconfigured("no base_url".into()),
        seconds => Fault::RateLimited(seconds.parse().ok()),
    }
}

fn misbehave(receipt: &str, mut order: Order) -> Result<Verdict, Fault> {
    match receipt {
        "spin" => misdeeds::spin(),
        "spin-in-host-calls" => misdeeds::spin_in_host_calls(),
        "sleep-in-host-call" => misdeeds::sleep(),
        "nap" => misdeeds::nap(),
        "hoard" => misdeeds::hoard(),
        "trap" => misdeeds::trap(),
        "panic" => misdeeds::panic(),
        "exit" => misdeeds::exit(),
        "recurse" => order.id = misdeeds::recurse(0).to_string(),
        "alloc" => misdeeds::allocate(),
        "alloc-in-pieces" => misdeeds::allocate_in_pieces(),
        "leak-handles" => misdeeds::leak_handles(),
        "log-line" => misdeeds::write_log_line(),
        "log-flood" => misdeeds::flood_log(),
        "log-giant" => misdeeds::write_giant_log_line(),
        "output-flood" => misdeeds::flood_output(),
        "giant-output" => order.id = "x".repeat(16 << 20),
        "giant-reason" => return Ok(Verdict::Rejected("x".repeat(16 << 20))),
        "long-id" => order.id = "x".repeat(256),
        "nul-id" => order.id = "a\0b".into(),
        "broken-text" => order.id = misdeeds::broken_text(),
        "random" => order.id = misdeeds::random_text(),
        "clock" => order.id = misdeeds::clock_text(),
        "look-around" => return Ok(Verdict::Rejected(misdeeds::look_around())),
        "count-calls" => return Ok(Verdict::Rejected(count_calls())),
        _ => {}
    }
    Ok(Verdict::Accepted(order))
}

/// The number of calls of this instance: `1` for ever, as long as every call gets a fresh one.
fn count_calls() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    (CALLS.fetch_add(1, Ordering::Relaxed) + 1).to_string()
}

wharf_plugin_sdk::export_adapter!(Hostile);
