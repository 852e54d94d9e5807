//! Empty components of faulty worlds, made from WIT or WebAssembly text.

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

const CONTRACT: &str = include_str!("../../../../wit/0.1.0/plugin.wit");

/// A world that an empty component is made of.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// A package that the world uses besides the contract; empty for none.
    pub(crate) besides: &'static str,
    /// Text of the contract to replace, and what stands there instead.
    pub(crate) change: (&'static str, &'static str),
    /// A world to add to the contract, named `faulty`; empty for its own adapter world.
    pub(crate) world: &'static str,
}

impl World {
    /// The contract as it is.
    pub(crate) const CONTRACT: Self = Self {
        besides: "",
        change: ("", ""),
        world: "",
    };

    pub(crate) fn component(&self) -> Vec<u8> {
        let (from, to) = self.change;
        assert!(CONTRACT.contains(from), "the contract has {from:?}");
        let changed = if from.is_empty() {
            CONTRACT.to_owned()
        } else {
            CONTRACT.replace(from, to)
        };
        let name = if self.world.is_empty() {
            "marketplace-adapter"
        } else {
            "faulty"
        };
        component(
            self.besides,
            &format!("{changed}\n{}", self.world),
            name,
            None,
        )
    }
}

/// An adapter from the text of a core module.
pub(crate) fn adapter_from_text(text: &str) -> Vec<u8> {
    let module = wat::parse_str(text).expect("a module in text");
    component("", CONTRACT, "marketplace-adapter", Some(module))
}

/// Makes a component of a world, of an empty module that traps in every function if none is given.
fn component(besides: &str, wit: &str, world: &str, module: Option<Vec<u8>>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    if !besides.is_empty() {
        resolve
            .push_str("besides.wit", besides)
            .expect("a package in WIT");
    }
    let package = resolve
        .push_str("plugin.wit", wit)
        .expect("a package in WIT");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("a world of the package");
    let mut module = module.unwrap_or_else(|| {
        dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync))
    });
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("a world that can be embedded");
    let encoder = ComponentEncoder::default()
        .module(&module)
        .expect("a module of the world");
    encoder.validate(true).encode().expect("a component")
}
