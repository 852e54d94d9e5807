//! Holds: whoever is held, no marketplace is asked for until the hold ends.

use std::collections::HashSet;

use crate::{MarketplaceName, OrganizationId, StoreId};

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldTarget {
    /// One store.
    Store(StoreId),
    /// Every store of an organization.
    Organization(OrganizationId),
    /// Every store at a marketplace.
    Marketplace(MarketplaceName),
}

impl HoldTarget {
    /// The kind's name in the API and in the database.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Organization(_) => "organization",
            Self::Marketplace(_) => "marketplace",
        }
    }

    /// The store's id, the organization or the marketplace.
    pub fn name(&self) -> String {
        match self {
            Self::Store(id) => id.to_string(),
            Self::Organization(organization) => organization.to_string(),
            Self::Marketplace(marketplace) => marketplace.to_string(),
        }
    }
}

/// Whose hold it is. Each side ends its own alone: a client cannot undo what an operator decided, nor the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldSide {
    /// The organization that owns the store.
    Organization,
    /// The operator of the host.
    Operator,
}

impl HoldSide {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Organization, Self::Operator];

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Operator => "operator",
        }
    }

    /// Reads the name; `None` if it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.as_str() == name)
    }
}

/// Everything that is held, for a look-up that costs three hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Stores.
    pub stores: HashSet<StoreId>,
    /// Organizations.
    pub organizations: HashSet<String>,
    /// Marketplaces.
    pub marketplaces: HashSet<String>,
}

impl Held {
    /// Adds one hold.
    pub fn add(&mut self, target: HoldTarget) {
        match target {
            HoldTarget::Store(id) => self.stores.insert(id),
            HoldTarget::Organization(organization) => {
                self.organizations.insert(organization.to_string())
            }
            HoldTarget::Marketplace(marketplace) => {
                self.marketplaces.insert(marketplace.to_string())
            }
        };
    }

    /// True where nobody may be asked on behalf of this store.
    pub fn holds(&self, store: StoreId, organization: &str, marketplace: &str) -> bool {
        // Nearly always: nothing is held, and nothing is hashed.
        !self.is_empty()
            && (self.stores.contains(&store)
                || self.organizations.contains(organization)
                || self.marketplaces.contains(marketplace))
    }

    /// True where nothing is held.
    pub fn is_empty(&self) -> bool {
        self.stores.is_empty() && self.organizations.is_empty() && self.marketplaces.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_hold_of_three_kinds_is_enough() {
        let [one, other] = [1, 2].map(|n| StoreId(Uuid::from_u128(n)));
        let organization = OrganizationId::parse("org").expect("a name");
        let marketplace = MarketplaceName::parse("etsy").expect("a name");
        let holding = |target| {
            let mut held = Held::default();
            held.add(target);
            held
        };
        assert!(!Held::default().holds(one, "org", "etsy"));
        let held = holding(HoldTarget::Store(one));
        assert!(held.holds(one, "org", "etsy") && !held.holds(other, "org", "etsy"));
        let held = holding(HoldTarget::Organization(organization));
        assert!(held.holds(one, "org", "etsy") && !held.holds(one, "other", "etsy"));
        let held = holding(HoldTarget::Marketplace(marketplace));
        assert!(held.holds(one, "org", "etsy") && !held.holds(one, "org", "shopify"));
    }
}
