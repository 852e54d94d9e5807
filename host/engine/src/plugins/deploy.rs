//! The folder's files, judged together: who may serve a name depends on what all files want, not on what serves while they
//! are read. So files may be exchanged for one another, or in a ring.

use std::collections::BTreeMap;

use super::loading::Loading;
use super::offer::{Candidate, check_name, taken};
use super::record::Source;
use super::registry::Registry;
use super::store::Stored;
use crate::contract::{
    digest::Digest, fault::OperationError, inspect::Kind, manifest::Manifest, refusal::Refusal,
};

/// The actor of the audit.
const FOLDER: &str = "folder";

/// A name that one plugin at a time can serve.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    kind: Kind,
    serves: String,
}

impl Name {
    /// Returns the name that a plugin with this manifest serves.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            kind: manifest.kind(),
            serves: manifest.serves().to_owned(),
        }
    }
}

/// One look at the folder.
pub(super) struct Deployment<'a> {
    registry: &'a Registry,
    /// Revisions whose names somebody else serves, or waits for before them; each with its mark.
    waiting: Vec<(Candidate, Loading<'a>)>,
}

impl<'a> Deployment<'a> {
    pub(super) const fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            waiting: Vec::new(),
        }
    }

    /// Judges one file, whose verdict is kept with the plugin's record. A revision whose name is taken waits for
    /// [`finish`](Self::finish); each other one serves at once, so that it waits for no compiler.
    ///
    /// # Errors
    /// If there is no verdict that could be kept.
    pub(super) async fn offer(
        &mut self,
        plugin: &str,
        stored: Stored,
    ) -> Result<(), OperationError> {
        check_name(plugin)?;
        let (registry, digest) = (self.registry, stored.digest());
        let record = registry.store.record(plugin)?;
        if record.folder == Some(digest) {
            return Ok(());
        }
        let mark = registry.loading(plugin);
        let candidate = match registry.candidate(plugin, stored, &record).await {
            Ok(candidate) => candidate,
            Err(refusal) => return registry.refuse_file(plugin, digest, refusal),
        };
        let name = candidate.name();
        let is_wanted = |(other, _): &(Candidate, _)| other.name() == name;
        let is_its_own = registry.held().contains(&(name.clone(), plugin.to_owned()));
        if registry.rival(&candidate).is_some() || !is_its_own && self.waiting.iter().any(is_wanted)
        {
            self.waiting.push((candidate, mark));
            return Ok(());
        }
        match registry.try_out(&candidate).await {
            Ok(()) => registry.install(&[candidate], Source::Folder, FOLDER),
            Err(refusal) => registry.refuse_file(plugin, digest, refusal),
        }
    }

    /// Lets all those serve whose names get free by what they want together, at one moment, and refuses the others.
    pub(super) async fn finish(self) -> Result<(), OperationError> {
        let registry = self.registry;
        let (waiting, _marks): (Vec<_>, Vec<_>) = self.waiting.into_iter().unzip();
        let mut conformant = Vec::new();
        for candidate in registry.keep_free(waiting)? {
            match registry.try_out(&candidate).await {
                Ok(()) => conformant.push(candidate),
                Err(refusal) => {
                    registry.refuse_file(&candidate.plugin, candidate.stored.digest(), refusal)?
                }
            }
        }
        // Once more: what failed goes on to serve its old name.
        let going = registry.keep_free(conformant)?;
        registry.install(&going, Source::Folder, FOLDER)
    }
}

impl Registry {
    /// Refuses the candidates whose names stay taken, and returns the others.
    fn keep_free(&self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, OperationError> {
        let wanted: Vec<_> = candidates
            .iter()
            .map(|candidate| (candidate.name(), candidate.plugin.clone()))
            .collect();
        let holders = holders(&self.held(), &wanted);
        let mut free = Vec::new();
        for candidate in candidates {
            match holders.get(&candidate.name()) {
                Some(holder) if *holder != candidate.plugin => self.refuse_file(
                    &candidate.plugin,
                    candidate.stored.digest(),
                    taken(&candidate, holder),
                )?,
                _ => free.push(candidate),
            }
        }
        Ok(free)
    }

    fn refuse_file(
        &self,
        plugin: &str,
        digest: Digest,
        refusal: Refusal,
    ) -> Result<(), OperationError> {
        self.refuse(plugin, digest, refusal, Source::Folder, FOLDER)
    }
}

/// Returns the plugin that has each name once all have moved that can. `held` are the names that serve now, `wanted` those
/// that plugins move to. Who does not move keeps its name; of two that want one, the first gets it.
fn holders(held: &[(Name, String)], wanted: &[(Name, String)]) -> BTreeMap<Name, String> {
    let mut moving: Vec<&(Name, String)> = wanted.iter().collect();
    loop {
        let moves = |plugin: &String| moving.iter().any(|(_, moving)| moving == plugin);
        let mut holders: BTreeMap<Name, String> = held
            .iter()
            .filter(|(_, plugin)| !moves(plugin))
            .cloned()
            .collect();
        let before = moving.len();
        moving.retain(|(name, plugin)| {
            *holders.entry(name.clone()).or_insert(plugin.clone()) == *plugin
        });
        // Who stays after all keeps a name that another may have counted on. Each round has fewer movers, so it ends.
        if moving.len() == before {
            return holders;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pairs: &[(&str, &str)]) -> Vec<(Name, String)> {
        let name = |serves: &str| Name {
            kind: Kind::Adapter,
            serves: serves.into(),
        };
        pairs
            .iter()
            .map(|(serves, plugin)| (name(serves), (*plugin).into()))
            .collect()
    }

    #[test]
    fn names_go_to_those_who_can_move() {
        for (held, wanted, after) in [
            // A ring of two, and one of three.
            (
                &[("a", "1"), ("b", "2")][..],
                &[("b", "1"), ("a", "2")][..],
                &[("a", "2"), ("b", "1")][..],
            ),
            (
                &[("a", "1"), ("b", "2"), ("c", "3")],
                &[("b", "1"), ("c", "2"), ("a", "3")],
                &[("a", "3"), ("b", "1"), ("c", "2")],
            ),
            // One that stays holds up the row behind it.
            (
                &[("a", "1"), ("b", "2"), ("c", "3")],
                &[("b", "1"), ("c", "2")],
                &[("a", "1"), ("b", "2"), ("c", "3")],
            ),
            // Two want one name: the first gets it, and the other keeps its own.
            (
                &[("a", "1"), ("b", "2"), ("c", "3")],
                &[("d", "1"), ("d", "2"), ("b", "3")],
                &[("b", "2"), ("c", "3"), ("d", "1")],
            ),
            (&[], &[("a", "1"), ("a", "2")], &[("a", "1")]),
        ] {
            let holders = holders(&names(held), &names(wanted));
            assert_eq!(holders, names(after).into_iter().collect(), "{wanted:?}");
        }
    }
}
