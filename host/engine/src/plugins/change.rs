//! Changes of records: this host serves first, then the change is written for all hosts.

use std::io;

use super::record::Record;
use super::registry::Registry;
use super::step::Step;
use crate::contract::fault::OperationError;

/// A record with its change.
struct Changed<'a> {
    plugin: &'a str,
    /// Kept to take the change back if it cannot be written.
    before: Record,
    record: Record,
    steps: Vec<Step>,
}

impl Registry {
    /// Changes a plugin's record, as [`change_all`](Self::change_all) does.
    pub(crate) fn change(
        &self,
        plugin: &str,
        change: impl FnOnce(&mut Record) -> Result<Vec<Step>, OperationError>,
    ) -> Result<(), OperationError> {
        self.change_all(vec![(plugin, change)])
    }

    /// Changes the records of several plugins, and lets this host serve accordingly, at one moment. The steps that the
    /// changes return go to the audit; if one fails, nothing is changed. This host serves first and writes then: no
    /// disk, however slow, may hold up a rollback. If a record cannot be written, all is as before.
    pub(super) fn change_all<C>(&self, changes: Vec<(&str, C)>) -> Result<(), OperationError>
    where
        C: FnOnce(&mut Record) -> Result<Vec<Step>, OperationError>,
    {
        // This order everywhere: threads first, so that one host waits for the file once.
        let _of_this_host = self.changing();
        let _of_all_hosts = self.store.lock()?;
        let mut changed = Vec::new();
        for (plugin, change) in changes {
            let before = self.store.record(plugin)?;
            let mut record = before.clone();
            let steps = change(&mut record)?;
            changed.push(Changed {
                plugin,
                before,
                record,
                steps,
            });
        }
        let replaced = self.adopt(changed.iter().map(|one| (one.plugin, one.record.clone())));
        if let Err(error) = self.write(&changed) {
            drop(self.adopt(changed.into_iter().map(|one| (one.plugin, one.before))));
            return Err(error.into());
        }
        for Changed { plugin, steps, .. } in changed {
            steps.into_iter().for_each(|step| self.tell(plugin, step));
        }
        replaced
            .into_iter()
            .for_each(|replaced| self.drain(replaced));
        Ok(())
    }

    fn write(&self, changed: &[Changed<'_>]) -> io::Result<()> {
        // No write and no wake-up of other hosts for a change that changes nothing.
        let news: Vec<_> = changed
            .iter()
            .filter(|one| one.record != one.before)
            .collect();
        for (written, one) in news.iter().enumerate() {
            let Err(error) = self.store.save(one.plugin, &one.record) else {
                continue;
            };
            for one in &news[..written] {
                // Best effort on a disk that just failed. What is left is judged anew by the next look at the folder.
                let _ = self.store.save(one.plugin, &one.before);
            }
            return Err(error);
        }
        // Best effort, with the lock held: what is left is removed by the next change.
        if !news.is_empty()
            && let Err(error) = self.store.prune()
        {
            tracing::warn!(%error, "revisions that nobody needs could not be removed");
        }
        Ok(())
    }
}
