use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wharf_domain::{
    Currency, Event, EventId, EventKind, ExternalStoreId, OrganizationId, Receipt, StoreId, Time,
    uuid_v4,
};

use super::Depth;
use super::report::{Failure, Law, LawReport};
use super::vectors::{self, Case, Expect};
use crate::bindings::adapter_types::{Fault as Said, Verdict};
use crate::call::Judged;
use crate::convert::{self, Message, for_people};
use crate::outbound::{Canned, Outbound, Reply};
use crate::revision::{Callable, Revision};
use crate::{Fault, Inspection, Kind, ValidateRequest};

/// Waiting is limited more tightly than on a host: nothing here waits for a network.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Failures of one law that are told.
const MAX_FAILURES: usize = 20;
/// The input is the same in every run.
const SEED: u64 = 0x77_68_61_72_66;
const NOW: Time = Time::from_micros(1_704_110_400_000_000);

pub(super) async fn try_law(
    law: Law,
    revision: &Revision,
    component: &[u8],
    depth: Depth,
) -> LawReport {
    let trial = Trial {
        callable: tried(&revision.callable),
        report: LawReport {
            law,
            cases: 0,
            failures: vec![],
        },
        depth,
    };
    match (law, revision.manifest.kind()) {
        (Law::SameManifest, _) => trial.same_manifest(revision).await,
        (Law::Answers, _) => trial.answers().await,
        (Law::SameAnswer, _) => trial.same_answer().await,
        (Law::Upstream, Kind::Adapter) if Inspection::wants_http(&revision.inspection) => {
            trial.upstream().await
        }
        (Law::Upstream, _) => trial.report,
        (Law::Vectors, _) => trial.vectors(component).await,
    }
}

fn tried(callable: &Callable) -> Callable {
    let mut limits = callable.limits;
    limits.wall = limits.wall.min(MAX_WAIT);
    Callable {
        limits,
        outbound: Outbound::Closed,
        ..callable.clone()
    }
}

struct Trial {
    callable: Callable,
    report: LawReport,
    depth: Depth,
}

impl Trial {
    /// Counts a case; returns whether to go on.
    fn note(&mut self, case: &str, result: Result<(), String>) -> bool {
        self.report.cases += 1;
        if let Err(cause) = result {
            self.report.failures.push(Failure {
                case: for_people(case),
                cause,
            });
        }
        let most = if self.depth == Depth::Everything {
            MAX_FAILURES
        } else {
            1
        };
        self.report.failures.len() < most
    }

    async fn same_manifest(mut self, revision: &Revision) -> LawReport {
        let result = match self.callable.describe().await {
            Ok(manifest) if manifest == revision.manifest => Ok(()),
            Ok(_) => Err("the manifest was another the second time".into()),
            Err(fault) => Err(fault.to_string()),
        };
        self.note("describe", result);
        self.report
    }

