//! Fair share: how many deliveries of which endpoint may be sent next.

use std::collections::HashMap;

use wharf_domain::EndpointId;
use wharf_store::deliveries::EndpointQueue;

/// The places of a worker, and who has them now.
pub(super) struct FairShare {
    max: usize,
    max_per_endpoint: usize,
    max_per_organization: usize,
    in_all: usize,
    by_endpoint: HashMap<EndpointId, usize>,
    by_organization: HashMap<String, usize>,
}

impl FairShare {
    /// `max` sends at a time. One organization gets at most half of them, so that another's events find room even when
    /// all its own are stuck with a dead receiver.
    pub(super) fn new(max: usize, max_per_endpoint: usize) -> Self {
        Self {
            max,
            max_per_endpoint,
            // Rounded up: half of a single place would be none.
            max_per_organization: max.div_ceil(2),
            in_all: 0,
            by_endpoint: HashMap::new(),
            by_organization: HashMap::new(),
        }
    }

    /// Sends that may begin.
    pub(super) const fn free(&self) -> usize {
        self.max.saturating_sub(self.in_all)
    }

    /// Divides the free places, at most `limit`, between endpoints: one each, round and round, until places or
    /// deliveries are used up. An endpoint that has enough in flight, or whose organization has, gets none.
    pub(super) fn divide(&self, queues: &[EndpointQueue], limit: usize) -> Vec<(EndpointId, i64)> {
        let mut left = self.free().min(limit);
        let mut shares = vec![0; queues.len()];
        let mut promised = HashMap::<&str, usize>::new();
        loop {
            let before = left;
            for (queue, share) in queues.iter().zip(&mut shares) {
                let organization = promised.entry(&queue.organization_id).or_default();
                // One place each and on to the next: order on the page gives nobody an advantage of more than one.
                if left > 0 && self.has_room(queue, *share, *organization) {
                    (*share, *organization, left) = (*share + 1, *organization + 1, left - 1);
                }
            }
            // A round in which nobody got a place was the last.
            if left == before {
                break;
            }
        }
        let taken = queues.iter().zip(shares).filter(|(_, share)| *share > 0);
        taken
            .map(|(queue, share)| (queue.endpoint_id, i64::try_from(share).unwrap_or(i64::MAX)))
            .collect()
    }

    /// Room for one more, beside what is in flight and the places promised in this division.
    fn has_room(&self, queue: &EndpointQueue, promised: usize, to_organization: usize) -> bool {
        // An endpoint whose circuit was opened is probed by a single delivery.
        let max = if queue.probing {
            1
        } else {
            self.max_per_endpoint
        };
        let in_flight = *self.by_endpoint.get(&queue.endpoint_id).unwrap_or(&0);
        let of_organization = *self
            .by_organization
            .get(&queue.organization_id)
            .unwrap_or(&0);
        promised < queue.ready
            && in_flight + promised < max
            && of_organization + to_organization < self.max_per_organization
    }

    /// A send began.
    pub(super) fn begin(&mut self, endpoint: EndpointId, organization: &str) {
        self.in_all += 1;
        *self.by_endpoint.entry(endpoint).or_default() += 1;
        *self
            .by_organization
            .entry(organization.to_owned())
            .or_default() += 1;
    }

    /// A send ended.
    pub(super) fn end(&mut self, endpoint: EndpointId, organization: &str) {
        // Saturating: an end without a begin must not open places without number.
        self.in_all = self.in_all.saturating_sub(1);
        decrease(&mut self.by_endpoint, &endpoint);
        decrease(&mut self.by_organization, organization);
    }
}

/// Takes one off a count. Counts of zero leave, so that the maps hold no more than what is in flight.
fn decrease<K, Q>(counts: &mut HashMap<K, usize>, key: &Q)
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(number: u128, organization: &str) -> EndpointQueue {
        let endpoint_id = EndpointId(uuid::Uuid::from_u128(number));
        EndpointQueue {
            endpoint_id,
            organization_id: organization.into(),
            ready: usize::MAX,
            probing: false,
        }
    }

    #[test]
    fn places_go_round_and_no_organization_takes_more_than_half() {
        let fair_share = FairShare::new(10, 4);
        let queues = [
            queue(1, "noisy"),
            queue(2, "noisy"),
            queue(3, "noisy"),
            queue(4, "quiet"),
        ];
        let shares = fair_share.divide(&queues, 100);
        let of = |number| {
            shares
                .iter()
                .find(|(id, _)| id.0.as_u128() == number)
                .map_or(0, |(_, take)| *take)
        };
        assert_eq!(of(1) + of(2) + of(3), 5, "half of ten");
        assert_eq!(of(4), 4, "as many as one endpoint may have");
    }

    #[test]
    fn what_is_in_flight_counts() {
        let mut fair_share = FairShare::new(4, 2);
        let queues = [queue(1, "a"), queue(2, "b")];
        fair_share.begin(queues[0].endpoint_id, "a");
        fair_share.begin(queues[0].endpoint_id, "a");
        assert_eq!(fair_share.free(), 2);
        assert_eq!(
            fair_share.divide(&queues, 100),
            [(queues[1].endpoint_id, 2)]
        );
        fair_share.end(queues[0].endpoint_id, "a");
        assert_eq!(fair_share.divide(&queues, 1), [(queues[0].endpoint_id, 1)]);
        let resting = [EndpointQueue {
            ready: 0,
            ..queue(3, "c")
        }];
        assert!(fair_share.divide(&resting, 100).is_empty());
    }

    #[test]
    fn a_rate_limit_and_an_open_circuit_take_less() {
        let mut fair_share = FairShare::new(100, 10);
        let rate_limited = EndpointQueue {
            ready: 3,
            ..queue(1, "a")
        };
        let probing = EndpointQueue {
            probing: true,
            ..queue(2, "b")
        };
        let queues = [rate_limited, probing];
        assert_eq!(
            fair_share.divide(&queues, 100),
            [(queues[0].endpoint_id, 3), (queues[1].endpoint_id, 1)]
        );
        fair_share.begin(queues[1].endpoint_id, "b");
        assert_eq!(
            fair_share.divide(&queues, 100),
            [(queues[0].endpoint_id, 3)]
        );
    }
}
