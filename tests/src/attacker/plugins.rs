//! The plugins of the attack, and the receipts on which they fault.

use std::fs;

use anyhow::Result;

use crate::Site;

const MISDEEDS: [&str; 8] = [
    "trap",
    "panic",
    "exit",
    "recurse",
    "alloc",
    "log-flood",
    "giant-output",
    "broken-text",
];

pub(super) fn install(site: &Site, name: &str, component: &[u8]) -> Result<()> {
    let path = site.dir().join(format!("{name}.wasm"));
    fs::write(&path, component)?;
    site.install_plugin(name, &path)
}

/// A receipt on which the adapter faults: each misdeed once, and then orders that break the contract, or traps.
pub(super) fn poison(client: usize, number: usize) -> String {
    match MISDEEDS.get(number) {
        Some(misdeed) if client == 0 => (*misdeed).to_owned(),
        _ if number.is_multiple_of(2) => format!("amount:-{client}{number}.00"),
        _ => format!("trap:{client}-{number}"),
    }
}
