//! Dead letters: looked through and given a second chance, one organization's or everybody's.
//!
//! A filter is tried on one letter after the other, in the order of their ids: an index leads to what failed, and no
//! index could lead to a part of an error. So what a request looks at is bounded, not what it finds; it says where the
//! next one goes on.

use wharf_domain::{DeliveryId, EndpointId, EventId, OrganizationId, Time, before_ids_of};
use wharf_queue::Queue;
use wharf_store::{
    letters::{self, Between, Letter, Of, Order},
    resend,
};

use super::{MAX_PER_PAGE, Page, Run, walk::RecoveryWalk};
use crate::{App, AppError};

/// Letters that are looked at in one read, a few milliseconds of a database.
const MAX_LOOKED_AT: i64 = 1_000;
/// Such reads of one request for a page: 20,000 letters.
const MAX_LOOKS: usize = 20;
/// Dead letters of one transaction: it locks their events, and the embedded database has one writer, for which imports
/// wait.
const MAX_LETTERS: usize = 100;

/// The last answer's status of dead letters: none, one, or a hundred of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerStatus {
    /// No answer came.
    None,
    /// This status.
    Exactly(i64),
    /// This first digit.
    Class(i64),
}

impl AnswerStatus {
    /// Reads `none`, a status such as `502`, or a class such as `5xx`.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |text: &str| text.parse().ok().filter(|digit| (1..=5).contains(digit));
        match text.split_at_checked(1)? {
            _ if text == "none" => Some(Self::None),
            (class, "xx") => digit(class).map(Self::Class),
            (class, rest) if rest.len() == 2 && rest.bytes().all(|byte| byte.is_ascii_digit()) => {
                digit(class)?;
                text.parse().ok().map(Self::Exactly)
            }
            _ => None,
        }
    }

    fn is(self, status: Option<i64>) -> bool {
        match self {
            Self::None => status.is_none(),
            Self::Exactly(wanted) => status == Some(wanted),
            Self::Class(class) => status.is_some_and(|status| status / 100 == class),
        }
    }
}

/// The dead letters that are meant: all that every part allows.
#[derive(Clone, Debug)]
pub struct LetterFilter {
    /// Of this organization.
    pub organization: Option<OrganizationId>,
    /// Of this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of this kind of event.
    pub event: Option<String>,
    /// With this last answer.
    pub status: Option<AnswerStatus>,
    /// With these words in the last error.
    pub error: Option<String>,
    /// Made at this time or later.
    pub since: Time,
    /// Made before this time.
    pub until: Option<Time>,
}

impl LetterFilter {
    /// All that were made at this time or later.
    pub const fn since(since: Time) -> Self {
        Self {
            organization: None,
            endpoint: None,
            event: None,
            status: None,
            error: None,
            since,
            until: None,
        }
    }

    /// The smallest part of all letters that an index knows and that has all that are meant.
    fn of(&self) -> Of {
        match (self.endpoint, &self.organization) {
            (Some(endpoint), _) => Of::Endpoint(endpoint),
            (None, Some(organization)) => Of::Organization(organization.clone()),
            (None, None) => Of::All,
        }
    }

    /// Ids tell when they were made, to the millisecond.
    fn between(&self) -> Between {
        let behind = |until: Time| before_ids_of(until + std::time::Duration::from_millis(1));
        Between {
            after: before_ids_of(self.since),
            before: self.until.map_or(uuid::Uuid::max(), behind),
        }
    }

    /// True of what is looked for inside of what an index leads to.
    fn is_selective(&self) -> bool {
        self.event.is_some() || self.status.is_some() || self.error.is_some()
    }

    fn takes(&self, letter: &Letter) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, found: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        }
        let error = letter.last_error.as_deref().unwrap_or_default();
        is(&self.organization, &letter.organization_id)
            && is(&self.endpoint, &letter.endpoint_id)
            && is(&self.event, &letter.event)
            && self
                .status
                .is_none_or(|status| status.is(letter.http_status))
            && self
                .error
                .as_ref()
                .is_none_or(|part| error.contains(part.as_str()))
            && letter.created_at >= self.since
            && self.until.is_none_or(|until| letter.created_at < until)
    }
}

