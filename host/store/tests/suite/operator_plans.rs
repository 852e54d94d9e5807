//! How the statements of an operator's lists read large tables: by the partial indexes over what failed.

use anyhow::{Result, bail};

use crate::plans::Reads::{self, Index};

const DEAD: Reads = Index("callback_deliveries_dead");
const FAILED: Reads = Index("callback_deliveries_failed");
const FAILED_BY_ENDPOINT: Reads = Index("callback_deliveries_failed_by_endpoint");

pub(crate) const PLANS: &[(&str, Reads)] = &[
    ("letters::OLDEST", FAILED),
    ("letters::NEWEST", FAILED),
    ("letters::OLDEST_OF_ORGANIZATION", DEAD),
    ("letters::NEWEST_OF_ORGANIZATION", DEAD),
    ("letters::OLDEST_OF_ENDPOINT", FAILED_BY_ENDPOINT),
    ("letters::NEWEST_OF_ENDPOINT", FAILED_BY_ENDPOINT),
    ("overview::FAILING", Index("webhook_endpoints_failing")),
    ("overview::DISABLED", Index("webhook_endpoints_disabled")),
    (
        "overview::OF_ORGANIZATION",
        Index("webhook_endpoints_by_organization"),
    ),
    ("overview::FIGURES", Index("callback_deliveries_due")),
];

/// The parameters of one of them: `nobody` is an id before all others.
pub(crate) fn values(name: &str, nobody: String, late: String) -> Result<Vec<String>> {
    let (number, organization) = ("64".to_owned(), "'fill-1'".to_owned());
    let last = nobody.replace('0', "f");
    Ok(match name {
        "letters::OLDEST" | "letters::NEWEST" => vec![nobody, last, number],
        _ if name.ends_with("_OF_ENDPOINT") => vec![nobody.clone(), last, number, nobody],
        _ if name.starts_with("letters::") => vec![nobody, last, number, organization],
        "overview::FAILING" | "overview::DISABLED" => vec![nobody, number],
        "overview::OF_ORGANIZATION" => vec![nobody, number, organization],
        "overview::FIGURES" => {
            let ids = r#"'[{"id":"00000000000000000000000000000001"}]'"#.to_owned();
            vec![ids, late, number]
        }
        _ => bail!("no values for {name}"),
    })
}
