//! Steps of revisions, as the audit will tell them.

use wharf_domain::Time;

use crate::contract::{
    digest::Digest,
    refusal::Stage,
    state::{RevisionState as State, Transition},
};

/// A transition that has no time and no plugin yet.
pub(crate) struct Step {
    pub(crate) digest: Option<Digest>,
    pub(crate) from: Option<State>,
    pub(crate) to: State,
    pub(crate) reason: String,
    pub(crate) actor: String,
}

impl Step {
    /// Returns the transition of a plugin at a time.
    pub(super) fn of(self, plugin: &str, at: Time) -> Transition {
        let Self {
            digest,
            from,
            to,
            reason,
            actor,
        } = self;
        Transition {
            at,
            plugin: plugin.to_owned(),
            digest,
            from,
            to,
            reason,
            actor,
        }
    }
}

/// Makes the step of one revision.
pub(super) fn step(digest: Digest, from: State, to: State, reason: &str, actor: &str) -> Step {
    Step {
        digest: Some(digest),
        from: Some(from),
        to,
        reason: reason.to_owned(),
        actor: actor.to_owned(),
    }
}

/// Returns the steps that a new revision took before the stage that stopped it.
pub(super) fn passed(digest: Digest, stopped: Option<Stage>, actor: &str) -> Vec<Step> {
    let stages = [
        (State::Staged, None, "its bytes are here"),
        (
            State::Verified,
            Some(Stage::Verify),
            "its world, version and imports are known",
        ),
        (
            State::Compiled,
            Some(Stage::Approve),
            "it was compiled, tried and granted what it asks for",
        ),
        (
            State::Conformant,
            Some(Stage::Conform),
            "it passed every contract check and every vector",
        ),
    ];
    let reached = stages
        .into_iter()
        // A refusal at a stage means that all states before it were reached.
        .take_while(|(_, needs, _)| needs.is_none_or(|needs| stopped.is_none_or(|at| at > needs)));
    let mut from = None;
    reached
        .map(|(to, _, reason)| Step {
            digest: Some(digest),
            from: from.replace(to),
            to,
            reason: reason.to_owned(),
            actor: actor.to_owned(),
        })
        .collect()
}
