//! Misbehaving receivers of webhooks, each with the state in which a delivery to it must end.

mod certificates;
mod heads;
mod servers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;

use self::servers::{Then, answering, nobody, reset, simple, tls};
use crate::{PATIENCE, RawServer, eventually};

pub use certificates::Certificates;
pub use heads::heads;

/// A receiver, and the state in which a delivery to it must end.
#[derive(Debug)]
pub struct Animal {
    /// Its misbehaviour in a word or two.
    pub name: &'static str,
    /// Its URL.
    pub url: String,
    /// The state of a delivery after one attempt.
    pub state: &'static str,
    /// The status that is logged.
    pub status: Option<i64>,
    /// A part of the logged error; empty for none.
    pub error: &'static str,
    /// The next attempt.
    pub next: Next,
    /// Set when the sender has left an animal that never ends by itself.
    was_left: Option<Arc<AtomicBool>>,
    _server: Option<RawServer>,
}

/// The time of the next attempt.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// There is none.
    Never,
    /// So many seconds after the last one.
    AfterSeconds(i64),
    /// At this time, which the receiver named.
    At(jiff::Timestamp),
}

impl Animal {
    /// Waits until the sender has closed its connection, where the animal would never end it.
    ///
    /// # Errors
    /// If the sender holds on.
    pub async fn left_alone(&self) -> Result<()> {
        let Some(left) = &self.was_left else {
            return Ok(());
        };
        let look = || async { left.load(Ordering::SeqCst).then_some(()) };
        eventually(&format!("the sender leaves {}", self.name), PATIENCE, look).await
    }
}

/// The state of a delivery after one attempt.
struct Fate {
    state: &'static str,
    status: Option<i64>,
    error: &'static str,
    next: Next,
}

const ACCEPTED: Fate = Fate {
    state: "success",
    status: Some(200),
    error: "",
    next: Next::Never,
};

/// The zoo. Redirects point to `trap`; failures wait for `wait_s` seconds unless the receiver asks for more.
///
/// # Errors
/// If a server cannot be started.
pub async fn all(
    trap: &RawServer,
    certificates: &Certificates,
    wait_s: i64,
) -> Result<Vec<Animal>> {
    let retry = |status, error| Fate {
        state: "pending",
        status,
        error,
        next: Next::AfterSeconds(wait_s),
    };
    let timeout = || retry(None, "no answer within 2s");
    let told = |status, error, next| Fate {
        next,
        ..retry(Some(status), error)
    };
    let trap = trap.address();
    let in_three_hours = jiff::Timestamp::now() + Duration::from_secs(3 * 3600);
    let date = in_three_hours
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let says = |head: &str| answer(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"));
    let zoo = [
        answering(
            "slow-headers",
            timeout(),
            "HTTP/1.1 200 OK\r\nx-slow: ",
            Then::Drip,
        )
        .await?,
        answering("silent", timeout(), "", Then::Nothing).await?,
        answering(
            "continues-for-ever",
            retry(None, "bytes came before the answer"),
            "",
            Then::Repeat("HTTP/1.1 100 Continue\r\n\r\n"),
        )
        .await?,
        answering(
            "a-head-of-one-line",
            retry(None, "message head"),
            "HTTP/1.1 200 OK\r\nx: ",
            Then::Repeat("yyyyyyyy"),
        )
        .await?,
        answering(
            "endless-body",
            ACCEPTED,
            "HTTP/1.1 200 OK\r\n\r\n",
            Then::Flood,
        )
        .await?,
        answering(
            "endless-body-of-a-failure",
            retry(Some(500), "500"),
            "HTTP/1.1 500 No\r\n\r\n",
            Then::Flood,
        )
        .await?,
        answering(
            "a-byte-a-second",
            ACCEPTED,
            "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
            Then::Drip,
        )
        .await?,
        answering(
            "a-byte-a-second-of-a-failure",
            retry(Some(502), "502"),
            "HTTP/1.1 502 No\r\ncontent-length: 99\r\n\r\n",
            Then::Drip,
        )
        .await?,
        answering(
            "endless-headers",
            retry(None, "message head"),
            "HTTP/1.1 200 OK\r\n",
            Then::Repeat("x: y\r\n"),
        )
        .await?,
        answering(
            "gzip-bomb",
            ACCEPTED,
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9999999999\r\n\r\n\x1f",
            Then::Flood,
        )
        .await?,
        simple(
            "moved",
            retry(Some(301), "301"),
            says(&format!("301 Moved\r\nlocation: http://{trap}/")),
        )
        .await?,
        simple(
            "found",
            retry(Some(302), "302"),
            says(&format!("302 Found\r\nlocation: http://{trap}/")),
        )
        .await?,
        simple(
            "to-the-metadata-address",
            retry(Some(307), "307"),
            says("307 Redirect\r\nlocation: http://169.254.169.254/latest/meta-data/"),
        )
        .await?,
        simple(
            "gone",
            Fate {
                state: "failed",
                status: Some(410),
                error: "410",
                next: Next::Never,
            },
            says("410 Gone"),
        )
        .await?,
        simple(
            "later-in-seconds",
            told(429, "429", Next::AfterSeconds(7_200)),
            says("429 Later\r\nretry-after: 7200"),
        )
        .await?,
        simple(
            "later-at-a-date",
            told(503, "503", Next::At(in_three_hours)),
            says(&format!("503 Later\r\nretry-after: {date}")),
        )
        .await?,
        simple(
            "later-sooner",
            told(503, "503", Next::AfterSeconds(wait_s)),
            says("503 Later\r\nretry-after: 1"),
        )
        .await?,
        simple(
            "much-later",
            told(503, "503", Next::AfterSeconds(86_400)),
            says("503 Later\r\nretry-after: 99999999999"),
        )
        .await?,
        simple(
            "later-in-nonsense",
            told(429, "429", Next::AfterSeconds(wait_s)),
            says("429 Later\r\nretry-after: soon, perhaps"),
        )
        .await?,
        simple(
            "half-close",
            retry(None, "connection closed"),
            answer(String::new()),
        )
        .await?,
        simple(
            "cut-short",
            ACCEPTED,
            answer("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfive".into()),
        )
        .await?,
        simple(
            "says-too-much",
            ACCEPTED,
            answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nmany more".into()),
        )
        .await?,
        simple(
            "two-lengths",
            retry(None, "invalid content-length"),
            answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc".into()),
        )
        .await?,
        simple(
            "no-http",
            retry(None, "invalid HTTP"),
            answer("SSH-2.0-OpenSSH_9.2p1\r\n".into()),
        )
        .await?,
        simple(
            "nul-in-the-answer",
            ACCEPTED,
            answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na\0b".into()),
        )
        .await?,
        reset(retry(None, "reset")).await?,
        nobody(retry(None, "refused")).await?,
        tls("tls", ACCEPTED, certificates.valid.clone()).await?,
        tls(
            "tls-expired",
            retry(None, "expired"),
            certificates.expired.clone(),
        )
        .await?,
    ];
    Ok(zoo.into())
}

fn animal(name: &'static str, fate: Fate, url: String, server: Option<RawServer>) -> Animal {
    let Fate {
        state,
        status,
        error,
        next,
    } = fate;
    Animal {
        name,
        url,
        state,
        status,
        error,
        next,
        was_left: None,
        _server: server,
    }
}

fn answer(text: String) -> Arc<str> {
    text.into()
}
