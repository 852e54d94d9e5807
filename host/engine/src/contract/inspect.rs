//! Inspection: reads what a component is from its names alone, before anything is compiled.

use semver::Version;
use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};

use super::{
    refusal::{Refusal, Stage},
    text::for_people,
};

/// The contract's versions that this host speaks: any patch of these.
pub const CONTRACT_VERSIONS: &[&str] = &["0.1"];

/// Bytes of a component.
pub(crate) const MAX_COMPONENT_BYTES: usize = 32 * 1024 * 1024;

/// Interfaces that every guest may import, without their versions. Standard libraries import most of them whatever
/// the code does; none of them reaches a file, a socket or a variable of the host.
const FOR_ALL: &[&str] = &[
    "wharf:plugin/log",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// Interfaces that adapters may import too.
const FOR_ADAPTERS: &[&str] = &[
    "wharf:plugin/config",
    "wasi:http/types",
    "wasi:http/outgoing-handler",
];

/// The purpose of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It serves one marketplace.
    Adapter,
    /// It shapes webhook payloads.
    Shaper,
}

/// The facts that a component's own names tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its world.
    pub kind: Kind,
    /// The contract version that it was built against.
    pub contract: String,
    /// Its imports, in its order.
    pub imports: Vec<String>,
    /// Its exports, in its order.
    pub exports: Vec<String>,
}

impl Inspection {
    /// Tells if it asks for outbound HTTP.
    pub fn wants_http(&self) -> bool {
        self.imports
            .iter()
            .any(|name| name.starts_with("wasi:http/outgoing-handler"))
    }
}

/// Reads a component's names and refuses what this host cannot run.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Verify`] if it is no component, of no known world or version, or imports what no plugin
/// gets.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    // Before parsing, which takes time in proportion.
    if bytes.len() > MAX_COMPONENT_BYTES {
        let cause = format!("{} bytes are too many for a component", bytes.len());
        return Err(refuse(cause, "build it smaller").offering("32 MiB a component"));
    }
    let (imports, exports) = names(bytes)?;
    let (kind, contract) = world(&exports)?;
    for import in &imports {
        check_import(kind, import)?;
    }
    Ok(Inspection {
        kind,
        contract,
        imports,
        exports,
    })
}

fn refuse(cause: impl Into<String>, fix: &str) -> Refusal {
    Refusal::new(Stage::Verify, cause, fix)
}

/// Returns the names that the outermost component imports and exports.
fn names(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let broken = |error: wasmparser::BinaryReaderError| {
        refuse(
            for_people(&format!("not a valid WebAssembly component: {error}")),
            "build it again for wasm32-wasip2",
        )
    };
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => {
                let cause = "it is a core module, not a component";
                return Err(refuse(
                    cause,
                    "build it for wasm32-wasip2, or wrap it with `wasm-tools component new`",
                ));
            }
            // Nested modules and components have imports of their own, which the outermost one satisfies.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            // The outermost component ends too, at depth 0.
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(broken)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn world(exports: &[String]) -> Result<(Kind, String), Refusal> {
    let worlds = "wharf:plugin/adapter (world marketplace-adapter) and wharf:plugin/shaper (world payload-shaper), 0.1.x";
    let fix = "build it against wit/0.1.0 with one of its two worlds";
    let mut found = exports.iter().filter_map(|export| match split(export) {
        ("wharf:plugin/adapter", version) => Some((Kind::Adapter, version)),
        ("wharf:plugin/shaper", version) => Some((Kind::Shaper, version)),
        _ => None,
    });
    let Some((kind, version)) = found.next() else {
        return Err(refuse("it exports neither an adapter nor a shaper", fix).offering(worlds));
    };
    // A component of both worlds would have two sets of rights.
    if found.next().is_some() {
        return Err(refuse("it exports more than one adapter or shaper", fix).offering(worlds));
    }
    let known = Version::parse(version).is_ok_and(|v| {
        // Pre-releases promise nothing.
        v.pre.is_empty() && CONTRACT_VERSIONS.contains(&format!("{}.{}", v.major, v.minor).as_str())
    });
    if !known {
        let cause = format!(
            "it was built against version {version:?} of the contract, which this host does not know"
        );
        return Err(refuse(cause, fix).offering(worlds));
    }
    Ok((kind, version.to_owned()))
}

fn check_import(kind: Kind, import: &str) -> Result<(), Refusal> {
    let (interface, version) = split(import);
    let known = FOR_ALL.contains(&interface)
        || (kind == Kind::Adapter && FOR_ADAPTERS.contains(&interface));
    // WASI keeps 0.2.x compatible, the contract its 0.1.x.
    let track = if interface.starts_with("wasi:") {
        "0.2."
    } else {
        "0.1."
    };
    if known && version.starts_with(track) {
        return Ok(());
    }
    let offer = match kind {
        Kind::Adapter => {
            "wharf:plugin log and config 0.1, wasi io, cli, clocks, random and http 0.2; no files, no sockets"
        }
        Kind::Shaper => {
            "wharf:plugin log 0.1, wasi io, cli, fixed clocks and fixed random 0.2; no config, files or network"
        }
    };
    Err(refuse(format!("it imports {import}"), "leave out what uses it").offering(offer))
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}
