//! Faulty plugins, each with its fault and the stage that must stop it before it serves an order.
//!
//! [`faults`] is the table and [`Fault::build`] makes the component, each from source: most by stamping the compiled
//! guests `hostile-adapter` and `hostile-shaper` with the fault, the others from WIT or WebAssembly text.

mod table;
mod world;

use wharf_pack::PackFacts;

pub use table::faults;

/// Grants under which a fault is told for what it is on a busy machine, too: time on the processor runs out long before
/// patience does.
pub const LIMITS: &str = "[limits]\ncpu_ms = 250\nwall_ms = 30000\n";

/// The vectors of the fault [`Source::WrongVectors`]: no adapter with the mock rules answers like this.
pub const WRONG_VECTORS: &str = include_str!("../wrong-vectors.json");

/// A faulty plugin.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The fault in a word or two.
    pub name: &'static str,
    /// The source that it is made from.
    pub source: Source,
    /// The stage that must stop it.
    pub stage: Stage,
    /// A part of the reason that must be given, in lower case.
    pub reason: &'static str,
}

/// The stage that stops a faulty plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading what it is, before anything is compiled.
    Verify,
    /// Compiling it.
    Compile,
    /// Making a first instance.
    Instantiate,
    /// Asking what it serves.
    Describe,
    /// Asking it as the laws and vectors of conformance say.
    Conformance,
}

impl Stage {
    /// The host's own word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Compile => "compile",
            Self::Instantiate => "instantiate",
            Self::Describe => "describe",
            Self::Conformance => "conform",
        }
    }
}

/// The source of a faulty plugin.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// `hostile-adapter` with a stamp: when the fault shows and what it is.
    Adapter(&'static str),
    /// `hostile-shaper` with a stamp.
    Shaper(&'static str),
    /// A guest crate of its own.
    Guest(&'static str),
    /// An empty component of a world in WIT. The contract with a change, or a package of its own.
    World(world::World),
    /// A core module in text of the world `marketplace-adapter`.
    Text(&'static str),
    /// The good adapter `etsy`, changed byte by byte.
    Bytes(fn(Vec<u8>) -> Vec<u8>),
    /// The good adapter `etsy` with [`WRONG_VECTORS`].
    WrongVectors,
}

impl Fault {
    /// The bytes of the faulty plugin. `compiled` gives the component of a guest or plugin by the name of its crate.
    ///
    /// # Panics
    /// If a source is wrong: this is a tool of tests.
    pub fn build(&self, compiled: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
        match self.source {
            Source::Adapter(stamp) => stamped(compiled("hostile-adapter"), stamp),
            Source::Shaper(stamp) => stamped(compiled("hostile-shaper"), stamp),
            Source::Guest(name) => compiled(name),
            Source::World(world) => world.component(),
            Source::Text(text) => world::adapter_from_text(text),
            Source::Bytes(change) => change(compiled("etsy")),
            Source::WrongVectors => {
                let vectors = vec![WRONG_VECTORS.to_owned()];
                wharf_pack::pack(
                    &compiled("etsy"),
                    &PackFacts {
                        vectors,
                        ..PackFacts::default()
                    },
                )
            }
        }
    }
}

/// Writes a stamp over the place that `misdeeds` keeps for it.
///
/// # Panics
/// If the component has no such place, or the stamp is too long for it.
pub fn stamped(mut component: Vec<u8>, stamp: &str) -> Vec<u8> {
    const PLACE: usize = 128;
    const MARK: &[u8] = b"wharf-stamp:";
    let is_place = |bytes: &[u8]| {
        bytes.starts_with(MARK) && bytes[MARK.len()..].iter().all(|byte| *byte == b' ')
    };
    let mut places = component
        .windows(PLACE)
        .enumerate()
        .filter(|(_, bytes)| is_place(bytes))
        .map(|(at, _)| at);
    let at = places
        .next()
        .expect("the component has a place for a stamp");
    assert!(
        places.next().is_none(),
        "the component has one place for a stamp"
    );
    let text = &mut component[at..at + PLACE][MARK.len()..];
    text[..stamp.len()].copy_from_slice(stamp.as_bytes());
    component
}
