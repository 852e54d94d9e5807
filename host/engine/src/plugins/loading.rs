//! Plugins that are being loaded: their marks, and how a host comes to serve what the records say.

use std::io;

use super::record::Record;
use super::registry::Registry;

/// A plugin that does not serve yet what its record says.
pub(super) struct Pending<'a> {
    pub(super) plugin: String,
    record: Record,
    _mark: Option<Loading<'a>>,
}

/// The mark of a plugin that is being loaded, taken back when it is dropped.
pub(super) struct Loading<'a> {
    registry: &'a Registry,
    plugin: String,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut known = self.registry.known();
        if let Some(marks) = known.loading.get_mut(&self.plugin) {
            *marks -= 1;
        }
        known.loading.retain(|_, marks| *marks > 0);
        self.registry.publish(&known);
    }
}

impl Registry {
    /// Follows what other hosts changed, and loads what serves by now.
    pub(crate) async fn reconcile(&self) -> io::Result<()> {
        for pending in self.pending()? {
            self.settle(pending).await?;
        }
        Ok(())
    }

    /// Returns the plugins that do not serve what their records say, all marked as loading.
    pub(super) fn pending(&self) -> io::Result<Vec<Pending<'_>>> {
        let mut pending = Vec::new();
        for (plugin, record) in self.store.records()? {
            let is_settled = self
                .known()
                .plugins
                .get(&plugin)
                .is_some_and(|known| known.record == record && known.is_settled());
            if !is_settled {
                // A record without an active revision has nothing to load.
                let mark = record.active.map(|_| self.loading(&plugin));
                pending.push(Pending {
                    plugin,
                    record,
                    _mark: mark,
                });
            }
        }
        Ok(pending)
    }

    /// Lets one plugin serve what its record says.
    pub(super) async fn settle(&self, pending: Pending<'_>) -> io::Result<()> {
        let Pending { plugin, record, .. } = &pending;
        // Loaded before it is adopted, so that no call waits for a compiler.
        if let Some(digest) = record.active
            && let Err(refusal) = self.loaded(plugin, digest).await
        {
            tracing::error!(plugin, %digest, %refusal, "the active revision cannot be loaded");
            return Ok(());
        }
        self.follow(plugin, record.clone())
    }

    /// Returns true if the active revision can be loaded without a compiler.
    pub(super) fn is_compiled(&self, pending: &Pending<'_>) -> bool {
        let stored = pending
            .record
            .active
            .and_then(|digest| self.store.fetch(digest).ok());
        // What has nothing to load is settled at once, too.
        stored.is_none_or(|stored| self.loader.is_compiled(&stored))
    }

    /// Marks a plugin as loading.
    pub(super) fn loading(&self, plugin: &str) -> Loading<'_> {
        let mut known = self.known();
        *known.loading.entry(plugin.to_owned()).or_default() += 1;
        self.publish(&known);
        Loading {
            registry: self,
            plugin: plugin.to_owned(),
        }
    }
}
