//! Budgets: how often an organization may ask for what makes webhooks. They hold over all processes.

use wharf_domain::{Budget, OrganizationId};
use wharf_store::budgets;

use crate::{App, AppError};

/// The number of operations of each kind that one organization may ask for in a minute. Honest use stays far below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrganizationBudgets {
    /// Test events.
    pub tests_per_minute: u32,
    /// Deliveries sent again one by one.
    pub resends_per_minute: u32,
    /// Recoveries of an endpoint, and dead letters sent again.
    pub recoveries_per_minute: u32,
}

impl Default for OrganizationBudgets {
    fn default() -> Self {
        Self {
            tests_per_minute: 60,
            resends_per_minute: 600,
            recoveries_per_minute: 60,
        }
    }
}

/// An operation that has a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budgeted {
    Test,
    Resend,
    Recover,
}

impl Budgeted {
    /// The name in the database.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Resend => "resend",
            Self::Recover => "recover",
        }
    }

    fn budget(self, budgets: OrganizationBudgets) -> Budget {
        Budget::per_minute(match self {
            Self::Test => budgets.tests_per_minute,
            Self::Resend => budgets.resends_per_minute,
            Self::Recover => budgets.recoveries_per_minute,
        })
    }
}

impl App {
    /// Takes one operation out of the organization's budget.
    ///
    /// # Errors
    /// [`AppError::TooOften`] if it is used up.
    pub(crate) async fn spend(
        &self,
        organization: &OrganizationId,
        operation: Budgeted,
    ) -> Result<(), AppError> {
        let (now, name) = (self.0.clock.now(), operation.as_str());
        let budget = operation.budget(self.0.settings.callbacks.budgets);
        // A transaction of its own, before the operation: one that fails afterwards has been paid for all the same.
        let mut tx = self.0.ledger.begin().await?;
        // The row stays locked up to the commit, so that two processes cannot spend the same place.
        let spent_until = budgets::lock(&mut tx, organization, name, now).await?;
        let until = budget
            .spend(spent_until, now)
            .map_err(|wait| AppError::TooOften { wait })?;
        budgets::spend(&mut tx, organization, name, until).await?;
        Ok(tx.commit().await?)
    }
}
