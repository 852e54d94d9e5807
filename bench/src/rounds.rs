//! Rounds: Wharf and its baseline in turns, so that a busy machine is busy for both.

use std::time::Duration;

/// The length of the measurements.
pub(crate) struct Plan {
    /// Rounds of Wharf and the baseline, which take turns.
    pub(crate) rounds: usize,
    /// The length of a turn.
    pub(crate) turn: Duration,
    /// Pieces of work of a benchmark that ends with its work, not with the time.
    pub(crate) work: usize,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        rounds: 3,
        turn: Duration::from_secs(3),
        work: 10_000,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        turn: Duration::from_secs(1),
        work: 2_000,
    };
}

/// Pairs of measurements that were taken one right after the other.
#[derive(Default)]
pub(crate) struct Pairs(Vec<(f64, f64)>);

impl Pairs {
    pub(crate) fn push(&mut self, ours: f64, baseline: f64) {
        self.0.push((ours, baseline));
    }

    /// Ours, in the median round.
    pub(crate) fn ours(&self) -> f64 {
        median(self.0.iter().map(|(ours, _)| *ours))
    }

    /// The baseline's, in the median round.
    pub(crate) fn baseline(&self) -> f64 {
        median(self.0.iter().map(|(_, baseline)| *baseline))
    }

    /// The median of the rounds' ratios of ours to the baseline's.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.0.iter().map(|(ours, baseline)| ours / baseline))
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut pairs = Pairs::default();
        // A machine that slows down for a round slows down both.
        for (ours, baseline) in [(90.0, 100.0), (9.0, 10.0), (45.0, 50.0)] {
            pairs.push(ours, baseline);
        }
        assert!((pairs.ratio() - 0.9).abs() < 1e-9);
        assert_eq!((pairs.ours(), pairs.baseline()), (45.0, 50.0));
    }
}
