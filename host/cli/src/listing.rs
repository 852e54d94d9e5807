//! Long lists of the admin API: so many items, over as many requests as it takes.

use clap::Args;
use serde_json::{Value, json};

use crate::operator::Operator;

/// The most items of one page of the API.
const MAX_PER_PAGE: usize = 100;
/// Requests of one list. A filter that fits hardly anything looks at 20,000 rows a request.
const MAX_REQUESTS: usize = 100;

/// The part of a list to show.
#[derive(Args)]
pub(crate) struct PartArgs {
    /// Items to show
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
}

/// As many items as are wanted, as one page.
///
/// # Errors
/// The host does not answer, or refuses.
pub(crate) async fn list(
    operator: &Operator,
    path: &str,
    filter: &[(&'static str, Option<String>)],
    part: &PartArgs,
) -> anyhow::Result<Value> {
    let (mut items, mut cursor) = (Vec::new(), part.cursor.clone());
    for _ in 0..MAX_REQUESTS {
        let wanted = part
            .limit
            .saturating_sub(items.len())
            .clamp(1, MAX_PER_PAGE);
        let mut parameters = filter.to_vec();
        parameters.extend([("limit", Some(wanted.to_string())), ("cursor", cursor)]);
        let mut page = operator.get(path, &parameters).await?;
        if let Value::Array(more) = page["items"].take() {
            items.extend(more);
        }
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() || items.len() >= part.limit {
            break;
        }
    }
    Ok(json!({"items": items, "nextCursor": cursor}))
}

/// A table, and where the list goes on.
pub(crate) fn with_more(table: String, page: &Value) -> String {
    match page["nextCursor"].as_str() {
        Some(cursor) => format!("{table}\nmore: --cursor {cursor}"),
        None => table,
    }
}
