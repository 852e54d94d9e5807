//! The receiver's answer, and its meaning for the delivery.

use std::time::Duration;

use wharf_domain::{SendOutcome, Time, retry_after};
use wharf_egress::{
    Answer, AnswerBody, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::failpoint;

/// An answer's body is read up to here; a receiver that says more is not listened to.
const MAX_READ: usize = 64 * 1024;
/// Of it, this much is kept for the attempts log.
const MAX_KEPT: usize = 16 * 1024;

/// The result of sending.
pub(super) struct Sent {
    pub(super) outcome: SendOutcome,
    pub(super) status: Option<StatusCode>,
    pub(super) error: Option<String>,
    /// The error in the operator's words, where clients are told less.
    pub(super) cause: Option<String>,
    pub(super) response: Option<String>,
}

impl Sent {
    pub(super) fn failed(why: String) -> Self {
        Self {
            outcome: SendOutcome::Failed { retry_after: None },
            status: None,
            error: Some(why),
            cause: None,
            response: None,
        }
    }

    pub(super) fn hopeless(why: String) -> Self {
        Self {
            outcome: SendOutcome::Hopeless,
            ..Self::failed(why)
        }
    }
}

/// Judges an answer by its status line: a body that breaks off or never ends changes nothing any more.
pub(super) async fn judge(response: Answer, now: Time) -> Sent {
    failpoint::pass("response.before");
    let status = response.status();
    let retry_after = retry_after(response.headers(), now);
    let outcome = match status {
        status if status.is_success() => SendOutcome::Accepted,
        // The receiver asks for no more; asking it again would be rude and useless.
        StatusCode::GONE => SendOutcome::Gone,
        // Only these two promise that a later attempt is welcome (RFC 9110, RFC 6585).
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            SendOutcome::Failed { retry_after }
        }
        _ => SendOutcome::Failed { retry_after: None },
    };
    let error =
        (outcome != SendOutcome::Accepted).then(|| format!("the receiver answered {status}"));
    let sent = Sent {
        outcome,
        status: Some(status),
        error,
        cause: None,
        response: first_bytes(response.into_body()).await,
    };
    failpoint::pass("response.after");
    sent
}

async fn first_bytes(mut body: AnswerBody) -> Option<String> {
    let mut kept = Vec::new();
    let mut read = 0;
    // Ends at the deadline, at an error and at the end of the body alike: the body decides nothing.
    while let Ok(Some(chunk)) = body.chunk().await {
        read += chunk.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(MAX_KEPT - kept.len())]);
        if read >= MAX_READ {
            break;
        }
    }
    // Receivers answer in any encoding; the log is for people.
    (!kept.is_empty()).then(|| String::from_utf8_lossy(&kept).into_owned())
}

fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    retry_after::parse(value, || Some(now.to_system()))
}
