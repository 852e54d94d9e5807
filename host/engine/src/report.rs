use std::fmt;

use serde::Serialize;
use wharf_domain::Time;

use crate::{AdapterManifest, Digest, Inspection, Kind, ShaperManifest};

/// How far a revision came before it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Reading the file.
    Read,
    /// Reading what it is and what it asks for, before anything is compiled.
    Verify,
    /// Compiling it.
    Compile,
    /// Making a first instance on trial.
    Instantiate,
    /// Asking what it serves.
    Describe,
}

/// Why a revision does not serve, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Where it was stopped.
    pub stage: Stage,
    /// What is wrong with it.
    pub cause: String,
    /// What this host offers instead.
    pub offer: String,
    /// How its author or the operator mends it.
    pub fix: String,
}

impl Refusal {
    pub(crate) fn new(stage: Stage, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { stage, cause: cause.into(), offer: String::new(), fix: fix.into() }
    }

    pub(crate) fn offering(self, offer: impl Into<String>) -> Self {
        Self { offer: offer.into(), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = format!("{:?}", self.stage).to_lowercase();
        write!(f, "refused at {stage}: {}", self.cause)?;
        if !self.offer.is_empty() {
            write!(f, "; this host offers {}", self.offer)?;
        }
        write!(f, "; to fix it: {}", self.fix)
    }
}

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Manifest {
    /// Of a marketplace adapter.
    Adapter(AdapterManifest),
    /// Of a payload shaper.
    Shaper(ShaperManifest),
}

impl Manifest {
    /// Which kind of plugin says it.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Adapter(_) => Kind::Adapter,
            Self::Shaper(_) => Kind::Shaper,
        }
    }

    /// The marketplace or shaper name that it serves.
    pub fn serves(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.marketplace,
            Self::Shaper(manifest) => &manifest.name,
        }
    }

    /// The name for people.
    pub fn display_name(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.display_name,
            Self::Shaper(manifest) => &manifest.display_name,
        }
    }

    /// The plugin's own version.
    pub fn version(&self) -> &str {
        match self {
            Self::Adapter(manifest) => &manifest.version,
            Self::Shaper(manifest) => &manifest.version,
        }
    }
}

/// Whether a plugin's newest file serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PluginState {
    /// It does.
    Active,
    /// It does not. An older revision may serve on: `digest` of the report says which.
    Refused {
        /// The digest of the refused file, if it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<Digest>,
        /// Why.
        refusal: Refusal,
    },
}

/// One plugin, for operators.
#[derive(Clone, Debug, Serialize)]
pub struct PluginReport {
    /// The file's name without `.wasm`.
    pub plugin: String,
    /// Whether the newest file serves.
    #[serde(flatten)]
    pub state: PluginState,
    /// The revision that serves.
    pub digest: Option<Digest>,
    /// Adapter or shaper.
    pub kind: Option<Kind>,
    /// The marketplace or shaper name that it serves.
    pub serves: Option<String>,
    /// The name for people.
    pub display_name: Option<String>,
    /// The plugin's own version.
    pub version: Option<String>,
    /// What it says about itself.
    pub manifest: Option<Manifest>,
    /// What its names say: the contract's version, imports and exports.
    pub inspection: Option<Inspection>,
    /// The component's size in bytes.
    pub size: Option<usize>,
    /// When the serving revision became active here, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub loaded_at: Option<Time>,
}

fn rfc3339<S: serde::Serializer>(at: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(serializer)
}