/// Dead letters that nothing can be done for, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Nothing is stored that could be sent: the shaper never made a body, or it is gone. Sending such a one again by
    /// itself asks the shaper once more.
    pub no_body: i64,
    /// The endpoint is disabled: it would only die again.
    pub endpoint_disabled: i64,
}

/// What became of the letters that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Those that were, or would be, given a second chance.
    pub(super) letters: i64,
    /// Those that were not.
    pub(super) skipped: Skipped,
}

impl Tally {
    /// Counts those that cannot be sent, and returns the others.
    fn sort<'l>(&mut self, letters: &[&'l Letter]) -> Vec<&'l Letter> {
        let mut sendable = Vec::with_capacity(letters.len());
        for letter in letters {
            if !letter.endpoint_is_active {
                self.skipped.endpoint_disabled += 1;
            } else if !letter.has_body {
                self.skipped.no_body += 1;
            } else {
                sendable.push(*letter);
            }
        }
        sendable
    }
}

impl App {
    /// A page of dead letters, newest first. At most [`MAX_PER_PAGE`], or as many as are found among those that one
    /// request looks at: then `next` goes on there.
    pub async fn dead_letters(
        &self,
        filter: &LetterFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<Letter>, AppError> {
        let limit = limit.clamp(1, MAX_PER_PAGE);
        let (of, mut between) = (filter.of(), filter.between());
        between.before = before.map_or(between.before, |before| before.0.min(between.before));
        // One more than the page shows tells whether there is a next one.
        let one_more = i64::try_from(limit + 1).unwrap_or(MAX_LOOKED_AT);
        let most = if filter.is_selective() {
            MAX_LOOKED_AT
        } else {
            one_more
        };
        let mut items: Vec<Letter> = Vec::new();
        let mut conn = self.0.ledger.read().await?;
        for _ in 0..MAX_LOOKS {
            let found = letters::page(&mut conn, &of, between, Order::Newest, most).await?;
            let was_last = i64::try_from(found.len()).is_ok_and(|found| found < most);
            for letter in found {
                between.before = letter.id.0;
                if !filter.takes(&letter) {
                    continue;
                }
                if items.len() == limit {
                    let next = items.last().map(|last| last.id);
                    return Ok(Page { items, next });
                }
                items.push(letter);
            }
            if was_last {
                return Ok(Page { items, next: None });
            }
        }
        let next = Some(DeliveryId(between.before));
        Ok(Page { items, next })
    }

    /// Goes through dead letters, the first made first, as far as one request may, and gives those a second chance that
    /// can be sent; in a rehearsal it counts them.
    pub(super) async fn through_letters(
        &self,
        filter: &LetterFilter,
        run: Run,
        walk: &mut RecoveryWalk,
    ) -> Result<Tally, AppError> {
        let (of, mut between, mut tally) = (filter.of(), filter.between(), Tally::default());
        while let Some(after) = walk.letters(&*self.0.clock) {
            between.after = between.after.max(after.0);
            let mut conn = self.0.ledger.read().await?;
            let found =
                letters::page(&mut conn, &of, between, Order::Oldest, MAX_LOOKED_AT).await?;
            drop(conn);
            for part in found.chunks(MAX_LETTERS) {
                let meant: Vec<&Letter> = part.iter().filter(|l| filter.takes(l)).collect();
                if run == Run::Real && !meant.is_empty() && !walk.may_revive(&*self.0.clock) {
                    return Ok(tally);
                }
                let sendable = tally.sort(&meant);
                tally.letters += match run {
                    Run::Dry => i64::try_from(sendable.len()).unwrap_or(i64::MAX),
                    Run::Real => self.revive(&sendable, walk).await?,
                };
                walk.passed_letters(part.last().map(|last| last.id));
            }
            if i64::try_from(found.len()).is_ok_and(|found| found < MAX_LOOKED_AT) {
                walk.passed_letters(None);
            }
        }
        Ok(tally)
    }

    async fn revive(&self, letters: &[&Letter], walk: &mut RecoveryWalk) -> Result<i64, AppError> {
        if letters.is_empty() {
            return Ok(0);
        }
        let due: Vec<(DeliveryId, EventId, Time)> = letters
            .iter()
            .map(|letter| (letter.id, letter.event_id, walk.next_due()))
            .collect();
        let mut tx = self.0.ledger.begin().await?;
        // Only those that are still dead: another request may have been quicker, and then they are not ours to count.
        let still_dead = resend::revive(&mut tx, &due, self.0.clock.now()).await?;
        tx.commit().await?;
        self.0.doorbell.ring(Queue::Callback, "redrive");
        Ok(i64::try_from(still_dead).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NOW: Time = Time::from_micros(1_700_000_000_000_500);

    fn letter() -> Letter {
        Letter {
            id: DeliveryId(Uuid::from_u128(1)),
            organization_id: OrganizationId::from_stored("org-1".into()),
            endpoint_id: EndpointId(Uuid::from_u128(2)),
            endpoint_is_active: true,
            event_id: EventId(Uuid::from_u128(3)),
            event: "sync.failed".into(),
            has_body: true,
            attempts_made: 3,
            http_status: Some(502),
            last_error: Some("the receiver answered 502 Bad Gateway".into()),
            created_at: NOW,
            failed_at: NOW,
        }
    }

    #[test]
    fn statuses_are_read_by_the_letter() {
        let good = [
            ("none", AnswerStatus::None),
            ("502", AnswerStatus::Exactly(502)),
            ("5xx", AnswerStatus::Class(5)),
        ];
        for (text, status) in good {
            assert_eq!(AnswerStatus::parse(text), Some(status));
        }
        for bad in [
            "", "5", "50", "5xX", "xx", "600", "0xx", "5000", "+50", "ä", "None",
        ] {
            assert_eq!(AnswerStatus::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_filter_takes_what_all_of_its_parts_allow() {
        let plain = LetterFilter::since(Time::from_micros(0));
        assert!(plain.takes(&letter()) && !plain.is_selective());
        type Change = fn(&mut LetterFilter);
        let allowing: [Change; 7] = [
            |f| f.organization = Some(OrganizationId::from_stored("org-1".into())),
            |f| f.endpoint = Some(EndpointId(Uuid::from_u128(2))),
            |f| f.event = Some("sync.failed".into()),
            |f| f.status = Some(AnswerStatus::Class(5)),
            |f| f.error = Some("Bad Gate".into()),
            |f| f.since = NOW,
            |f| f.until = Some(NOW + std::time::Duration::from_micros(1)),
        ];
        let refusing: [Change; 7] = [
            |f| f.organization = Some(OrganizationId::from_stored("org-2".into())),
            |f| f.endpoint = Some(EndpointId(Uuid::from_u128(3))),
            |f| f.event = Some("sync".into()),
            |f| f.status = Some(AnswerStatus::None),
            |f| f.error = Some("bad gate".into()),
            |f| f.since = NOW + std::time::Duration::from_micros(1),
            |f| f.until = Some(NOW),
        ];
        let mut all = plain.clone();
        allowing.iter().for_each(|change| change(&mut all));
        assert!(all.takes(&letter()));
        for (number, change) in refusing.iter().enumerate() {
            let mut filter = all.clone();
            change(&mut filter);
            assert!(!filter.takes(&letter()), "{number}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_counted_by_its_reason() {
        let (dead, bodiless, good) = (
            Letter {
                endpoint_is_active: false,
                has_body: false,
                ..letter()
            },
            Letter {
                has_body: false,
                ..letter()
            },
            letter(),
        );
        let mut tally = Tally::default();
        assert_eq!(tally.sort(&[&dead, &bodiless, &good]), [&good]);
        let expected = Skipped {
            no_body: 1,
            endpoint_disabled: 1,
        };
        assert_eq!(tally.skipped, expected);
    }
}
