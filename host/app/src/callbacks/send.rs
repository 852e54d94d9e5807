//! Sending one delivery: sign, post, hear the answer.

use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use wharf_domain::{NotSent, SendOutcome, TargetUrl, Time, seed_signature};
use wharf_egress::{
    Client, Guard, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use wharf_store::{
    KeyRing,
    deliveries::{Attempt, Claimed},
};

use super::{
    answer::{Sent, judge},
    host_fault::host_fault,
    threads::Threads,
};
use crate::{AppError, CallbackSettings, failpoint, trace};

/// Time beyond a send's own limit until its result is given up, should the sending threads be too busy to keep it.
const BACKSTOP: Duration = Duration::from_secs(1);

/// The sender of webhooks.
pub(crate) struct Sender {
    client: Client,
    guard: Guard,
    webhook_secret: Option<SecretString>,
    timeout: Duration,
    threads: Threads,
}

/// A request that is ready to be posted.
struct Post {
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
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
        let client = wharf_egress::webhook_client(guard.clone(), settings.per_endpoint)
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
    ) -> Result<(SendOutcome, Attempt), NotSent> {
        let began = Instant::now();
        // The limit counts from here, so that preparing is part of it.
        let sent = match self.prepare(claimed, key, now) {
            Ok(post) => self.exchange(post, now, began + self.timeout).await?,
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
        Ok((sent.outcome, attempt))
    }

    fn prepare(&self, claimed: &Claimed, key: &KeyRing, now: Time) -> Result<Post, Unprepared> {
        if !claimed.endpoint_is_active {
            return Err("the endpoint is disabled".to_owned().into());
        }
        // Parsed again: a row may have been put in by hand.
        let url = TargetUrl::parse(&claimed.target_url)
            .map_err(|why| format!("the endpoint's URL {why}"))?;
        self.guard
            // The resolver is not asked for literal addresses, so they are checked here.
            .check_literal(url.url())
            .map_err(|forbidden| forbidden.to_string())?;
        let headers = self.headers(claimed, key, now)?;
        Ok(Post {
            url: url.url().clone(),
            headers,
            body: claimed.body.clone(),
        })
    }

    /// Posts and judges the answer, on the sending threads.
    async fn exchange(
        &self,
        Post { url, headers, body }: Post,
        now: Time,
        deadline: Instant,
    ) -> Result<Sent, NotSent> {
        let request = self.client.post(url).headers(headers).body(body);
        let unanswered = format!("no answer within {:?}", self.timeout);
        let late = Sent::failed(unanswered.clone());
        // On threads of their own: a hostile receiver can keep the task that reads from it busy.
        let exchange = self.threads.spawn(async move {
            failpoint::pass("send.before");
            match tokio::time::timeout_at(deadline.into(), request.send()).await {
                Ok(Ok(response)) => Ok(judge(response, now, deadline).await),
                Ok(Err(error)) => match host_fault(&error) {
                    Some(fault) => Err(fault),
                    None => Ok(Sent::failed(causes(&error))),
                },
                Err(_) => Ok(Sent::failed(unanswered)),
            }
        });
        // The limit inside needs a free sending thread to act; this one does not.
        match tokio::time::timeout_at((deadline + BACKSTOP).into(), exchange).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(ended)) => Ok(Sent::failed(ended.to_string())),
            Err(_) => Ok(late),
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

/// The causes of a failed send. The outermost error is left out: it says only that it failed, and names the URL.
fn causes(error: &wharf_egress::Error) -> String {
    let Some(first) = std::error::Error::source(error) else {
        return error.to_string();
    };
    let mut text = first.to_string();
    let mut cause = first.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
