//! Conversion between the domain's types and the contract's, with a check of everything that a guest hands out.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use wharf_domain::{
    AccessToken, Amount, Answer, Currency, Event, EventId, ExternalStoreId, Order, Receipt,
    RequestId, StoreId, Time,
};

use super::{
    bindings::{adapter_types as adapter, shaper_types as shaper},
    fault::Fault,
    text::for_people,
};

/// The longest wait that a rate limit may ask for; a marketplace that asks for more is asked again all the same.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Headers of one shaped message.
const MAX_HEADERS: usize = 32;
/// Bytes of all its headers: servers commonly refuse a head of more than 8 KiB.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Headers of a webhook that belong to the host or to HTTP itself.
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

/// The input of an adapter.
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
    /// The store's access token, if the grants may want it. The host adds it to requests; no guest ever sees it.
    pub access_token: Option<AccessToken>,
    /// The store that it is for, for the log lines of the guest; `None` if it is for none.
    pub store_id: Option<StoreId>,
    /// The request that imported the receipt, for the same lines, so that one order can be followed.
    pub request_id: Option<RequestId>,
}

/// A shaped webhook, without what the host adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// A valid media type.
    pub content_type: String,
    /// Further valid headers, none of them the host's own.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for ValidateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValidateRequest")
            .field("receipt", &self.receipt)
            .field("now", &self.now)
            // Not the access token: this text may end up in a log.
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

/// An event in the contract's own type, with its ids.
pub(crate) struct GuestEvent {
    pub(crate) event: shaper::Event,
    pub(crate) id: EventId,
    pub(crate) store_id: StoreId,
}

