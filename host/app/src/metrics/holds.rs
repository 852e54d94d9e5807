//! How much is held.

use metrics::Gauge;
use wharf_domain::Held;

use super::{catalogue, registry::Registry};

/// The gauges of each kind of hold.
pub(super) struct HoldGauges([Gauge; 3]);

impl HoldGauges {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |what| registry.gauge(&catalogue::HOLDS, &[("what", what)]);
        Self(["store", "organization", "marketplace"].map(gauge))
    }

    pub(super) fn set(&self, held: &Held) {
        let numbers = [
            held.stores.len(),
            held.organizations.len(),
            held.marketplaces.len(),
        ];
        for (gauge, number) in self.0.iter().zip(numbers) {
            #[expect(clippy::cast_precision_loss, reason = "ten thousand at most")]
            gauge.set(number as f64);
        }
    }
}
