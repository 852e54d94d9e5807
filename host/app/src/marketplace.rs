//! Asking an adapter. The one place where a plugin's answer, or its lack, becomes the system's.

use std::time::{Duration, Instant};

use tracing::Instrument;
use wharf_domain::{
    AccessToken, Amount, Answer, Currency, ExternalStoreId, Order, OrganizationId, Receipt,
    RequestId, Time,
};
use wharf_engine::{Called, Fault, ValidateRequest};
use wharf_store::stores::Store;

use crate::{App, AppError, failpoint, metrics::call_outcome, trace};

/// The mock marketplace's answer, straight from the adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MockAnswer {
    /// The receipt stands for this order.
    Accepted {
        /// The marketplace's id of the order.
        order_id: String,
        /// The exact amount.
        amount: Amount,
        /// Its currency.
        currency: Currency,
        /// The present time.
        imported_at: Time,
    },
    /// It stands for nothing.
    Rejected,
    /// Come back after this long.
    RateLimited {
        /// The wait.
        retry_after: Duration,
    },
    /// The adapter could not be asked.
    Unavailable,
}

/// The wait of a rate-limited client of the mock where the adapter names none.
const MOCK_RETRY_AFTER: Duration = Duration::from_secs(60);

impl From<Answer> for MockAnswer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Accepted(order) => {
                let Order {
                    id: order_id,
                    amount,
                    currency,
                    imported_at,
                } = order;
                Self::Accepted {
                    order_id,
                    amount,
                    currency,
                    imported_at,
                }
            }
            Answer::Refused(_) => Self::Rejected,
            Answer::RateLimited(wait) => Self::RateLimited {
                retry_after: wait.unwrap_or(MOCK_RETRY_AFTER),
            },
            // One answer for all: the reasons are for operators, and `mock_validate` logs them.
            Answer::Unavailable(_)
            | Answer::Busy(..)
            | Answer::Faulted(_)
            | Answer::Deferred { .. } => Self::Unavailable,
        }
    }
}

impl App {
    /// Returns whether an adapter serves this marketplace.
    pub fn serves(&self, marketplace: &str) -> bool {
        self.0.engine.serves(marketplace)
    }

    /// Returns whether plugins are being loaded: what nobody serves now may be served soon.
    pub fn is_loading(&self) -> bool {
        !self.0.engine.loading().is_empty()
    }

    /// Plays the marketplace's own API: asks the adapter and stores nothing.
    pub async fn mock_validate(
        &self,
        marketplace: &str,
        receipt: &Receipt,
        currency: Currency,
    ) -> Result<MockAnswer, AppError> {
        let request = ValidateRequest {
            receipt: receipt.clone(),
            currency,
            external_store_id: ExternalStoreId::from_stored("mock".into()),
            now: self.0.clock.now(),
            access_token: None,
            store_id: None,
            request_id: None,
        };
        // Not a name that a client can take: the mock shares places with nobody's stores.
        let organization = OrganizationId::from_stored(String::new());
        let called = self
            .call_plugin(
                "validate",
                self.0.engine.validate(marketplace, &organization, request),
            )
            .await;
        let answer = called.result.unwrap_or_else(Fault::into_answer);
        if let Answer::Unavailable(why)
        | Answer::Faulted(why)
        | Answer::Busy(why, _)
        | Answer::Deferred { reason: why, .. } = &answer
        {
            tracing::warn!(marketplace, why, "marketplace_unavailable");
        }
        Ok(answer.into())
    }

    /// Asks the store's marketplace about a receipt that this request imported. Returns the digest of the plugin that answered, too.
    pub(crate) async fn ask(
        &self,
        store: &Store,
        receipt: &Receipt,
        request_id: Option<RequestId>,
        now: Time,
    ) -> (Answer, Option<String>) {
        let access_token = match self.access_token_of(store) {
            Ok(token) => Some(token),
            Err(deferred) => return (deferred, None),
        };
        let request = ValidateRequest {
            receipt: receipt.clone(),
            currency: store.currency,
            external_store_id: store.external_store_id.clone(),
            now,
            access_token,
            store_id: Some(store.id),
            request_id,
        };
        failpoint::pass("plugin.call.before");
        let (marketplace, organization) = (store.marketplace.as_str(), &store.organization_id);
        let call = self.0.engine.validate(marketplace, organization, request);
        let called = self.call_plugin("validate", call).await;
        failpoint::pass("plugin.call.after");
        let answer = called.result.unwrap_or_else(|fault| {
            tracing::warn!(marketplace = %store.marketplace, store_id = %store.id, %fault, "marketplace_unavailable");
            fault.into_answer()
        });
        (answer, called.digest.map(|digest| digest.to_string()))
    }

    /// Counts and traces a call of a plugin. Every call passes here.
    pub(crate) async fn call_plugin<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Called<T>>,
    ) -> Called<T> {
        let (span, began) = (trace::plugin_call(operation), Instant::now());
        let called = call.instrument(span.clone()).await;
        let outcome = call_outcome(called.result.as_ref().err());
        self.0
            .metrics
            .plugin_call(called.plugin.as_deref(), outcome, began.elapsed());
        trace::plugin_called(&span, &called, outcome);
        called
    }

    /// The store's token at its marketplace. The border of the sandbox adds it to requests where the operator granted
    /// that; guests never see it. Where no key opens it nobody is asked: that is the host's fault, and the marketplace
    /// would refuse a receipt for want of the token.
    fn access_token_of(&self, store: &Store) -> Result<AccessToken, Answer> {
        let opened = store.access_token(&self.0.settings.encryption_key);
        opened.map_err(|error| {
            tracing::error!(store_id = %store.id, %error, "access token unreadable");
            Answer::Deferred {
                reason: "the store's access token cannot be read with this host's key".into(),
                wait: Duration::ZERO,
            }
        })
    }
}
