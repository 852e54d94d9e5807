//! The rules of the breaker, told second by second.

use super::*;
use Outcome::{Fault, Good, Nothing};

struct Clock {
    start: Instant,
    breaker: Breaker,
    inputs: u64,
}

impl Clock {
    fn new(watched: Watched) -> Self {
        let start = Instant::now();
        Self {
            start,
            breaker: Breaker::new(watched, start),
            inputs: 0,
        }
    }

    fn call(&mut self, organization: &str, second: u64, outcome: Outcome) -> Option<Tripped> {
        self.inputs += 1;
        let input = self.inputs.to_string();
        self.call_with(organization, &input, second, outcome)
    }

    fn call_with(
        &mut self,
        organization: &str,
        input: &str,
        second: u64,
        outcome: Outcome,
    ) -> Option<Tripped> {
        let (origin, now) = (Origin::new(organization, "", input), self.at(second));
        let refused = self.breaker.refuses(origin, now);
        assert_eq!(refused, None, "refused at {second} s");
        let pass = self.breaker.let_through(origin, now);
        self.breaker.record(origin, pass, outcome, now)
    }

    fn refused(&mut self, organization: &str, second: u64) -> bool {
        self.inputs += 1;
        let origin = Origin::new(organization, "", &self.inputs.to_string());
        self.breaker.refuses(origin, self.at(second)).is_some()
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }
}

fn tripped(young: bool, for_everybody: bool) -> Option<Tripped> {
    Some(Tripped {
        young,
        for_everybody,
    })
}

#[test]
fn five_faults_in_a_row_of_one_organization_open_it_for_that_one() {
    let mut clock = Clock::new(Watched::Plugin);
    assert_eq!(clock.call("quiet", 0, Good), None);
    for outcome in [
        Fault, Fault, Fault, Fault, Good, Fault, Fault, Nothing, Fault, Fault,
    ] {
        assert_eq!(clock.call("poison", 0, outcome), None);
    }
    assert_eq!(clock.call("poison", 0, Fault), tripped(false, false));
    assert!(clock.refused("poison", 29) && !clock.refused("poison", 30));
    assert!(!clock.refused("quiet", 0) && !clock.refused("new", 0));
    assert_eq!(clock.breaker.paused_callers(clock.at(1)), 1);
    assert_eq!(clock.breaker.closed_for(clock.at(1)), None);
}

#[test]
fn the_only_organization_s_faults_blame_a_young_revision() {
    let mut clock = Clock::new(Watched::Plugin);
    for _ in 0..4 {
        assert_eq!(clock.call("only", 0, Fault), None);
    }
    assert_eq!(clock.call("only", 0, Fault), tripped(true, false));
}

#[test]
fn one_organization_alone_blames_no_revision_that_others_call() {
    let mut clock = Clock::new(Watched::Plugin);
    clock.call("quiet", 0, Good);
    // Before anybody else has called the new revision.
    clock.breaker = clock.breaker.successor(clock.at(1));
    for _ in 0..4 {
        assert_eq!(clock.call("poison", 1, Fault), None);
    }
    assert_eq!(clock.call("poison", 1, Fault), tripped(false, false));
    assert!(!clock.refused("quiet", 1));
}

#[test]
fn faults_of_several_organizations_open_it_for_everybody() {
    let mut clock = Clock::new(Watched::Plugin);
    assert_eq!(clock.call("well", 0, Good), None);
    for number in 0..4 {
        assert_eq!(clock.call(&format!("org-{number}"), 0, Fault), None);
    }
    assert_eq!(clock.call("org-4", 0, Fault), tripped(true, true));
    assert!(clock.refused("well", 29) && clock.refused("new", 29));
    assert!(!clock.refused("well", 30));
}

#[test]
fn two_of_many_organizations_do_not() {
    let mut clock = Clock::new(Watched::Plugin);
    for number in 0..5 {
        clock.call(&format!("well-{number}"), 0, Good);
    }
    for _ in 0..5 {
        clock.call("a", 0, Fault);
        clock.call("b", 0, Fault);
    }
    assert!(clock.refused("a", 1) && clock.refused("b", 1));
    assert!(!clock.refused("well-1", 1));
}

#[test]
fn half_of_twenty_calls_within_thirty_seconds_trip_it() {
    let mut clock = Clock::new(Watched::Plugin);
    for n in 0..19 {
        let outcome = if n % 2 == 0 { Fault } else { Good };
        assert_eq!(clock.call("org", n, outcome), None, "call {n}");
    }
    assert_eq!(clock.call("org", 20, Fault), tripped(true, false));
}

#[test]
fn slow_faults_fall_out_of_the_window() {
    let mut clock = Clock::new(Watched::Plugin);
    for n in 0..200 {
        let outcome = if n % 2 == 0 { Fault } else { Good };
        assert_eq!(clock.call("org", n * 2, outcome), None, "call {n}");
    }
}

