//! Reports on plugins, made from their records and what this process serves.

use std::time::Instant;

use super::breaker::Breakers;
use super::record::Record;
use super::revision::Revision;
use super::snapshot::Serving;
use crate::contract::{
    digest::Digest,
    report::{Pauses, PluginReport, PluginState, RevisionReport},
    state::RevisionState,
};

/// Reports on one plugin.
pub(super) fn report(name: &str, record: &Record, serving: Option<&Serving>) -> PluginReport {
    let revision = serving.map(|serving| &*serving.revision);
    let manifest = revision.map(|revision| &revision.manifest);
    PluginReport {
        plugin: name.to_owned(),
        state: state(record, serving),
        digest: revision.map(Revision::digest),
        kind: manifest.map(|manifest| manifest.kind()),
        serves: manifest.map(|manifest| manifest.serves().to_owned()),
        display_name: manifest.map(|manifest| manifest.display_name().to_owned()),
        version: manifest.map(|manifest| manifest.version().to_owned()),
        manifest: manifest.cloned(),
        inspection: revision.map(|revision| revision.inspection.clone()),
        limits: revision.map(|revision| revision.callable.limits),
        grants: revision
            .and_then(|revision| revision.grants.as_deref())
            .map(String::from),
        size: revision.map(|revision| revision.size),
        loaded_at: revision.map(|revision| revision.loaded_at),
        revisions: revisions(record),
        pauses: serving
            .map(|serving| pauses(&serving.breakers))
            .unwrap_or_default(),
        counters: revision
            .map(|revision| revision.counts.report())
            .unwrap_or_default(),
    }
}

fn pauses(breakers: &Breakers) -> Pauses {
    let (both, now) = (breakers.lock(), Instant::now());
    let everybody = both.upstream.closed_for(now);
    Pauses {
        organizations: both.plugin.paused_callers(now),
        accounts: both.upstream.paused_callers(now),
        // At least 1: a pause that is nearly over must not read as none.
        upstream_seconds: everybody.map(|pause| pause.as_secs().max(1)),
    }
}

fn state(record: &Record, serving: Option<&Serving>) -> PluginState {
    // What nobody can call comes first, then the newest refusal, then a pause.
    if let Some(reason) = record.out_of_service() {
        return PluginState::OutOfService { reason };
    }
    if let Some(refused) = &record.refused {
        let (digest, refusal) = (refused.digest, refused.refusal.clone());
        return match refusal.state() {
            RevisionState::NeedsApproval => PluginState::NeedsApproval {
                waiting: digest,
                refusal,
            },
            _ => PluginState::Refused {
                refused: digest,
                refusal,
            },
        };
    }
    let pause = serving.and_then(|serving| {
        let both = serving.breakers.lock();
        both.plugin.closed_for(Instant::now())
    });
    match (pause, serving) {
        (Some(pause), _) => PluginState::OutOfService {
            reason: format!("pausing for {} s after too many faults", pause.as_secs()),
        },
        (None, Some(_)) => PluginState::Active,
        (None, None) => PluginState::OutOfService {
            reason: "its revision cannot be loaded here".into(),
        },
    }
}

fn revisions(record: &Record) -> Vec<RevisionReport> {
    let mut reports: Vec<RevisionReport> = Vec::new();
    let active = if record.disabled.is_some() {
        RevisionState::Disabled
    } else {
        RevisionState::Active
    };
    let states = record.active.map(|digest| (digest, active));
    for (digest, state) in states.into_iter().chain(
        record
            .retained
            .iter()
            .map(|kept| (*kept, RevisionState::Retained)),
    ) {
        let reason = record.quarantined.get(&digest).cloned();
        let state = if reason.is_some() {
            RevisionState::Quarantined
        } else {
            state
        };
        reports.push(RevisionReport {
            digest,
            state,
            reason,
        });
    }
    let listed = |digest: &Digest, reports: &[RevisionReport]| {
        reports.iter().any(|report| report.digest == *digest)
    };
    for (digest, reason) in &record.quarantined {
        // Quarantined revisions stay known after they left the retained ones.
        if !listed(digest, &reports) {
            let reason = Some(reason.clone());
            reports.push(RevisionReport {
                digest: *digest,
                state: RevisionState::Quarantined,
                reason,
            });
        }
    }
    if let Some((digest, refusal)) = record
        .refused
        .as_ref()
        .and_then(|refused| Some((refused.digest?, &refused.refusal)))
        && !listed(&digest, &reports)
    {
        reports.push(RevisionReport {
            digest,
            state: refusal.state(),
            reason: Some(refusal.to_string()),
        });
    }
    reports
}