    async fn answers(mut self) -> LawReport {
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

    async fn same_answer(mut self) -> LawReport {
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

    /// What the plugin makes of a text, as a receipt or as an organization's id, in a form that can be compared.
    async fn answer(&self, text: &str) -> Result<String, Fault> {
        match self.callable.identity.kind {
            Kind::Adapter => {
                let judged = self.callable.judge(&request(text)).await?;
                let told = format!("{judged:?}");
                convert::answer(judged)?;
                Ok(told)
            }
            Kind::Shaper => match self.callable.shape(&event(text)).await {
                // A shaper may say that an event is not for it.
                Err(Fault::Refused(reason)) => Ok(reason),
                shaped => shaped.map(|message| format!("{message:?}")),
            },
        }
    }

    async fn upstream(mut self) -> LawReport {
        let response = |status, headers: &[(&str, &str)], body: &str| Reply::Response {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            body: body.into(),
        };
        type Right = fn(&Said) -> bool;
        let cases: [(&str, Reply, Right); 6] = [
            ("429", response(429, &[("retry-after", "7")], ""), |said| {
                matches!(said, Said::RateLimited(_))
            }),
            ("401", response(401, &[], ""), |said| {
                matches!(said, Said::Unauthorized(_))
            }),
            ("500", response(500, &[], ""), |said| {
                matches!(said, Said::Unavailable(_))
            }),
            (
                "an answer that makes no sense",
                response(200, &[], "\u{0}?"),
                |said| matches!(said, Said::Unavailable(_)),
            ),
            ("no connection", Reply::Refused, |said| {
                matches!(said, Said::Unavailable(_))
            }),
            ("no answer in time", Reply::TimedOut, |said| {
                matches!(said, Said::Unavailable(_))
            }),
        ];
        for (case, reply, right) in cases {
            let canned = Arc::new(Canned::new(reply));
            let callable = Callable {
                outbound: Outbound::Canned(canned.clone()),
                ..self.callable.clone()
            };
            let result = match callable.judge(&request("order-101")).await {
                Err(fault) => Err(fault.to_string()),
                // One that asks nobody, for want of configuration or of need, has nothing to tell.
                Ok(_) if !canned.was_asked() => Ok(()),
                Ok(Err(said)) if right(&said) => Ok(()),
                Ok(judged) => Err(format!("it made of it {}", shown(&judged))),
            };
            if !self.note(case, result) {
                break;
            }
        }
        self.report
    }

    async fn vectors(mut self, component: &[u8]) -> LawReport {
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
        let mut callable = self.callable.clone();
        if !case.config.is_empty() {
            callable.config = Arc::new(case.config.clone());
        }
        if let Some(upstream) = &case.upstream {
            callable.outbound = Outbound::Canned(Arc::new(Canned::new(upstream.reply())));
        }
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
            (Kind::Shaper, None, Some(event)) => {
                shaped(&case.expect, callable.shape(&event.parsed()?).await)
            }
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

fn shown(judged: &Judged) -> String {
    for_people(&format!("{judged:?}"))
}

/// Receipts and names that have broken programs before, and some that nobody would think of.
pub(crate) fn inputs() -> Vec<String> {
    let mut inputs: Vec<String> = [
        "",
        " ",
        "0",
        "7",
        "00",
        "66",
        "order-101",
        "order-102",
        "order-115",
        "-1",
        "1e9",
        "NaN",
        "null",
        "ORDER 1",
        "\u{1}\u{2}\u{7f}",
        "\t\r\n",
        "a\u{1b}[31mb",
        "größe-1",
        "订单-1",
        "طلب-١",
        "\u{1f6d2}1",
        "e\u{301}1",
        "\u{202e}101",
        "\u{feff}1",
        "\"}],{\"",
        "' OR 1=1 --",
        "<script>1</script>",
        "../../etc/passwd",
        "%00%0a1",
        "\\u0000",
        "{{7*7}}",
    ]
    .map(String::from)
    .to_vec();
    inputs.extend(["9", "x", "ü", "\u{1f6d2}"].map(|unit| unit.repeat(255)));
    let mut random = fastrand::Rng::with_seed(SEED);
    inputs.extend((0..8).map(|_| {
        (0..random.usize(1..20))
            .map(|_| random.char(..))
            .filter(|c| *c != '\0')
            .collect()
    }));
    inputs.extend((0..8).map(|_| (0..random.usize(1..40)).map(|_| random.digit(10)).collect()));
    inputs
}

pub(crate) fn request(receipt: &str) -> ValidateRequest {
    ValidateRequest {
        receipt: Receipt::from_stored(receipt.to_owned()),
        currency: Currency::parse("USD").expect("three letters"),
        external_store_id: ExternalStoreId::from_stored("conformance".into()),
        now: NOW,
        access_token: None,
    }
}

pub(crate) fn event(text: &str) -> Event {
    let data = BTreeMap::from([("text", text)]);
    Event {
        id: EventId(uuid_v4([1; 16])),
        kind: EventKind::SyncCompleted.as_str().into(),
        at: NOW,
        organization_id: OrganizationId::from_stored(text.to_owned()),
        store_id: StoreId(uuid_v4([2; 16])),
        data: serde_json::to_string(&data).expect("texts are JSON"),
    }
}
