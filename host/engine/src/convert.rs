//! Between the domain's types and the contract's: what goes in, and the check of everything that comes out.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_domain::{
    AccessToken, Amount, Answer, Currency, Event, ExternalStoreId, Order, Receipt, Time,
};

use crate::Fault;
use crate::bindings::{adapter_types as adapter, shaper_types as shaper};

/// The longest wait that a rate limit may ask for; a marketplace that asks for more is asked again all the same.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How much of a guest's words for people is kept, in characters.
const MAX_REASON: usize = 500;
const MAX_HEADERS: usize = 32;
const MAX_HEADER_BYTES: usize = 8 * 1024;
const MAX_WISHES: usize = 32;

/// Headers of a webhook that the host or HTTP itself owns.
const OWNED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-event-id",
];
const OWNED_PREFIXES: &[&str] = &["webhook-", "x-webhook-"];

/// Everything that judging a receipt needs.
#[derive(Clone)]
pub struct ValidateRequest {
    /// The receipt to judge.
    pub receipt: Receipt,
    /// The store's currency.
    pub currency: Currency,
    /// The store's own id at the marketplace.
    pub external_store_id: ExternalStoreId,
    /// The present time.
    pub now: Time,
    /// The store's access token, if the grants may want it: the host adds it to requests, no guest ever sees it.
    pub access_token: Option<AccessToken>,
}

/// A shaped webhook, without what the host adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// A valid media type.
    pub content_type: String,
    /// Valid further headers, none of them the host's own.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

/// What an adapter says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AdapterManifest {
    /// The marketplace that it serves.
    pub marketplace: String,
    /// The name for people.
    pub display_name: String,
    /// Its own semantic version.
    pub version: String,
    /// Origins that it wants to reach.
    pub wanted_origins: Vec<String>,
    /// Configuration keys that it reads.
    pub config_keys: Vec<String>,
    /// Credentials that the host is to add to its requests.
    pub credentials: Vec<String>,
}

/// What a shaper says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShaperManifest {
    /// The name that endpoints choose it by.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// Its own semantic version.
    pub version: String,
}

