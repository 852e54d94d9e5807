//! The contract checks themselves.

use std::sync::Arc;
use std::time::Duration;

use super::Depth;
use super::inputs::{event, inputs, request};
use super::report::{ContractCheck, ContractCheckReport, Failure};
use super::upstream;
use super::vectors::{self, Case, Expect};
use crate::contract::{
    bindings::adapter_types::{Fault as Said, Verdict},
    convert::{self, GuestEvent, Message},
    fault::Fault,
    inspect::Kind,
    text::for_people,
};
use crate::plugins::revision::Revision;
use crate::sandbox::{Judged, callable::Callable, outbound::Outbound};

/// Wall-clock limit of a case. Shorter than on a host, because nothing here waits for a network.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Failures of one check that are reported.
const MAX_FAILURES: usize = 20;

/// Runs one check on a revision.
pub(super) async fn run(
    check: ContractCheck,
    revision: &Revision,
    component: &[u8],
    depth: Depth,
) -> ContractCheckReport {
    let trial = Trial {
        callable: tried(&revision.callable, &check.to_string()),
        report: ContractCheckReport {
            check,
            cases: 0,
            asked: None,
            failures: vec![],
        },
        depth,
    };
    match (check, revision.manifest.kind()) {
        (ContractCheck::SameManifest, _) => trial.same_manifest(revision).await,
        (ContractCheck::Answers, _) => trial.answers().await,
        (ContractCheck::SameAnswer, _) => trial.same_answer().await,
        (ContractCheck::Upstream, _) if upstream::applies(revision, component) => {
            upstream::run(trial, component).await
        }
        (ContractCheck::Upstream, _) => trial.report,
        (ContractCheck::Vectors, _) => trial.vectors(component).await,
    }
}

/// Returns the component as it is tried: without a network and with a short limit. Its log lines name the case.
fn tried(callable: &Callable, case: &str) -> Callable {
    let mut limits = callable.limits;
    limits.wall = limits.wall.min(MAX_WAIT);
    Callable {
        limits,
        // No check reaches the network, whatever was granted.
        outbound: Outbound::Closed,
        identity: Arc::new(callable.identity.tried(case)),
        ..callable.clone()
    }
}

/// One check of one component.
pub(super) struct Trial {
    pub(super) callable: Callable,
    pub(super) report: ContractCheckReport,
    depth: Depth,
}

impl Trial {
    /// Counts a case. Returns false when the check is to end.
    pub(super) fn note(&mut self, case: &str, result: Result<(), String>) -> bool {
        self.report.cases += 1;
        if let Err(cause) = result {
            self.report.failures.push(Failure {
                case: for_people(case),
                cause,
            });
        }
        let max = if self.depth == Depth::Everything {
            MAX_FAILURES
        } else {
            1
        };
        self.report.failures.len() < max
    }

    async fn same_manifest(mut self, revision: &Revision) -> ContractCheckReport {
        let result = match self.callable.describe().await {
            Ok(manifest) if manifest == revision.manifest => Ok(()),
            Ok(_) => Err("the manifest was another the second time".into()),
            Err(fault) => Err(fault.to_string()),
        };
        self.note("describe", result);
        self.report
    }

    async fn answers(mut self) -> ContractCheckReport {
        for input in inputs() {
            let result = self
                .answer(&input)
                .await
                .map(drop)
                .map_err(|fault| fault.to_string());
            if !self.note(&format!("{input:?}"), result) {
                break;
            }
        }
        self.report
    }

    async fn same_answer(mut self) -> ContractCheckReport {
        for input in inputs() {
            let (first, second) = (self.answer(&input).await, self.answer(&input).await);
            let result = if first == second {
                Ok(())
            } else {
                Err("the same input got another answer".into())
            };
            if !self.note(&format!("{input:?}"), result) {
                break;
            }
        }
        self.report
    }

    /// Returns the plugin's answer to a text, as a receipt or as an organization's id, in a form that can be compared.
    async fn answer(&self, text: &str) -> Result<String, Fault> {
        match self.callable.identity.kind {
            Kind::Adapter => {
                let judged = self.callable.judge(&request(text)).await?;
                let told = format!("{judged:?}");
                convert::answer(judged)?;
                Ok(told)
            }
            Kind::Shaper => match self.callable.shape(&GuestEvent::new(&event(text))).await {
                // A shaper may say that an event is not for it.
                // It must refuse the same event with the same words.
                Err(Fault::Refused(reason)) => Ok(reason),
                shaped => shaped.map(|message| format!("{message:?}")),
            },
        }
    }

