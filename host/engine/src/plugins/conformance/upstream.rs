//! The check of an adapter's faults: its marketplace fails in each way that marketplaces do, at each request that the
//! adapter makes. It is asked with a receipt that its own vectors accept, so that there is a request to fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checks::{Trial, shown};
use super::inputs::request;
use super::report::{ContractCheckReport, Failure};
use super::vectors::{self, Case};
use crate::contract::{
    bindings::adapter_types::{Fault as Said, Verdict},
    convert::ValidateRequest,
    manifest::Manifest,
};
use crate::plugins::revision::Revision;
use crate::sandbox::{
    Judged,
    callable::Callable,
    outbound::Outbound,
    script::{Exchange, Reply, Script},
};

/// Requests of one call at which the marketplace fails: as many as a call has by default.
const MAX_FAILED_REQUESTS: usize = 16;

/// A failure of a marketplace, and whether an adapter may make this of it.
type FailureCase = (&'static str, Reply, fn(&Judged) -> bool);

fn failures() -> [FailureCase; 7] {
    let response = |status, headers: &[(&str, &str)], body: &str| Reply::Response {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        body: body.into(),
    };
    let unavailable: fn(&Judged) -> bool = |said| matches!(said, Err(Said::Unavailable(_)));
    [
        ("429", response(429, &[("retry-after", "7")], ""), |said| {
            matches!(said, Err(Said::RateLimited(_)))
        }),
        ("401", response(401, &[], ""), |said| {
            matches!(said, Err(Said::Unauthorized(_)))
        }),
        // An unknown receipt where receipts have URLs; else a marketplace that moved. Never the operator's mistake.
        ("404", response(404, &[], ""), |said| {
            matches!(said, Ok(Verdict::Rejected(_)) | Err(Said::Unavailable(_)))
        }),
        ("500", response(500, &[], ""), unavailable),
        (
            "an answer that makes no sense",
            response(200, &[], "\u{0}?"),
            unavailable,
        ),
        ("no connection", Reply::Refused, unavailable),
        ("no answer in time", Reply::TimedOut, unavailable),
    ]
}

/// Tells if an adapter can ask anybody: it imports HTTP, which some languages' runtimes do whatever the code does, and wants an
/// origin or has a vector that asks.
pub(super) fn applies(revision: &Revision, component: &[u8]) -> bool {
    let Manifest::Adapter(manifest) = &revision.manifest else {
        return false;
    };
    let asks = || {
        let cases = vectors::read(component).unwrap_or_default();
        cases.iter().any(Case::asks)
    };
    revision.inspection.wants_http() && (!manifest.wanted_origins.is_empty() || asks())
}

/// A question that makes an adapter ask its marketplace.
struct Question {
    request: ValidateRequest,
    config: Arc<BTreeMap<String, String>>,
    /// What its marketplace answers as long as it does not fail.
    exchanges: Vec<Exchange>,
}

impl Question {
    /// Returns the first vector that is accepted after asking; without one a receipt, under the granted configuration.
    async fn of(callable: &Callable, component: &[u8]) -> Self {
        let cases = vectors::read(component).unwrap_or_default();
        let mut asking = cases
            .iter()
            .filter(|case| case.asks() && case.expect.accepted.is_some());
        let of_vector = match asking.next() {
            Some(case) => Self::of_vector(callable, case).await,
            None => None,
        };
        of_vector.unwrap_or_else(|| Self {
            request: request("order-101"),
            config: callable.config.clone(),
            exchanges: Vec::new(),
        })
    }

    async fn of_vector(callable: &Callable, case: &Case) -> Option<Self> {
        let request = case.request.as_ref()?.parsed().ok()?;
        let config = Arc::new(case.config.clone());
        let exchanges = match &case.upstream {
            None => case.exchanges().ok()?,
            // One reply to all: it is asked once to learn how often that is.
            Some(upstream) => {
                let reply = upstream.reply();
                let script = Arc::new(Script::new(Vec::new(), Some(reply.clone())));
                let asked = Callable {
                    config: config.clone(),
                    outbound: Outbound::Played(script.clone()),
                    ..callable.clone()
                };
                drop(asked.judge(&request).await);
                let exchange = Exchange {
                    expected: None,
                    reply,
                };
                vec![exchange; script.rest_asked().min(MAX_FAILED_REQUESTS)]
            }
        };
        Some(Self {
            request,
            config,
            exchanges,
        })
    }
}

/// Runs the check. An adapter that asked nobody did not keep it.
pub(super) async fn run(mut trial: Trial, component: &[u8]) -> ContractCheckReport {
    let question = Question::of(&trial.callable, component).await;
    let mut asked = 0;
    'check: for at in 0..question.exchanges.len().clamp(1, MAX_FAILED_REQUESTS) {
        for (name, reply, right) in failures() {
            let before = question.exchanges.iter().take(at).cloned().collect();
            let script = Arc::new(Script::new(before, Some(reply)));
            let callable = Callable {
                config: question.config.clone(),
                outbound: Outbound::Played(script.clone()),
                ..trial.callable.clone()
            };
            let judged = callable.judge(&question.request).await;
            let was_asked = script.rest_asked() > 0;
            asked += usize::from(was_asked);
            let result = match judged {
                Err(fault) => Err(fault.to_string()),
                Ok(_) if !was_asked => Err("its marketplace was not asked".into()),
                Ok(judged) if right(&judged) => Ok(()),
                Ok(judged) => Err(format!("it made of it {}", shown(&judged))),
            };
            if !trial.note(&format!("{name} at request {}", at + 1), result) {
                break 'check;
            }
        }
    }
    trial.report.asked = Some(asked);
    if asked == 0 {
        let cause = "0 asked: nothing is known of what it makes of a failing marketplace; pack a vector whose receipt is \
                     accepted, with the exchanges that lead to it";
        trial.report.failures = vec![Failure {
            case: "its marketplace".into(),
            cause: cause.into(),
        }];
    }
    trial.report
}
