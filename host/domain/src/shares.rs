//! Fair shares of a worker's places: between marketplaces, and between organizations.

use std::collections::HashMap;

/// Jobs that go on without a place, for each place. They wait for an answer that is late; the engine bounds what they
/// hold.
const LINGERING_PER_PLACE: usize = 8;

/// The parties that a job counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parties {
    /// The marketplace that is asked.
    pub marketplace: String,
    /// The organization that it is asked for.
    pub organization: String,
}

/// Places, and who holds how many of them. A job that lingers has given its place back and still counts for its
/// parties.
#[derive(Clone, Debug)]
pub struct Shares {
    places: usize,
    active: usize,
    lingering: usize,
    by_marketplace: HashMap<String, usize>,
    by_organization: HashMap<String, usize>,
}

impl Shares {
    /// So many places, all free.
    pub fn new(places: usize) -> Self {
        Self {
            places,
            active: 0,
            lingering: 0,
            by_marketplace: HashMap::new(),
            by_organization: HashMap::new(),
        }
    }

    /// Places that are free.
    pub const fn free(&self) -> usize {
        self.places.saturating_sub(self.active)
    }

    /// Chooses who gets the free places: one at a time, whoever's marketplace and organization hold the fewest, in the
    /// order of waiting among equals. Nobody gets more than half of all that may run and linger. Returns places in
    /// `waiting`.
    pub fn choose(&self, waiting: &[Parties]) -> Vec<usize> {
        // On a copy: a job begins once it is claimed, and another process may claim it first.
        let mut after = self.clone();
        let mut chosen = Vec::new();
        while after.free() > 0 {
            // Quadratic, which is cheap: a look at the queue brings 128 jobs at most.
            let left = (0..waiting.len()).filter(|index| !chosen.contains(index));
            let left = left.filter(|index| after.has_room(&waiting[*index]));
            // Of equals `min_by_key` takes the first, which has waited longest.
            let Some(next) = left.min_by_key(|index| after.load(&waiting[*index])) else {
                break;
            };
            after.begin(&waiting[next]);
            chosen.push(next);
        }
        chosen
    }

    /// A job takes a place.
    pub fn begin(&mut self, parties: &Parties) {
        self.active += 1;
        *count(&mut self.by_marketplace, &parties.marketplace) += 1;
        *count(&mut self.by_organization, &parties.organization) += 1;
    }

    /// A job gives its place back and goes on. Returns false where too many do so already: it keeps its place then.
    pub fn linger(&mut self) -> bool {
        let may = self.lingering < self.places * LINGERING_PER_PLACE;
        if may {
            self.active = self.active.saturating_sub(1);
            self.lingering += 1;
        }
        may
    }

    /// A job has ended.
    pub fn end(&mut self, parties: &Parties, lingered: bool) {
        if lingered {
            self.lingering = self.lingering.saturating_sub(1);
        } else {
            self.active = self.active.saturating_sub(1);
        }
        decrease(&mut self.by_marketplace, &parties.marketplace);
        decrease(&mut self.by_organization, &parties.organization);
    }

    fn held(&self, parties: &Parties) -> [usize; 2] {
        let of = |counts: &HashMap<String, usize>, name| counts.get(name).copied().unwrap_or(0);
        [
            of(&self.by_marketplace, &parties.marketplace),
            of(&self.by_organization, &parties.organization),
        ]
    }

    fn load(&self, parties: &Parties) -> usize {
        self.held(parties).iter().sum()
    }

    fn has_room(&self, parties: &Parties) -> bool {
        let most = self.places * (1 + LINGERING_PER_PLACE) / 2;
        self.held(parties).iter().all(|held| *held < most.max(1))
    }
}

fn count<'a>(counts: &'a mut HashMap<String, usize>, name: &str) -> &'a mut usize {
    counts.entry(name.to_owned()).or_default()
}

/// Takes one off a count. Counts of zero leave, so that the maps hold no more than what runs.
fn decrease(counts: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn parties(marketplace: u8, organization: u8) -> Parties {
        Parties {
            marketplace: format!("m{marketplace}"),
            organization: format!("o{organization}"),
        }
    }

    #[test]
    fn a_newcomer_goes_before_those_who_hold_places() {
        let mut shares = Shares::new(4);
        for _ in 0..3 {
            shares.begin(&parties(1, 1));
        }
        let waiting = [parties(1, 1), parties(1, 2), parties(2, 3)];
        assert_eq!(shares.choose(&waiting), [2]);
        assert_eq!(shares.choose(&waiting[..2]), [1], "its organization is new");
        assert_eq!(shares.choose(&waiting[..1]), [0], "nobody else wants it");
    }

    #[test]
    fn a_job_that_lingers_frees_its_place_and_counts_on() {
        let mut shares = Shares::new(1);
        for _ in 0..LINGERING_PER_PLACE / 2 {
            shares.begin(&parties(1, 1));
            assert!(shares.linger());
        }
        assert_eq!(shares.free(), 1);
        assert!(shares.choose(&[parties(1, 1)]).is_empty(), "half of all");
        assert_eq!(shares.choose(&[parties(1, 1), parties(2, 2)]), [1]);
        shares.end(&parties(1, 1), true);
        assert_eq!(shares.choose(&[parties(1, 1)]), [0]);
        for _ in 0..=LINGERING_PER_PLACE / 2 {
            shares.begin(&parties(3, 3));
            assert!(shares.linger());
        }
        shares.begin(&parties(4, 4));
        assert!(!shares.linger(), "too many linger");
        assert_eq!(shares.free(), 0);
    }

    fn some() -> impl Strategy<Value = Vec<Parties>> {
        vec((0u8..5, 0u8..5).prop_map(|(m, o)| parties(m, o)), 0..12)
    }

    proptest! {
        /// Never more than is free, nobody twice; nothing stays free that somebody may have; and whoever holds nothing
        /// is passed over for none that holds something.
        #[test]
        fn shares_are_fair(places in 1usize..8, running in some(), waiting in some()) {
            let mut shares = Shares::new(places);
            running.iter().take(places).for_each(|job| shares.begin(job));
            let chosen = shares.choose(&waiting);
            prop_assert!(chosen.len() <= shares.free());
            let mut after = shares.clone();
            chosen.iter().for_each(|index| after.begin(&waiting[*index]));
            let left: Vec<_> = (0..waiting.len()).filter(|i| !chosen.contains(i)).collect();
            prop_assert_eq!(left.len() + chosen.len(), waiting.len());
            for index in left {
                let passed_over = &waiting[index];
                prop_assert!(after.free() == 0 || !after.has_room(passed_over));
                if after.load(passed_over) == 0 {
                    prop_assert!(chosen.iter().all(|index| shares.load(&waiting[*index]) == 0));
                }
            }
        }
    }
}
