//! Generated from `wit/`: one module per world, the imports shared.

#![allow(missing_docs, unreachable_pub, reason = "generated code")]

pub(crate) mod adapter {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "marketplace-adapter",
        exports: { default: async },
    });
}

pub(crate) mod shaper {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "payload-shaper",
        exports: { default: async },
        with: { "wharf:plugin/log": super::adapter::wharf::plugin::log },
    });
}

pub(crate) use adapter::MarketplaceAdapterPre;
pub(crate) use adapter::exports::wharf::plugin::adapter as adapter_types;
pub(crate) use adapter::wharf::plugin::{config, log};
pub(crate) use shaper::PayloadShaperPre;
pub(crate) use shaper::exports::wharf::plugin::shaper as shaper_types;
