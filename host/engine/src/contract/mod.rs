//! The contract: what host and plugin say to each other, what is checked of it, and what operators read about it.
//!
//! This room runs nothing. It is used by the sandbox, by the plugins' revisions and by the program.

pub(crate) mod bindings;
pub(crate) mod convert;
pub(crate) mod digest;
pub(crate) mod fault;
pub(crate) mod grants;
pub(crate) mod inside;
pub(crate) mod inspect;
pub(crate) mod limits;
pub(crate) mod machine;
pub(crate) mod manifest;
pub(crate) mod refusal;
pub(crate) mod report;
pub(crate) mod secret;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod text;
