//! The generated bindings of both worlds. The traits in [`crate::adapter`] and [`crate::shaper`] stand before them.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]

pub use wit_bindgen::rt;

pub mod adapter {
    wit_bindgen::generate!({
        path: "wit",
        world: "marketplace-adapter",
        pub_export_macro: true,
        export_macro_name: "__export_adapter",
        default_bindings_module: "wharf_plugin_sdk::__bindings::adapter",
        runtime_path: "wharf_plugin_sdk::__bindings::rt",
    });
}

pub mod shaper {
    wit_bindgen::generate!({
        path: "wit",
        world: "payload-shaper",
        pub_export_macro: true,
        export_macro_name: "__export_shaper",
        default_bindings_module: "wharf_plugin_sdk::__bindings::shaper",
        with: { "wharf:plugin/log@0.1.0": super::adapter::wharf::plugin::log },
    });
}
