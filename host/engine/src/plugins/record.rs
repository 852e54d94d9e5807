//! The record of a plugin's revisions: data and pure rules. Every host that shares the state folder serves what the
//! record on disk says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::{digest::Digest, refusal::Refusal};

/// Older revisions that are kept for rolling back.
pub(crate) const MAX_RETAINED: usize = 5;

/// The lasting facts about a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The revision in the folder when it was last judged; `None` for a plugin that is not in it.
    pub(crate) folder: Option<Digest>,
    /// The revision that serves, or would if the plugin were not out of service.
    pub(crate) active: Option<Digest>,
    /// Revisions that can serve again, the next one to roll back to first.
    pub(crate) retained: Vec<Digest>,
    /// Revisions that may not serve, with the reasons.
    pub(crate) quarantined: BTreeMap<Digest, String>,
    /// The reason why the plugin is disabled.
    pub(crate) disabled: Option<String>,
    /// The newest revision that was refused.
    pub(crate) refused: Option<Refused>,
}

/// The newest revision that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) digest: Option<Digest>,
    pub(crate) refusal: Refusal,
    pub(crate) source: Source,
}

/// The origin of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// The watched folder.
    Folder,
    /// A caller.
    Upload,
}

impl Record {
    /// Lets a revision serve and returns the one that it replaces.
    pub(crate) fn activate(&mut self, digest: Digest) -> Option<Digest> {
        let before = self
            .active
            .replace(digest)
            .filter(|before| *before != digest);
        self.retained
            .retain(|kept| *kept != digest && Some(*kept) != before);
        // First in the row: the next one to roll back to.
        self.retained.splice(0..0, before);
        self.retained.truncate(MAX_RETAINED);
        // A revision that serves makes an older refusal history.
        self.refused = None;
        before
    }

    /// Returns the revision that rolling back would lead to.
    pub(crate) fn fallback(&self) -> Option<Digest> {
        self.retained
            .iter()
            .find(|digest| !self.quarantined.contains_key(digest))
            .copied()
    }

    /// Returns the same, as if that revision were quarantined.
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
        // One place is kept for what served, at the end.
        self.retained.truncate(MAX_RETAINED - 1);
        self.retained.extend(before);
        Some(to)
    }

    /// Tells if the plugin is, or was, in the folder.
    pub(crate) fn is_of_folder(&self) -> bool {
        self.folder.is_some()
            || self
                .refused
                .as_ref()
                .is_some_and(|refused| refused.source == Source::Folder)
    }

    /// Withdraws the plugin because its file is gone. What was uploaded since stays.
    pub(crate) fn withdraw(&mut self) -> Option<Digest> {
        // Without a revision of the folder, the active one was uploaded.
        let uploaded = self.folder.take().is_none();
        self.refused = None;
        let before = self.active.take_if(|_| !uploaded);
        self.retained.splice(0..0, before);
        self.retained.truncate(MAX_RETAINED);
        before
    }

    /// Returns the reason why the active revision may not serve now.
    pub(crate) fn out_of_service(&self) -> Option<String> {
        let disabled = self
            .disabled
            .as_ref()
            .map(|reason| format!("disabled: {reason}"));
        let quarantined = self.active.and_then(|digest| self.quarantined.get(&digest));
        // An operator's word comes before the breaker's.
        disabled.or_else(|| quarantined.map(|reason| format!("quarantined: {reason}")))
    }

    /// Returns every revision whose bytes are still needed.
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
        let mut record = Record::default();
        assert_eq!(record.roll_back(), None);
        for n in 1..=7 {
            record.activate(digest(n));
        }
        assert_eq!(record.retained, [6, 5, 4, 3, 2].map(digest));
        assert_eq!(record.roll_back(), Some(digest(6)));
        assert_eq!(record.roll_back(), Some(digest(5)));
        assert_eq!(record.retained, [4, 3, 2, 7, 6].map(digest));
        record.quarantined.insert(digest(4), "bad".into());
        assert_eq!(record.roll_back(), Some(digest(3)));
    }

    #[test]
    fn a_plugin_out_of_service_says_why() {
        let mut record = Record::default();
        record.activate(digest(1));
        assert_eq!(record.out_of_service(), None);
        record.quarantined.insert(digest(1), "it traps".into());
        assert_eq!(
            record.out_of_service().as_deref(),
            Some("quarantined: it traps")
        );
        record.disabled = Some("for now".into());
        assert_eq!(
            record.out_of_service().as_deref(),
            Some("disabled: for now")
        );
    }

    proptest! {
        /// The active revision is never among the retained, nothing stands twice and five are kept, whatever is done.
        #[test]
        fn the_row_stays_in_order(steps in prop::collection::vec((0..4_u8, 0..8_u8), 0..60)) {
            let mut record = Record::default();
            for (step, n) in steps {
                match step {
                    0 | 1 => record.activate(digest(n)),
                    2 => record.roll_back(),
                    _ => record.withdraw(),
                };
                let mut seen: Vec<_> = record.needed().collect();
                let count = seen.len();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), count);
                prop_assert!(record.retained.len() <= MAX_RETAINED);
            }
        }
    }
}
