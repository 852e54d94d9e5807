//! Ids, a type for each subject.

use std::fmt;

use uuid::{Builder, Uuid};

use crate::Time;

/// A UUID v7 (RFC 9562) from a time and ten random bytes: ids sort by creation.
pub fn uuid_v7(now: Time, random: [u8; 10]) -> Uuid {
    // A clock before 1970 gives the smallest ids, and no panic.
    let millis = u64::try_from(now.as_micros().max(0) / 1_000).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The place of a time among [`uuid_v7`]s: before all that are made in its millisecond or later, and no id itself.
pub fn before_ids_of(at: Time) -> Uuid {
    let millis = u64::try_from(at.as_micros().max(0) / 1_000).unwrap_or(0);
    // The time is the first 48 bits; what follows is the version, which is above zero in every id.
    Uuid::from_u128(u128::from(millis) << 80)
}

/// A UUID v4 (RFC 9562) from sixteen random bytes, for names that must not be guessed.
pub fn uuid_v4(random: [u8; 16]) -> Uuid {
    Builder::from_random_bytes(random).into_uuid()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A registered store.
    StoreId
    /// One receipt of one store in the sync log.
    LogId
    /// A webhook endpoint.
    EndpointId
    /// An event in the outbox; receivers see it as `eventId` and use it to drop duplicates.
    EventId
    /// One event on its way to one endpoint.
    DeliveryId
    /// One run of the sync engine over one store.
    RunId
    /// An API key; a part of its text, and no secret.
    ApiKeyId
}

/// The name that a client uses a store by. It is a secret as well, so it is never shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SyncToken(pub Uuid);

impl fmt::Debug for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v7_ids_carry_version_and_sort_by_time() {
        let early = uuid_v7(Time::from_micros(1_700_000_000_000_000), [255; 10]);
        let late = uuid_v7(Time::from_micros(1_700_000_000_001_000), [0; 10]);
        assert_eq!(early.get_version_num(), 7);
        assert!(early < late);
        let at = |micros| before_ids_of(Time::from_micros(micros));
        assert!(
            at(1_700_000_000_000_999) < uuid_v7(Time::from_micros(1_700_000_000_000_000), [0; 10])
        );
        assert!(early < at(1_700_000_000_001_000) && at(1_700_000_000_001_000) < late);
        assert_eq!((at(0), at(-5)), (Uuid::nil(), Uuid::nil()));
        assert_eq!(uuid_v4([7; 16]).get_version_num(), 4);
    }
}
