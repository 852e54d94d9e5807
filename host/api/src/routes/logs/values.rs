//! Places in lists of receipts, as clients hand them back.

use utoipa::openapi::schema::ObjectBuilder;
use wharf_app::{LogCursor, LogRedriveCursor};
use wharf_domain::Invalid;

use crate::{
    fields::Given,
    request::Field,
    values::{string, text},
};

macro_rules! log_cursors {
    ($($name:ident $times:literal $example:literal)*) => {$(
        impl Field for $name {
            fn read(given: &Given) -> Result<Self, Invalid> {
                Self::parse(text(given)?)
                    .ok_or_else(|| Invalid("must be the nextCursor of an answer".into()))
            }

            fn schema() -> ObjectBuilder {
                // Microseconds: sixteen digits reach to the year 2286.
                let pattern = concat!(
                    "^((0|[1-9][0-9]{0,15})\\.){",
                    $times,
                    "}[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
                );
                let cursor = string().min_length(Some(1)).max_length(Some(100));
                cursor.pattern(Some(pattern)).examples([$example])
            }
        }
    )*};
}

log_cursors! {
    LogCursor "1" "1769817600000000.0190a5e4-7b1c-7def-8abc-0123456789ab"
    LogRedriveCursor "2" "1769817600000000.1769817600000000.0190a5e4-7b1c-7def-8abc-0123456789ab"
}