    async fn vectors(mut self, component: &[u8]) -> ContractCheckReport {
        match vectors::read(component) {
            Err(cause) => drop(self.note("the section", Err(cause))),
            Ok(cases) => {
                for case in cases {
                    let result = self
                        .vector(&case)
                        .await
                        .map_err(|cause| format!("the vector is not met: {cause}"));
                    if !self.note(&case.name, result) {
                        break;
                    }
                }
            }
        }
        self.report
    }

    async fn vector(&self, case: &Case) -> Result<(), String> {
        let script = case.script()?.map(Arc::new);
        let callable = Callable {
            // Its own as a whole: an answer must not depend on what an operator granted.
            config: Arc::new(case.config.clone()),
            outbound: script.clone().map_or(Outbound::Closed, Outbound::Played),
            ..tried(&self.callable, &case.name)
        };
        let met = self.answered(&callable, case).await;
        // First: an answer to the wrong question tells nothing.
        match script.and_then(|script| script.mistake()) {
            Some(mistake) => Err(mistake),
            None => met,
        }
    }

    async fn answered(&self, callable: &Callable, case: &Case) -> Result<(), String> {
        match (callable.identity.kind, &case.request, &case.event) {
            (Kind::Adapter, Some(request), None) => {
                let judged = callable
                    .judge(&request.parsed()?)
                    .await
                    .map_err(|fault| fault.to_string())?;
                met(&case.expect, &judged)?;
                convert::answer(judged)
                    .map(drop)
                    .map_err(|fault| fault.to_string())
            }
            (Kind::Shaper, None, Some(event)) => shaped(
                &case.expect,
                callable.shape(&GuestEvent::new(&event.parsed()?)).await,
            ),
            _ => Err("an adapter's vector has a request, a shaper's an event".into()),
        }
    }
}

fn met(expect: &Expect, judged: &Judged) -> Result<(), String> {
    let as_expected = match judged {
        Ok(Verdict::Accepted(order)) => expect.accepted.as_ref().is_some_and(|expected| {
            let same = |expected: &Option<String>, said: &str| {
                expected.as_deref().is_none_or(|expected| expected == said)
            };
            same(&expected.id, &order.id)
                && same(&expected.amount, &order.amount)
                && same(&expected.currency, &order.currency)
        }),
        Ok(Verdict::Rejected(_)) => expect.rejected,
        Err(Said::RateLimited(_)) => expect.rate_limited,
        Err(Said::Unauthorized(_)) => expect.fault.as_deref() == Some("unauthorized"),
        Err(Said::Unavailable(_)) => expect.fault.as_deref() == Some("unavailable"),
        Err(Said::Misconfigured(_)) => expect.fault.as_deref() == Some("misconfigured"),
    };
    if as_expected {
        Ok(())
    } else {
        Err(format!("it answered {}", shown(judged)))
    }
}

fn shaped(expect: &Expect, said: Result<Message, Fault>) -> Result<(), String> {
    let message = match said {
        Err(Fault::Refused(_)) if expect.refused => return Ok(()),
        said => said.map_err(|fault| fault.to_string())?,
    };
    if expect.refused {
        return Err("it did not refuse the event".into());
    }
    let text = String::from_utf8_lossy(&message.body);
    let differs = |what: &str, said: &str| Err(format!("its {what} is {}", for_people(said)));
    if expect
        .content_type
        .as_ref()
        .is_some_and(|expected| *expected != message.content_type)
    {
        return differs("content type", &message.content_type);
    }
    if expect
        .body_text
        .as_ref()
        .is_some_and(|expected| *expected != text)
    {
        return differs("body", &text);
    }
    let json = |expected: &serde_json::Value| {
        serde_json::from_slice(&message.body).is_ok_and(|said: serde_json::Value| said == *expected)
    };
    if expect
        .body_json
        .as_ref()
        .is_some_and(|expected| !json(expected))
    {
        return differs("body", &text);
    }
    Ok(())
}

pub(super) fn shown(judged: &Judged) -> String {
    for_people(&format!("{judged:?}"))
}