#[test]
fn good_probes_close_it_and_a_bad_one_doubles_the_pause() {
    let mut clock = Clock::new(Watched::Plugin);
    let old = 20 * 60;
    for _ in 0..YOUNG_CALLS {
        clock.call("org", old, Good);
    }
    for _ in 0..4 {
        clock.call("org", old, Fault);
    }
    let trusted = tripped(false, false);
    assert_eq!(clock.call("org", old, Fault), trusted, "old enough");
    let mut now = old;
    for pause in [30, 60, 120, 240, 480, 600, 600] {
        assert!(
            clock.refused("org", now + pause - 1),
            "a pause of {pause} s"
        );
        now += pause;
        assert_eq!(clock.call("org", now, Fault), None);
    }
    now += 600;
    for _ in 0..Watched::Plugin.probes() {
        assert_eq!(clock.call("org", now, Good), None);
    }
    for _ in 0..4 {
        assert_eq!(clock.call("org", now, Fault), None, "it starts anew");
    }
}

#[test]
fn an_input_that_met_a_fault_neither_trips_nor_probes() {
    let mut clock = Clock::new(Watched::Plugin);
    for _ in 0..100 {
        assert_eq!(clock.call_with("org", "poison", 0, Fault), None);
    }
    for _ in 0..4 {
        clock.call("org", 0, Fault);
    }
    assert!(clock.refused("org", 1));
    for _ in 0..100 {
        assert_eq!(clock.call_with("org", "poison", 30, Fault), None);
    }
    assert!(!clock.refused("org", 30), "it was no probe");
    assert_eq!(clock.call_with("org", "poison", 30, Good), None);
    assert_eq!(clock.call("org", 30, Good), None);
}

#[test]
fn one_organization_s_bad_probe_does_not_pause_the_others() {
    let mut clock = Clock::new(Watched::Plugin);
    for organization in ["a", "a", "b", "b", "a"] {
        clock.call(organization, 0, Fault);
    }
    assert!(clock.refused("new", 1), "two of two callers");
    // Long after the window, so that only the probes count.
    assert_eq!(clock.call("a", 90, Fault), None);
    assert!(clock.refused("a", 91) && !clock.refused("c", 91));
    for organization in ["c", "d", "e"] {
        assert_eq!(clock.call(organization, 91, Good), None);
    }
    assert!(!clock.refused("f", 91), "closed");
}

#[test]
fn an_upstream_is_probed_by_one_call_of_any_input() {
    let mut clock = Clock::new(Watched::Upstream);
    for _ in 0..5 {
        clock.call_with("org", "same", 0, Fault);
    }
    assert!(clock.refused("org", 29));
    let (origin, now) = (Origin::new("org", "", "same"), clock.at(30));
    assert_eq!(clock.breaker.let_through(origin, now), Pass::Counted);
    assert!(clock.refused("org", 30), "one is under way");
    clock.breaker.record(origin, Pass::Counted, Good, now);
    assert!(!clock.refused("org", 30));
}

#[test]
fn memory_is_bounded() {
    let mut clock = Clock::new(Watched::Plugin);
    for number in 0..5 * MAX_CALLERS {
        let outcome = if number % 2 == 0 { Fault } else { Good };
        let origin = Origin::new(&number.to_string(), "", "x");
        let now = clock.at(0);
        clock.breaker.caller(origin, now);
        clock.breaker.record(origin, Pass::Counted, outcome, now);
    }
    assert!(clock.breaker.callers.len() <= MAX_CALLERS);
    assert!(clock.breaker.known_inputs.len() <= MAX_KNOWN_INPUTS);
}

#[test]
fn a_call_that_one_breaker_refuses_is_no_probe_of_the_other() {
    let breakers = Breakers::new(Instant::now());
    let (mut both, start) = (breakers.lock(), Instant::now());
    let origins = |input: &str| ForBoth {
        plugin: Origin::new("org", "", input),
        upstream: Origin::new("org", "account", ""),
    };
    for input in ["1", "2", "3", "4", "5"] {
        let passes = both.admit(origins(input), start).expect("both are closed");
        let outcomes = ForBoth {
            plugin: Fault,
            upstream: Fault,
        };
        both.record(origins(input), passes, outcomes, start);
    }
    // Both probe. One probe is all that the upstream's takes, three the plugin's.
    let later = start + Duration::from_secs(31);
    let passes = both.admit(origins("6"), later).expect("a probe");
    for input in ["7", "8", "9", "10"] {
        let refused = both
            .admit(origins(input), later)
            .expect_err("one is under way");
        assert_eq!(refused.watched, Watched::Upstream);
    }
    let outcomes = ForBoth {
        plugin: Nothing,
        upstream: Good,
    };
    both.record(origins("6"), passes, outcomes, later);
    for input in ["7", "8", "9"] {
        let admitted = both.admit(origins(input), later);
        assert!(admitted.is_ok(), "none of the three was taken");
    }
}
