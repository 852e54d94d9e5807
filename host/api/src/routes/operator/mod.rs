//! What an operator sees and does over all organizations: webhooks, dead letters, and webhooks of his own.

pub(super) mod letters;
pub(super) mod receivers;
pub(super) mod webhooks;

use wharf_app::MAX_PER_PAGE;
use wharf_domain::OrganizationId;

use crate::values::Number;

/// Page size if the request names none.
const DEFAULT_LIMIT: usize = 50;
type PageLimit = Number<1, { MAX_PER_PAGE.cast_signed() as i64 }>;

fn size(limit: Option<PageLimit>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit.0).ok());
    limit.unwrap_or(DEFAULT_LIMIT)
}

/// An owner as operators read it: null for themselves.
fn shown(owner: &OrganizationId) -> Option<String> {
    (!owner.is_operator()).then(|| owner.to_string())
}