impl std::fmt::Debug for ValidateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValidateRequest")
            .field("receipt", &self.receipt)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl ValidateRequest {
    pub(crate) fn to_guest(&self) -> adapter::Request {
        adapter::Request {
            receipt: self.receipt.to_string(),
            currency: self.currency.to_string(),
            external_store_id: self.external_store_id.to_string(),
            now: self.now.to_string(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.receipt.as_str().len() + self.external_store_id.as_str().len()
    }
}

pub(crate) fn event_to_guest(event: &Event) -> shaper::Event {
    shaper::Event {
        id: event.id.to_string(),
        kind: event.kind.clone(),
        timestamp: event.at.to_string(),
        organization_id: event.organization_id.to_string(),
        store_id: event.store_id.to_string(),
        data: event.data.clone(),
    }
}

pub(crate) fn event_bytes(event: &Event) -> usize {
    event.kind.len() + event.organization_id.as_str().len() + event.data.len()
}

/// What the adapter said, checked. Its own faults are upstream's news, not a failed call.
pub(crate) fn answer(said: Result<adapter::Verdict, adapter::Fault>) -> Result<Answer, Fault> {
    use adapter::{Fault as Said, Verdict};
    Ok(match said {
        Ok(Verdict::Accepted(order)) => Answer::Accepted(checked_order(&order)?),
        Ok(Verdict::Rejected(reason)) => Answer::Refused(for_people(&reason)),
        Err(Said::RateLimited(wait)) => Answer::RateLimited(
            wait.map(|seconds| Duration::from_secs(u64::from(seconds)).min(MAX_RETRY_AFTER)),
        ),
        Err(Said::Unauthorized(reason)) => {
            Answer::Unavailable(format!("unauthorized: {}", for_people(&reason)))
        }
        Err(Said::Unavailable(reason)) => {
            Answer::Unavailable(format!("unavailable: {}", for_people(&reason)))
        }
        Err(Said::Misconfigured(reason)) => {
            Answer::Unavailable(format!("misconfigured: {}", for_people(&reason)))
        }
    })
}

fn checked_order(order: &adapter::Order) -> Result<Order, Fault> {
    if order.id.contains('\0') || !(1..=255).contains(&order.id.chars().count()) {
        return Err(broken(
            "the order's id must be 1 to 255 characters without NUL",
        ));
    }
    let amount =
        Amount::parse(&order.amount).map_err(|why| broken(format!("the order's amount {why}")))?;
    let currency = Currency::parse(&order.currency)
        .ok()
        .filter(|currency| currency.as_str() == order.currency)
        .ok_or_else(|| broken("the order's currency must be three upper-case letters"))?;
    let imported_at = Time::parse(&order.imported_at)
        .filter(|at| at.as_micros() >= 0)
        .ok_or_else(|| broken("imported-at must be RFC 3339, 1970 or later"))?;
    Ok(Order {
        id: order.id.clone(),
        amount,
        currency,
        imported_at,
    })
}

/// The shaper's message, checked: nothing in it can break out of an HTTP request.
pub(crate) fn message(
    said: Result<shaper::Message, String>,
    most_bytes: usize,
) -> Result<Message, Fault> {
    let said = said.map_err(|reason| Fault::Refused(for_people(&reason)))?;
    check_content_type(&said.content_type)?;
    if said.headers.len() > MAX_HEADERS {
        return Err(broken(format!("more than {MAX_HEADERS} headers")));
    }
    let header_bytes: usize = said
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if header_bytes > MAX_HEADER_BYTES {
        return Err(broken(format!(
            "more than {MAX_HEADER_BYTES} bytes of headers"
        )));
    }
    said.headers
        .iter()
        .try_for_each(|(name, value)| check_header(name, value))?;
    if said.body.len() > most_bytes {
        return Err(Fault::OutputTooLarge);
    }
    Ok(Message {
        content_type: said.content_type,
        headers: said.headers,
        body: said.body,
    })
}

fn check_content_type(value: &str) -> Result<(), Fault> {
    let essence = value.split(';').next().unwrap_or_default().trim_end();
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let valid = value.len() <= 255
        && essence
            .split_once('/')
            .is_some_and(|(kind, subtype)| token(kind) && token(subtype))
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if valid {
        Ok(())
    } else {
        Err(broken(
            "the content type must be a media type such as application/json",
        ))
    }
}

fn check_header(name: &str, value: &str) -> Result<(), Fault> {
    let valid = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| broken("a header's name is not valid"))?;
    if OWNED_HEADERS.contains(&valid.as_str())
        || OWNED_PREFIXES
            .iter()
            .any(|prefix| valid.as_str().starts_with(prefix))
    {
        return Err(broken(format!("the header {valid} belongs to the host")));
    }
    if HeaderValue::from_str(value).is_err() || !value.is_ascii() {
        return Err(broken(format!(
            "the value of the header {valid} is not valid"
        )));
    }
    Ok(())
}

pub(crate) fn adapter_manifest(said: adapter::Manifest) -> Result<AdapterManifest, Fault> {
    check_plugin_name("marketplace", &said.marketplace)?;
    check_display(&said.display_name, &said.version)?;
    let lists = [&said.wanted_origins, &said.config_keys, &said.credentials];
    if lists.iter().any(|list| list.len() > MAX_WISHES) {
        return Err(broken(format!(
            "a list of the manifest has more than {MAX_WISHES} entries"
        )));
    }
    if let Some(key) = said
        .config_keys
        .iter()
        .chain(&said.credentials)
        .find(|key| !is_key(key))
    {
        return Err(broken(format!(
            "{:?} is no key: 1 to 64 of A-Z, a-z, 0-9, `_`, `-`, `.`",
            for_people(key)
        )));
    }
    let wanted_origins = said
        .wanted_origins
        .iter()
        .map(|origin| checked_origin(origin))
        .collect::<Result<_, _>>()?;
    Ok(AdapterManifest {
        marketplace: said.marketplace,
        display_name: said.display_name,
        version: said.version,
        wanted_origins,
        config_keys: said.config_keys,
        credentials: said.credentials,
    })
}

pub(crate) fn shaper_manifest(said: shaper::Manifest) -> Result<ShaperManifest, Fault> {
    check_plugin_name("name", &said.name)?;
    check_display(&said.display_name, &said.version)?;
    Ok(ShaperManifest {
        name: said.name,
        display_name: said.display_name,
        version: said.version,
    })
}

fn check_plugin_name(field: &str, name: &str) -> Result<(), Fault> {
    let valid = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if valid {
        Ok(())
    } else {
        Err(broken(format!(
            "{field} must be 1 to 64 of a-z, 0-9 and `-`"
        )))
    }
}

fn check_display(display_name: &str, version: &str) -> Result<(), Fault> {
    if !(1..=100).contains(&display_name.chars().count())
        || display_name.chars().any(char::is_control)
    {
        return Err(broken(
            "display-name must be 1 to 100 characters without control characters",
        ));
    }
    if version.len() > 64 || semver::Version::parse(version).is_err() {
        return Err(broken("version must be a semantic version such as 1.4.0"));
    }
    Ok(())
}

pub(crate) fn is_key(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// An origin in its one spelling, `https://api.example.com` or with a port that is not the scheme's own.
pub(crate) fn checked_origin(text: &str) -> Result<String, Fault> {
    let wrong = || {
        broken(format!(
            "{:?} is no origin such as https://api.example.com",
            for_people(text)
        ))
    };
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https")
        || !bare
        || !anonymous
        || url.host_str().is_none_or(str::is_empty)
    {
        return Err(wrong());
    }
    Ok(url.origin().ascii_serialization())
}

fn broken(what: impl Into<String>) -> Fault {
    Fault::ContractBroken(what.into())
}

/// A guest's words, cut and cleaned: no control characters (NUL breaks databases, line ends forge logs).
pub(crate) fn for_people(text: &str) -> String {
    text.chars()
        .take(MAX_REASON)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
