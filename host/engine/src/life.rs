//! The life of a plugin's revisions, as data and pure rules. What is written here to disk is what every host that shares
//! the folder serves.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_domain::Time;

use crate::{Digest, Refusal};

/// Older revisions that are kept for rolling back.
pub(crate) const RETAINED: usize = 5;

/// Where a revision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionState {
    /// Its bytes are here.
    Staged,
    /// It is a component of a world and version that this host knows, and imports nothing that no plugin gets.
    Verified,
    /// It was compiled, tried and described itself.
    Compiled,
    /// It kept every law and every vector.
    Conformant,
    /// It asks for more than it was granted.
    NeedsApproval,
    /// It serves.
    Active,
    /// Another took its place, and its last calls run.
    Draining,
    /// It is kept for rolling back.
    Retained,
    /// It does not serve, for a reason.
    Refused,
    /// It failed too often, or an operator put it aside.
    Quarantined,
    /// Its plugin was switched off.
    Disabled,
}

impl fmt::Display for RevisionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staged => "staged",
            Self::Verified => "verified",
            Self::Compiled => "compiled",
            Self::Conformant => "conformant",
            Self::NeedsApproval => "needs-approval",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Retained => "retained",
            Self::Refused => "refused",
            Self::Quarantined => "quarantined",
            Self::Disabled => "disabled",
        })
    }
}

/// One step in the life of a revision, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: Time,
    /// Of which plugin.
    pub plugin: String,
    /// Of which revision; `None` if the file could not even be read.
    pub digest: Option<Digest>,
    /// Where it stood; `None` if it is new.
    pub from: Option<RevisionState>,
    /// Where it stands now.
    pub to: RevisionState,
    /// Why, for people.
    pub reason: String,
    /// Who did it: `folder`, `engine`, or whom the caller names.
    pub actor: String,
}

/// What is known of a plugin for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// What the folder held when it was last judged; `None` for a plugin that is not in it.
    pub(crate) folder: Option<Digest>,
    /// The revision that serves, or would if the plugin were not put aside.
    pub(crate) active: Option<Digest>,
    /// Those that can serve again, the next one to roll back to first.
    pub(crate) retained: Vec<Digest>,
    /// Those that may not serve, and why.
    pub(crate) quarantined: BTreeMap<Digest, String>,
    /// Why the plugin is switched off.
    pub(crate) disabled: Option<String>,
    /// The newest revision that may not serve, and why.
    pub(crate) refused: Option<Refused>,
}

/// The newest revision that may not serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) digest: Option<Digest>,
    pub(crate) refusal: Refusal,
    pub(crate) source: Source,
}

/// Where a revision comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// The watched folder.
    Folder,
    /// A caller.
    Upload,
}

impl Life {
    /// Lets a revision serve and returns the one that it replaces.
    pub(crate) fn activate(&mut self, digest: Digest) -> Option<Digest> {
        let before = self
            .active
            .replace(digest)
            .filter(|before| *before != digest);
        self.retained
            .retain(|kept| *kept != digest && Some(*kept) != before);
        self.retained.splice(0..0, before);
        self.retained.truncate(RETAINED);
        self.refused = None;
        before
    }

    /// The revision that rolling back would lead to.
    pub(crate) fn fallback(&self) -> Option<Digest> {
        self.retained
            .iter()
            .find(|digest| !self.quarantined.contains_key(digest))
            .copied()
    }

    /// The same if that revision were quarantined.
    pub(crate) fn fallback_without(&self, digest: Digest) -> Option<Digest> {
        self.retained
            .iter()
            .find(|kept| **kept != digest && !self.quarantined.contains_key(kept))
            .copied()
    }

    /// Goes back to the fallback. What served goes to the end of the row, so that rolling back again goes further back.
    pub(crate) fn roll_back(&mut self) -> Option<Digest> {
        let to = self.fallback()?;
        let before = self.active.replace(to);
        self.retained
            .retain(|kept| *kept != to && Some(*kept) != before);
        self.retained.truncate(RETAINED - 1);
        self.retained.extend(before);
        Some(to)
    }

    /// Whether the folder has, or had, something to do with it.
    pub(crate) fn is_of_folder(&self) -> bool {
        self.folder.is_some()
            || self
                .refused
                .as_ref()
                .is_some_and(|refused| refused.source == Source::Folder)
    }

    /// Takes the plugin out because its file is gone. What was uploaded since stays.
    pub(crate) fn withdraw(&mut self) -> Option<Digest> {
        let uploaded = self.folder.take().is_none();
        self.refused = None;
        let before = self.active.take_if(|_| !uploaded);
        self.retained.splice(0..0, before);
        self.retained.truncate(RETAINED);
        before
    }

    /// Why the active revision may not serve now.
    pub(crate) fn out_of_service(&self) -> Option<String> {
        let disabled = self
            .disabled
            .as_ref()
            .map(|reason| format!("disabled: {reason}"));
        let quarantined = self.active.and_then(|digest| self.quarantined.get(&digest));
        disabled.or_else(|| quarantined.map(|reason| format!("quarantined: {reason}")))
    }

    /// Every revision whose bytes are still needed.
    pub(crate) fn needed(&self) -> impl Iterator<Item = Digest> + '_ {
        self.active.iter().chain(&self.retained).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn rolling_back_goes_further_back_each_time() {
        let mut life = Life::default();
        assert_eq!(life.roll_back(), None);
        for n in 1..=7 {
            life.activate(digest(n));
        }
        assert_eq!(life.retained, [6, 5, 4, 3, 2].map(digest));
        assert_eq!(life.roll_back(), Some(digest(6)));
        assert_eq!(life.roll_back(), Some(digest(5)));
        assert_eq!(life.retained, [4, 3, 2, 7, 6].map(digest));
        life.quarantined.insert(digest(4), "bad".into());
        assert_eq!(life.roll_back(), Some(digest(3)));
    }

    #[test]
    fn a_plugin_that_is_put_aside_says_why() {
        let mut life = Life::default();
        life.activate(digest(1));
        assert_eq!(life.out_of_service(), None);
        life.quarantined.insert(digest(1), "it traps".into());
        assert_eq!(
            life.out_of_service().as_deref(),
            Some("quarantined: it traps")
        );
        life.disabled = Some("for now".into());
        assert_eq!(life.out_of_service().as_deref(), Some("disabled: for now"));
    }

    proptest! {
        /// Whatever is done, the active revision is never among the retained, nothing stands twice, five are kept.
        #[test]
        fn the_row_stays_in_order(steps in prop::collection::vec((0..4_u8, 0..8_u8), 0..60)) {
            let mut life = Life::default();
            for (step, n) in steps {
                match step {
                    0 | 1 => life.activate(digest(n)),
                    2 => life.roll_back(),
                    _ => life.withdraw(),
                };
                let mut seen: Vec<_> = life.needed().collect();
                let count = seen.len();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), count);
                prop_assert!(life.retained.len() <= RETAINED);
            }
        }
    }
}
