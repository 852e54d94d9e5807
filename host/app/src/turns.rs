//! Fair turns: how many deliveries of which endpoint may be sent next.

use std::collections::HashMap;

use wharf_domain::EndpointId;
use wharf_store::deliveries::EndpointQueue;

/// What is being sent right now, and how much may be.
pub(crate) struct Turns {
    most: usize,
    most_per_endpoint: usize,
    most_per_organization: usize,
    in_all: usize,
    by_endpoint: HashMap<EndpointId, usize>,
    by_organization: HashMap<String, usize>,
}

impl Turns {
    /// `most` sends at a time. One organization gets at most half of them, so that another's events find room even
    /// when all its own are stuck with a dead receiver.
    pub(crate) fn new(most: usize, most_per_endpoint: usize) -> Self {
        Self {
            most,
            most_per_endpoint,
            most_per_organization: most.div_ceil(2),
            in_all: 0,
            by_endpoint: HashMap::new(),
            by_organization: HashMap::new(),
        }
    }

    /// How many more sends may begin.
    pub(crate) const fn free(&self) -> usize {
        self.most.saturating_sub(self.in_all)
    }

    /// Shares the free places, at most `limit`, between the endpoint_queues: one each, round and round, until places or endpoint_queues
    /// are used up. EndpointQueue whose endpoint or organization has enough in flight get none; one whose circuit was opened
    /// has enough with a single delivery.
    pub(crate) fn share(
        &self,
        endpoint_queues: &[EndpointQueue],
        limit: usize,
    ) -> Vec<(EndpointId, i64)> {
        let mut left = self.free().min(limit);
        let mut shares = vec![0; endpoint_queues.len()];
        let mut promised = HashMap::<&str, usize>::new();
        loop {
            let before = left;
            for (endpoint_queue, share) in endpoint_queues
                .iter()
                .zip(&mut shares)
                .filter(|(endpoint_queue, share)| **share < endpoint_queue.ready)
            {
                let organization = promised.entry(&endpoint_queue.organization_id).or_default();
                let most_in_flight = if endpoint_queue.probing {
                    1
                } else {
                    self.most_per_endpoint
                };
                let room = left > 0
                    && self
                        .by_endpoint
                        .get(&endpoint_queue.endpoint_id)
                        .unwrap_or(&0)
                        + *share
                        < most_in_flight
                    && self
                        .by_organization
                        .get(&endpoint_queue.organization_id)
                        .unwrap_or(&0)
                        + *organization
                        < self.most_per_organization;
                if room {
                    (*share, *organization, left) = (*share + 1, *organization + 1, left - 1);
                }
            }
            if left == before {
                break;
            }
        }
        let takes = endpoint_queues
            .iter()
            .zip(shares)
            .filter(|(_, share)| *share > 0);
        takes
            .map(|(endpoint_queue, share)| {
                (
                    endpoint_queue.endpoint_id,
                    i64::try_from(share).unwrap_or(i64::MAX),
                )
            })
            .collect()
    }

    /// A send began.
    pub(crate) fn begin(&mut self, endpoint: EndpointId, organization: &str) {
        self.in_all += 1;
        *self.by_endpoint.entry(endpoint).or_default() += 1;
        *self
            .by_organization
            .entry(organization.to_owned())
            .or_default() += 1;
    }

    /// A send ended.
    pub(crate) fn end(&mut self, endpoint: EndpointId, organization: &str) {
        self.in_all = self.in_all.saturating_sub(1);
        decrease(&mut self.by_endpoint, &endpoint);
        decrease(&mut self.by_organization, organization);
    }
}

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

    fn endpoint_queue(number: u128, organization: &str) -> EndpointQueue {
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
        let turns = Turns::new(10, 4);
        let endpoint_queues = [
            endpoint_queue(1, "noisy"),
            endpoint_queue(2, "noisy"),
            endpoint_queue(3, "noisy"),
            endpoint_queue(4, "quiet"),
        ];
        let shares = turns.share(&endpoint_queues, 100);
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
        let mut turns = Turns::new(4, 2);
        let endpoint_queues = [endpoint_queue(1, "a"), endpoint_queue(2, "b")];
        turns.begin(endpoint_queues[0].endpoint_id, "a");
        turns.begin(endpoint_queues[0].endpoint_id, "a");
        assert_eq!(turns.free(), 2);
        assert_eq!(
            turns.share(&endpoint_queues, 100),
            [(endpoint_queues[1].endpoint_id, 2)]
        );
        turns.end(endpoint_queues[0].endpoint_id, "a");
        assert_eq!(
            turns.share(&endpoint_queues, 1),
            [(endpoint_queues[0].endpoint_id, 1)]
        );
        let resting = [EndpointQueue {
            ready: 0,
            ..endpoint_queue(3, "c")
        }];
        assert!(turns.share(&resting, 100).is_empty());
    }

    #[test]
    fn a_pace_and_an_open_circuit_take_less() {
        let mut turns = Turns::new(100, 10);
        let paced = EndpointQueue {
            ready: 3,
            ..endpoint_queue(1, "a")
        };
        let probing = EndpointQueue {
            probing: true,
            ..endpoint_queue(2, "b")
        };
        let endpoint_queues = [paced, probing];
        assert_eq!(
            turns.share(&endpoint_queues, 100),
            [
                (endpoint_queues[0].endpoint_id, 3),
                (endpoint_queues[1].endpoint_id, 1)
            ]
        );
        turns.begin(endpoint_queues[1].endpoint_id, "b");
        assert_eq!(
            turns.share(&endpoint_queues, 100),
            [(endpoint_queues[0].endpoint_id, 3)]
        );
    }
}
