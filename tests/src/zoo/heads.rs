//! Receivers whose answers have odd lines in their heads. The status line decides, and `Retry-After` counts in every
//! form of the standard.

use std::time::Duration;

use anyhow::Result;

use super::{
    ACCEPTED, Animal, Certificates, Fate, Next, answer,
    servers::{simple, tls},
};

/// Lines that say nothing to a sender, each beside a 200.
fn ignored() -> [(&'static str, String); 6] {
    let cookies = |number| {
        let lines = (0..number).map(|n| format!("set-cookie: c{n}=1\r\n"));
        lines.collect::<String>()
    };
    [
        ("folded", "set-cookie: a=b;\r\n\tpath=/\r\n".into()),
        ("blank-before-the-colon", "x-a : one\r\n".into()),
        ("control-character", "set-cookie: a=b\x01c\r\n".into()),
        ("no-colon", "nonsense\r\n".into()),
        ("no-name", ": nothing\r\n".into()),
        ("a-thousand-lines", cookies(1_000)),
    ]
}

/// Waits, and the dates that they mean.
fn waits(wait_s: i64) -> Vec<(&'static str, String, Next)> {
    let in_three_hours = jiff::Timestamp::now() + Duration::from_secs(3 * 3600);
    let date = |format: &str| in_three_hours.strftime(format).to_string();
    let at = Next::At(in_three_hours);
    let day = Next::AfterSeconds(86_400);
    vec![
        ("rfc-850", date("%A, %d-%b-%y %H:%M:%S GMT"), at),
        ("asctime", date("%a %b %e %H:%M:%S %Y"), at),
        ("year-9999", "Fri, 31 Dec 9999 23:59:59 GMT".into(), day),
        ("25-digits", "9".repeat(25), day),
        ("a-fraction", "7200.0".into(), Next::AfterSeconds(7_200)),
        ("a-sign", "+600".into(), Next::AfterSeconds(wait_s)),
    ]
}

/// One receiver for each, and one whose certificate has another name.
///
/// # Errors
/// If a server cannot be started.
pub async fn heads(certificates: &Certificates, wait_s: i64) -> Result<Vec<Animal>> {
    let mut zoo = Vec::new();
    for (name, lines) in ignored() {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok");
        zoo.push(simple(name, ACCEPTED, answer(text)).await?);
    }
    for (name, value, next) in waits(wait_s) {
        let head =
            format!("HTTP/1.1 503 Later\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let fate = Fate {
            next,
            ..failed(Some(503), "503", wait_s)
        };
        zoo.push(simple(name, fate, answer(head)).await?);
    }
    let fate = failed(None, "not valid for this name", wait_s);
    zoo.push(tls("tls-of-another-name", fate, certificates.inside.clone()).await?);
    Ok(zoo)
}

const fn failed(status: Option<i64>, error: &'static str, wait_s: i64) -> Fate {
    Fate {
        state: "pending",
        status,
        error,
        next: Next::AfterSeconds(wait_s),
    }
}
