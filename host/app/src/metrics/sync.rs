//! What the sync engine counts.

use std::time::Duration;

use wharf_domain::{AnswerKind, EventKind, SyncCounts};

use super::Metrics;

impl Metrics {
    /// A claim of a sync job ended.
    pub(crate) fn sync_job(&self, outcome: &'static str, took: Duration) {
        self.sync_jobs.count(outcome);
        self.sync_job_duration.record(took);
    }

    /// A chunk of a sync run was committed.
    pub(crate) fn sync_chunk(&self, counts: SyncCounts) {
        let SyncCounts {
            success,
            failed,
            rate_limited,
            ..
        } = counts;
        for (outcome, number) in [
            ("success", success),
            ("failed", failed),
            ("rate_limited", rate_limited),
        ] {
            self.sync_receipts.add(outcome, number.unsigned_abs());
        }
    }

    /// A sync run was brought to its end, which this event tells.
    pub(crate) fn sync_run(&self, end: EventKind) {
        self.sync_runs.count(if end == EventKind::SyncFailed {
            "failed"
        } else {
            "completed"
        });
    }

    /// A receipt rests after this answer.
    pub(crate) fn exhausted(&self, answer: AnswerKind) {
        self.exhausted.count(answer.as_str());
    }
}
