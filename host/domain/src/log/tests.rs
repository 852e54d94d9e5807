//! The log's rule, by tables and by properties.

use super::*;
use proptest::prelude::*;

const NOW: Time = Time::from_micros(1_700_000_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn order() -> Order {
    Order {
        id: "order-1".into(),
        amount: Amount::parse("9.99").expect("an amount"),
        currency: Currency::parse("USD").expect("a currency"),
        imported_at: NOW,
    }
}

fn after(state: &LogState) -> Before {
    Before {
        status: state.status,
        attempt: state.attempt,
        plugin_faults: state.plugin_faults,
        refusals: state.refusals,
    }
}

fn deferred_for(wait: Duration) -> Answer {
    Answer::Deferred {
        reason: "out".into(),
        wait,
    }
}

#[test]
fn a_receipt_on_which_the_adapter_fails_rests_after_five_faults() {
    let fault = || Answer::Faulted("it trapped".into());
    let mut state = next_state(Before::NEW, fault(), NOW);
    for faults in 1..MAX_PLUGIN_FAULTS {
        let expected = (LogStatus::Pending, false, faults);
        let found = (state.status, state.exhausted, state.plugin_faults);
        assert_eq!(found, expected);
        // Neither an outage nor a pause says that it is well.
        let paused = next_state(after(&state), deferred_for(MINUTE), NOW);
        let down = next_state(after(&paused), Answer::Unavailable("down".into()), NOW);
        state = next_state(after(&down), fault(), NOW);
    }
    assert_eq!((state.status, state.exhausted), (LogStatus::Failed, true));
    assert_eq!(state.next_retry_at, None);
    let why = state.last_error.unwrap_or_default();
    assert!(
        why.contains("failed 5 times") && why.contains("it trapped"),
        "{why}"
    );
}

/// An outage, a rate limit or a fault says nothing about the receipt, so none of them brings it nearer to its rest.
#[test]
fn only_refusals_count_as_refusals() {
    let others = || {
        [
            Answer::Unavailable("down".into()),
            Answer::RateLimited(None),
            Answer::Faulted("it trapped".into()),
            deferred_for(MINUTE),
        ]
    };
    let mut state = next_state(Before::NEW, Answer::Unavailable("down".into()), NOW);
    for refusals in 1..=MAX_REFUSALS {
        for other in others() {
            state = next_state(after(&state), other, NOW);
        }
        state = next_state(after(&state), Answer::Refused("no".into()), NOW);
        let rests = refusals == MAX_REFUSALS;
        assert_eq!((state.refusals, state.exhausted), (refusals, rests));
    }
}

#[test]
fn an_answer_forgives_the_faults_before_it() {
    let state = next_state(Before::NEW, Answer::Faulted("oh".into()), NOW);
    let state = next_state(after(&state), Answer::Refused("no".into()), NOW);
    assert_eq!(state.plugin_faults, 0);
}

#[test]
fn a_first_refusal_is_asked_again_at_once_and_the_next_one_waits() {
    let first = next_state(Before::NEW, Answer::Refused("no".into()), NOW);
    assert_eq!(
        (first.status, first.attempt, first.next_retry_at),
        (LogStatus::Failed, 1, Some(NOW))
    );
    let second = next_state(after(&first), Answer::Refused("no".into()), NOW);
    assert_eq!(
        (second.attempt, second.next_retry_at),
        (2, Some(NOW + MINUTE * 10))
    );
    let tenth = next_state(
        Before {
            status: LogStatus::Failed,
            attempt: 9,
            plugin_faults: 0,
            refusals: 9,
        },
        Answer::Refused("no".into()),
        NOW,
    );
    assert_eq!(
        (tenth.exhausted, tenth.next_retry_at, tenth.attempt),
        (true, None, 10)
    );
}

#[test]
fn a_rate_limit_waits_for_the_longer_of_backoff_and_the_marketplace() {
    let limited = |asked| next_state(Before::NEW, Answer::RateLimited(asked), NOW).next_retry_at;
    assert_eq!(limited(None), Some(NOW + MINUTE * 5));
    assert_eq!(limited(Some(MINUTE)), Some(NOW + MINUTE * 5));
    assert_eq!(limited(Some(MINUTE * 90)), Some(NOW + MINUTE * 90));
}

#[test]
fn deferring_burns_no_attempt_and_an_outage_keeps_the_status() {
    let deferred = next_state(
        Before {
            status: LogStatus::RateLimited,
            attempt: 3,
            plugin_faults: 2,
            refusals: 1,
        },
        deferred_for(MINUTE * 7),
        NOW,
    );
    assert_eq!(
        (deferred.status, deferred.attempt, deferred.plugin_faults),
        (LogStatus::RateLimited, 3, 2)
    );
    assert_eq!(deferred.next_retry_at, Some(NOW + MINUTE * 7));
    let told = |answer| next_state(Before::NEW, answer, NOW);
    let busy = |seconds| told(Answer::Busy("down".into(), Duration::from_secs(seconds)));
    let down = told(Answer::Unavailable("down".into()));
    assert_eq!(busy(1), down, "the longer of both");
    assert_eq!(
        busy(7_200).next_retry_at,
        Some(NOW + Duration::from_secs(7_200))
    );
    assert_eq!((down.status, down.attempt), (LogStatus::Pending, 1));
    assert_eq!(import_result(down.status, None), ImportResult::Unavailable);
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Accepted(order())),
        Just(Answer::Refused("no".into())),
        proptest::option::of(0u64..200_000)
            .prop_map(|s| Answer::RateLimited(s.map(Duration::from_secs))),
        Just(Answer::Unavailable("down".into())),
        Just(Answer::Faulted("it trapped".into())),
        (0u64..5_000).prop_map(|s| deferred_for(Duration::from_secs(s))),
    ]
}

proptest! {
    /// Whatever a marketplace answers in whatever order: a log is either done, resting or has a time in the
    /// present or future; success is exactly an order; attempts never shrink.
    #[test]
    fn no_log_is_ever_forgotten(answers in proptest::collection::vec(answers(), 1..40)) {
        let mut before = Before::NEW;
        for answer in answers {
            let asked = !matches!(answer, Answer::Deferred { .. });
            let state = next_state(before, answer, NOW);
            prop_assert_eq!(state.order.is_some(), state.status == LogStatus::Success);
            prop_assert_eq!(state.attempt, before.attempt + i64::from(asked));
            let finished = state.status == LogStatus::Success || state.exhausted;
            prop_assert_eq!(state.next_retry_at.is_some(), !finished);
            prop_assert!(state.next_retry_at.is_none_or(|at| at >= NOW));
            if finished { break; }
            before = after(&state);
        }
    }
}