impl GuestEvent {
    pub(crate) fn new(event: &Event) -> Self {
        Self {
            event: shaper::Event {
                id: event.id.to_string(),
                kind: event.kind.clone(),
                timestamp: event.at.to_string(),
                organization_id: event.organization_id.to_string(),
                store_id: event.store_id.to_string(),
                data: event.data.clone(),
            },
            id: event.id,
            store_id: event.store_id,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.event.kind.len() + self.event.organization_id.len() + self.event.data.len()
    }
}

/// Checks an adapter's answer. Its own faults tell about the marketplace and are no failed call.
pub(crate) fn answer(said: Result<adapter::Verdict, adapter::Fault>) -> Result<Answer, Fault> {
    use adapter::{Fault as Said, Verdict};
    Ok(match said {
        Ok(Verdict::Accepted(order)) => Answer::Accepted(checked_order(&order)?),
        Ok(Verdict::Rejected(reason)) => Answer::Refused(for_people(&reason)),
        Err(Said::RateLimited(wait)) => Answer::RateLimited(
            // No wait at all is left to the host's backoff.
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
    // PostgreSQL takes no NUL in a text.
    if order.id.contains('\0') || !(1..=255).contains(&order.id.chars().count()) {
        return Err(Fault::broken(
            "the order's id must be 1 to 255 characters without NUL",
        ));
    }
    let amount = Amount::parse(&order.amount)
        .map_err(|why| Fault::broken(format!("the order's amount {why}")))?;
    let currency = Currency::parse(&order.currency)
        .ok()
        // Parsing takes lower case; the contract does not.
        .filter(|currency| currency.as_str() == order.currency)
        .ok_or_else(|| Fault::broken("the order's currency must be three upper-case letters"))?;
    let imported_at = Time::parse(&order.imported_at)
        // Earlier times are mistakes, such as a zero date.
        .filter(|at| at.as_micros() >= 0)
        .ok_or_else(|| Fault::broken("imported-at must be RFC 3339, 1970 or later"))?;
    Ok(Order {
        id: order.id.clone(),
        amount,
        currency,
        imported_at,
    })
}

/// Checks a shaper's message, so that nothing in it can break out of an HTTP request.
pub(crate) fn message(
    said: Result<shaper::Message, String>,
    most_bytes: usize,
) -> Result<Message, Fault> {
    let said = said.map_err(|reason| Fault::Refused(for_people(&reason)))?;
    // Headers first, the body last: each check is cheaper than the next.
    check_content_type(&said.content_type)?;
    if said.headers.len() > MAX_HEADERS {
        return Err(Fault::broken(format!("more than {MAX_HEADERS} headers")));
    }
    let header_bytes: usize = said
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if header_bytes > MAX_HEADER_BYTES {
        return Err(Fault::broken(format!(
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
    // Parameters such as `charset` may follow.
    let essence = value.split(';').next().unwrap_or_default().trim_end();
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    // Its parameters may be of any length, so the whole has a bound.
    let valid = value.len() <= 255
        && essence
            .split_once('/')
            .is_some_and(|(kind, subtype)| token(kind) && token(subtype))
        && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if valid {
        Ok(())
    } else {
        Err(Fault::broken(
            "the content type must be a media type such as application/json",
        ))
    }
}

fn check_header(name: &str, value: &str) -> Result<(), Fault> {
    let valid = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Fault::broken("a header's name is not valid"))?;
    // `HeaderName` has made it lower case.
    if OWNED_HEADERS.contains(&valid.as_str())
        || OWNED_PREFIXES
            .iter()
            .any(|prefix| valid.as_str().starts_with(prefix))
    {
        return Err(Fault::broken(format!(
            "the header {valid} belongs to the host"
        )));
    }
    // HTTP allows bytes above 127, but receivers read them in different ways.
    if HeaderValue::from_str(value).is_err() || !value.is_ascii() {
        return Err(Fault::broken(format!(
            "the value of the header {valid} is not valid"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(id: &str, amount: &str, currency: &str, imported_at: &str) -> adapter::Order {
        adapter::Order {
            id: id.into(),
            amount: amount.into(),
            currency: currency.into(),
            imported_at: imported_at.into(),
        }
    }

    const AT: &str = "2024-01-01T12:00:00.000Z";

    #[test]
    fn a_good_order_is_taken_as_it_is() {
        let taken = checked_order(&order("o-1", "99.99", "EUR", AT)).expect("an order");
        assert_eq!(
            (taken.id.as_str(), taken.amount.to_string().as_str()),
            ("o-1", "99.99")
        );
        assert_eq!(
            (
                taken.currency.as_str(),
                taken.imported_at.to_string().as_str()
            ),
            ("EUR", AT)
        );
    }

    #[test]
    fn nonsense_in_an_order_breaks_the_contract() {
        for bad in [
            order("", "1.00", "EUR", AT),
            order("a\0b", "1.00", "EUR", AT),
            order(&"x".repeat(256), "1.00", "EUR", AT),
            order("o", "-1.00", "EUR", AT),
            order("o", "1e3", "EUR", AT),
            order("o", "1.0000001", "EUR", AT),
            order("o", "NaN", "EUR", AT),
            order("o", "1.00", "eur", AT),
            order("o", "1.00", "EU", AT),
            order("o", "1.00", "EUR", "yesterday"),
            order("o", "1.00", "EUR", "-009999-01-01T00:00:00Z"),
        ] {
            assert!(
                matches!(checked_order(&bad), Err(Fault::ContractBroken(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_guests_own_faults_are_answers() {
        use adapter::Fault as Said;
        assert_eq!(
            answer(Err(Said::RateLimited(Some(7)))),
            Ok(Answer::RateLimited(Some(Duration::from_secs(7))))
        );
        let for_ever = answer(Err(Said::RateLimited(Some(u32::MAX))));
        assert_eq!(for_ever, Ok(Answer::RateLimited(Some(MAX_RETRY_AFTER))));
        assert_eq!(
            answer(Err(Said::Unauthorized("no\0".into()))),
            Ok(Answer::Unavailable("unauthorized: no ".into()))
        );
    }

    fn shaped(content_type: &str, headers: &[(&str, &str)]) -> Result<Message, Fault> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        message(
            Ok(shaper::Message {
                content_type: content_type.into(),
                headers,
                body: b"{}".to_vec(),
            }),
            1_024,
        )
    }

    #[test]
    fn messages_cannot_break_out_of_http() {
        assert!(shaped("application/json; charset=utf-8", &[("X-Shape", "round")]).is_ok());
        for (content_type, header) in [
            ("", ("x-a", "b")),
            ("json", ("x-a", "b")),
            ("text/plain\r\nx-evil: 1", ("x-a", "b")),
            ("text/plain", ("x-a\r\nx-evil", "b")),
            ("text/plain", ("", "b")),
            ("text/plain", ("x-a", "b\r\nx-evil: 1")),
            ("text/plain", ("x-a", "b\0")),
            ("text/plain", ("Content-Length", "0")),
            ("text/plain", ("Webhook-Signature", "v1,forged")),
            ("text/plain", ("X-Webhook-Signature", "forged")),
            ("text/plain", ("X-Event-Id", "forged")),
        ] {
            assert!(
                matches!(
                    shaped(content_type, &[header]),
                    Err(Fault::ContractBroken(_))
                ),
                "{content_type:?} {header:?}"
            );
        }
        let too_large = shaper::Message {
            content_type: "text/plain".into(),
            headers: vec![],
            body: vec![0; 1_025],
        };
        assert_eq!(message(Ok(too_large), 1_024), Err(Fault::OutputTooLarge));
        assert!(
            matches!(message(Err("no\n".into()), 0), Err(Fault::Refused(reason)) if reason == "no ")
        );
    }
}
