//! What the operator of a host looks at over all organizations, and is told by webhooks of his own.

mod events;

use wharf_domain::{EndpointId, OrganizationId};
use wharf_store::endpoints::{self, Among, Endpoint, Figures};

pub(crate) use self::events::{plugin_events, tell_of_disabled};
use crate::{App, AppError, MAX_PER_PAGE, Page};

/// Endpoints that are looked at in one read.
const MAX_LOOKED_AT: i64 = 1_000;
/// Such reads of one request: 20,000 endpoints.
const MAX_LOOKS: usize = 20;

/// The state of an endpoint, as an operator looks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookState {
    /// Active, and failing since an attempt last succeeded; its circuit may be open.
    Failing,
    /// Sent nothing, for the reason that it tells.
    Disabled,
}

impl WebhookState {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Disabled, Self::Failing];

    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Disabled => "disabled",
        }
    }

    /// Reads the name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    fn is_of(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Failing => endpoint.is_active && endpoint.health.failing_since.is_some(),
            Self::Disabled => !endpoint.is_active,
        }
    }
}

/// The endpoints that are meant: all that every part allows.
#[derive(Clone, Debug, Default)]
pub struct WebhookFilter {
    /// Of this organization.
    pub organization: Option<OrganizationId>,
    /// In this state.
    pub state: Option<WebhookState>,
    /// Told of this kind of event.
    pub event: Option<String>,
}

impl WebhookFilter {
    /// The smallest part of all endpoints that an index knows and that has all that are meant.
    fn among(&self) -> Among {
        match (&self.organization, self.state) {
            // First: an organization has a bounded number, those that fail have not.
            (Some(organization), _) => Among::Organization(organization.clone()),
            (None, Some(WebhookState::Failing)) => Among::Failing,
            (None, Some(WebhookState::Disabled)) => Among::Disabled,
            (None, None) => Among::All,
        }
    }

    fn takes(&self, endpoint: &Endpoint) -> bool {
        self.state.is_none_or(|state| state.is_of(endpoint))
            && self
                .event
                .as_ref()
                .is_none_or(|event| *event == endpoint.event)
    }
}

/// An endpoint, and how it is doing.
#[derive(Clone, Debug)]
pub struct ObservedWebhook {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its figures.
    pub figures: Figures,
}

impl App {
    /// A page of endpoints of all organizations, in the order in which they were registered. At most [`MAX_PER_PAGE`], or
    /// as many as are found among those that one request looks at: then `next` goes on there.
    pub async fn all_webhooks(
        &self,
        filter: &WebhookFilter,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Page<ObservedWebhook, EndpointId>, AppError> {
        let limit = limit.clamp(1, MAX_PER_PAGE);
        let (mut items, mut next) = (Vec::new(), None);
        let mut place = after.unwrap_or(EndpointId(uuid::Uuid::nil()));
        let among = filter.among();
        let mut conn = self.0.ledger.read().await?;
        'looks: for look in 1..=MAX_LOOKS {
            let found = endpoints::overview(&mut conn, &among, place, MAX_LOOKED_AT).await?;
            let was_last = i64::try_from(found.len()).is_ok_and(|found| found < MAX_LOOKED_AT);
            for endpoint in found {
                if filter.takes(&endpoint) {
                    // One more than the page shows: there is a next one.
                    if items.len() == limit {
                        next = Some(place);
                        break 'looks;
                    }
                    items.push(endpoint.clone());
                }
                place = endpoint.id;
            }
            if was_last {
                break;
            }
            next = (look == MAX_LOOKS).then_some(place);
        }
        let ids: Vec<EndpointId> = items.iter().map(|endpoint| endpoint.id).collect();
        let figures = endpoints::figures(&mut conn, ids, self.0.clock.now()).await?;
        let observed = items.into_iter().filter_map(|endpoint| {
            // One that was deleted between the two reads is left out.
            let figures = figures.iter().find(|figures| figures.id == endpoint.id)?;
            Some(ObservedWebhook {
                figures: figures.clone(),
                endpoint,
            })
        });
        Ok(Page {
            items: observed.collect(),
            next,
        })
    }
}
