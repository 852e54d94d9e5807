//! The status rule of a seller's store.

use crate::LogStatus;

/// The state of a store's synchronisation, as `GET /stores/sync-status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncStatus {
    /// No logs exist.
    Pending,
    /// The last operation succeeded and none of the recent ones failed or was rate-limited.
    Success,
    /// Good and bad mixed, or anything that the other three do not say.
    Partial,
    /// The last operation failed and none of the recent ones succeeded.
    Failed,
}

impl SyncStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Success, Self::Partial, Self::Failed];

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }

    /// Reads the name; `None` if it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// The number of a store's latest logs that decide its status (the original's rule).
pub const RECENT_LOGS: usize = 20;

/// The status rule over a store's latest logs by creation, newest first; more than [`RECENT_LOGS`] are not looked at.
pub fn sync_status(newest_first: &[LogStatus]) -> SyncStatus {
    let recent = &newest_first[..newest_first.len().min(RECENT_LOGS)];
    let Some(last) = recent.first() else {
        return SyncStatus::Pending;
    };
    let succeeded = recent.contains(&LogStatus::Success);
    // Pending logs are neither: nobody has said anything about them.
    let troubled = recent
        .iter()
        .any(|log| matches!(log, LogStatus::Failed | LogStatus::RateLimited));
    match last {
        LogStatus::Success if !troubled => SyncStatus::Success,
        LogStatus::Failed if !succeeded => SyncStatus::Failed,
        _ => SyncStatus::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LogStatus::{Failed, Pending, RateLimited, Success};

    #[test]
    fn follows_the_contract() {
        for (logs, status) in [
            (&[][..], SyncStatus::Pending),
            (&[Success], SyncStatus::Success),
            (&[Success, Pending, Success], SyncStatus::Success),
            (&[Success, Failed], SyncStatus::Partial),
            (&[Failed, Success], SyncStatus::Partial),
            (&[Failed], SyncStatus::Failed),
            (&[Failed, RateLimited, Pending], SyncStatus::Failed),
            (&[RateLimited], SyncStatus::Partial),
            (&[RateLimited, Failed], SyncStatus::Partial),
            (&[Pending], SyncStatus::Partial),
        ] {
            assert_eq!(sync_status(logs), status, "{logs:?}");
        }
    }

    #[test]
    fn looks_at_twenty_logs_and_no_more() {
        let mut logs = vec![Success; RECENT_LOGS];
        logs.push(Failed);
        assert_eq!(sync_status(&logs), SyncStatus::Success);
        logs[RECENT_LOGS - 1] = Failed;
        assert_eq!(sync_status(&logs), SyncStatus::Partial);
    }

    /// The contract's sentences, each as an independent predicate in the contract's order.
    fn model(logs: &[LogStatus]) -> SyncStatus {
        let recent: Vec<_> = logs.iter().copied().take(20).collect();
        let count = |wanted: LogStatus| recent.iter().filter(|log| **log == wanted).count();
        let bad = count(Failed) + count(RateLimited);
        if recent.is_empty() {
            return SyncStatus::Pending;
        }
        if recent[0] == Success && bad == 0 {
            return SyncStatus::Success;
        }
        if count(Success) > 0 && bad > 0 {
            return SyncStatus::Partial;
        }
        if recent[0] == Failed && count(Success) == 0 {
            return SyncStatus::Failed;
        }
        SyncStatus::Partial
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_contract_read_literally(codes in proptest::collection::vec(0usize..4, 0..30)) {
            let logs: Vec<_> = codes.into_iter().map(|c| [Success, Failed, RateLimited, Pending][c]).collect();
            proptest::prop_assert_eq!(sync_status(&logs), model(&logs));
        }
    }
}
