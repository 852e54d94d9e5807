//! Sending one delivery: sign, post, hear the answer.

use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tracing::info;
use wharf_domain::{NotSent, SendOutcome, TargetUrl, Time, seed_signature};
use wharf_egress::{
    Error, Guard, GuardedClient, Method, Request,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use wharf_store::{
    KeyRing,
    deliveries::{Attempt, Claimed},
};

use super::{
    answer::{Sent, judge},
    host_fault::{given_back, host_fault},
    threads::Threads,
};
use crate::{AppError, CallbackSettings, failpoint, trace};

/// Time beyond a send's own limit until its result is given up, should the sending threads be too busy to keep it.
const BACKSTOP: Duration = Duration::from_secs(1);

/// The sender of webhooks.
pub(crate) struct Sender {
    client: GuardedClient,
    guard: Guard,
    webhook_secret: Option<SecretString>,
    timeout: Duration,
    threads: Threads,
}

/// An attempt that was made.
pub(crate) struct Made {
    /// Its meaning for the delivery.
    pub(crate) outcome: SendOutcome,
    /// What is written of it.
    pub(crate) attempt: Attempt,
    /// The error in the operator's words, where clients are told less.
    pub(crate) cause: Option<String>,
}

/// The reason why nothing can be posted.
enum Unprepared {
    /// Another try would end alike.
    Hopeless(String),
    /// The host is at fault.
    NotSent(NotSent),
}

impl From<String> for Unprepared {
    fn from(why: String) -> Self {
        Self::Hopeless(why)
    }
}

impl Sender {
    pub(crate) fn new(settings: &CallbackSettings) -> Result<Self, AppError> {
        let guard = Guard::for_webhooks(settings.addresses.clone());
        // Many endpoints may share one receiver. What is above the limit is closed, and the next send connects anew.
        let client = wharf_egress::webhook_client(guard.clone(), settings.concurrency)
            .map_err(AppError::internal)?;
        let threads = Threads::start().map_err(AppError::internal)?;
        let webhook_secret = settings.webhook_secret.clone();
        Ok(Self {
            client,
            guard,
            webhook_secret,
            timeout: settings.timeout,
            threads,
        })
    }

    /// Sends a delivery once. Whatever happens is an attempt with an outcome, unless the host itself could not send.
    pub(crate) async fn send(
        &self,
        claimed: &Claimed,
        key: &KeyRing,
        now: Time,
    ) -> Result<Made, NotSent> {
        let began = Instant::now();
        // The limit counts from here, so that preparing is part of it.
        let sent = match self.prepare(claimed, key, now, began + self.timeout) {
            Ok(request) => self.exchange(claimed, request, now).await?,
            Err(Unprepared::Hopeless(why)) => Sent::hopeless(why),
            Err(Unprepared::NotSent(why)) => return Err(why),
        };
        let attempt = Attempt {
            started_at: now,
            latency: began.elapsed(),
            http_status: sent.status.map(|status| status.as_u16()),
            error: sent.error,
            response: sent.response,
        };
        Ok(Made {
            outcome: sent.outcome,
            attempt,
            cause: sent.cause,
        })
    }

    fn prepare(
        &self,
        claimed: &Claimed,
        key: &KeyRing,
        now: Time,
        deadline: Instant,
    ) -> Result<Request, Unprepared> {
        if !claimed.endpoint_is_active {
            return Err("the endpoint is disabled".to_owned().into());
        }
        // Parsed again: a row may have been put in by hand.
        let url = TargetUrl::parse(&claimed.target_url)
            .map_err(|why| format!("the endpoint's URL {why}"))?;
        self.guard
            // The resolver is not asked for literal addresses, so they are checked here.
            .check_literal(url.url())
            .map_err(|forbidden| {
                info!(endpointId = %claimed.endpoint_id, cause = %forbidden, "webhook_unanswered");
                wharf_egress::NOT_PUBLIC.to_owned()
            })?;
        let headers = self.headers(claimed, key, now)?;
        Ok(Request {
            method: Method::POST,
            url: url.url().clone(),
            headers,
            body: claimed.body.clone().into(),
            deadline,
        })
    }

    /// Posts and judges the answer, on the sending threads.
    async fn exchange(
        &self,
        claimed: &Claimed,
        request: Request,
        now: Time,
    ) -> Result<Sent, NotSent> {
        let (endpoint, given_back) = (claimed.endpoint_id, given_back(claimed));
        let (client, timeout, deadline) = (self.client.clone(), self.timeout, request.deadline);
        let lateness = self.threads.lateness();
        let late_before = lateness.sum(Instant::now());
        // On threads of their own: what strangers answer must cost nobody else a thread.
        let exchange = self.threads.spawn(async move {
            failpoint::pass("send.before");
            match client.send(request).await {
                Ok(answer) => Ok(judge(answer, now).await),
                Err(Error::TimedOut) => {
                    let late = lateness.sum(Instant::now()) - late_before;
                    unanswered(timeout, late)
                }
                Err(error) => match host_fault(&error, given_back) {
                    Some(fault) => Err(fault),
                    None => {
                        // What clients must not see: the addresses behind a name, the names in a certificate.
                        let cause = wharf_egress::in_full(&error);
                        info!(endpointId = %endpoint, cause, "webhook_unanswered");
                        Ok(Sent {
                            cause: Some(cause),
                            ..Sent::failed(wharf_egress::told(&error))
                        })
                    }
                },
            }
        });
        // The limit inside needs a free sending thread to act; this one does not.
        match tokio::time::timeout_at((deadline + BACKSTOP).into(), exchange).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(ended)) => Ok(Sent::failed(ended.to_string())),
            Err(_) => Err(NotSent::Starved),
        }
    }

    fn headers(
        &self,
        claimed: &Claimed,
        key: &KeyRing,
        now: Time,
    ) -> Result<HeaderMap, Unprepared> {
        let secrets = claimed
            .secrets(key)
            .map_err(|_| Unprepared::NotSent(NotSent::UnreadableSecret))?;
        let id = claimed.event_id.to_string();
        let mut headers = HeaderMap::new();
        let mut set = |name: &str, value: &str| set_header(&mut headers, name, value);
        // The shaper's own first, so that it cannot replace ours.
        for (name, value) in &claimed.headers {
            set(name, value)?;
        }
        set(CONTENT_TYPE.as_str(), &claimed.content_type)?;
        // The original's header. Receivers drop duplicates by it, so every attempt sends the same id.
        set("x-event-id", &id)?;
        set("webhook-id", &id)?;
        set("webhook-timestamp", &now.as_seconds().to_string())?;
        set(
            "webhook-signature",
            &secrets.signature(claimed.event_id, now, &claimed.body),
        )?;
        if let Some(traceparent) = trace::traceparent() {
            set(trace::TRACEPARENT, &traceparent)?;
        }
        // Receivers of the original service check this one.
        if let Some(secret) = &self.webhook_secret {
            set(
                "x-webhook-signature",
                &seed_signature(secret.expose_secret().as_bytes(), &claimed.body),
            )?;
        }
        Ok(headers)
    }
}

fn set_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let header = HeaderName::try_from(name)
        .ok()
        .zip(HeaderValue::try_from(value).ok());
    // Names and values of shapers are a stranger's: one that HTTP forbids must not end the worker.
    let (name, value) = header.ok_or_else(|| format!("header {name} cannot be sent"))?;
    headers.insert(name, value);
    Ok(())
}

/// A time-out, with the time that the host's own threads were late meanwhile. Where they were late for half of it, the
/// answer may have been there and nobody heard it.
fn unanswered(timeout: Duration, late: Duration) -> Result<Sent, NotSent> {
    if late >= timeout / 2 {
        return Err(NotSent::Starved);
    }
    Ok(Sent::failed(format!("no answer within {timeout:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_that_nobody_could_hear_is_not_the_receivers() {
        let timeout = Duration::from_secs(4);
        let sent = unanswered(timeout, Duration::from_millis(1_999)).expect("it counts");
        assert_eq!(sent.error.as_deref(), Some("no answer within 4s"));
        let starved = unanswered(timeout, Duration::from_secs(2));
        assert_eq!(starved.err(), Some(NotSent::Starved));
    }
}
