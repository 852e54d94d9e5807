//! Signatures as receivers see them: by secrets that are replaced under load, and by a key pair.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};
use wharf_tests::{Answer, Backend, Host, Receiver, Request, on_every_backend, repository, tool};

async fn register(host: &Host, url: &str, more: Value) -> Result<(String, String)> {
    let mut body = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": url});
    body.as_object_mut()
        .context("an object")?
        .extend(more.as_object().cloned().unwrap_or_default());
    let answer = host.post("/webhooks/register", &body).await?;
    let text = |name| {
        answer
            .get(name)
            .as_str()
            .map(str::to_owned)
            .with_context(|| answer.text.clone())
    };
    Ok((text("id")?, text("secret")?))
}

async fn post(host: &Host, webhook: &str, action: &str) -> Result<Answer> {
    host.post(
        &format!("/webhooks/{webhook}/{action}"),
        &json!({"organizationId": "org-1"}),
    )
    .await
}

/// As a receiver verifies: with the reference library, times within five minutes.
fn verifies(request: &Request, secret: &str) -> bool {
    let reader = standardwebhooks::Webhook::new(secret).expect("a secret");
    reader.verify(&request.body, &request.headers).is_ok()
}

/// A receiver goes over to each new secret late, shortly before the next one. Whatever it gets verifies with the one
/// that it has.
async fn a_slow_receiver_misses_nothing_while_secrets_are_rotated(backend: Backend) -> Result<()> {
    // As many as may overlap.
    const ROTATIONS: usize = 4;
    // All together are fewer than the test events that an organization may ask for in a minute.
    const BETWEEN: usize = 4;
    let host = Host::start(backend).await?;
    let receiver = Receiver::start().await?;
    let (webhook, secret) = register(&host, receiver.url(), json!({})).await?;
    let known = Arc::new(Mutex::new(secret.clone()));
    let at_hand = known.clone();
    receiver.answer_with(move |request| {
        match verifies(request, &at_hand.lock().expect("no panics")) {
            true => StatusCode::OK,
            false => StatusCode::UNAUTHORIZED,
        }
    });
    let (first, mut newest) = (secret.clone(), secret);
    let mut sent = 0;
    for _ in 0..ROTATIONS {
        newest.clone_into(&mut known.lock().expect("no panics"));
        for half in 0..BETWEEN {
            if half == BETWEEN / 2 {
                // With deliveries on their way before and after.
                let rotated = post(&host, &webhook, "secret/rotate").await?;
                newest = rotated
                    .get("secret")
                    .as_str()
                    .map(str::to_owned)
                    .context(rotated.text)?;
            }
            let answer = post(&host, &webhook, "test").await?;
            ensure!(answer.status == 202, "{}", answer.text);
            sent += 1;
        }
    }
    let requests = receiver.wait_for(sent).await?;
    ensure!(
        requests.len() == sent,
        "a refusal made {} come again",
        requests.len() - sent
    );
    let shown = host
        .get(&format!("/webhooks/{webhook}?organizationId=org-1"))
        .await?
        .json();
    ensure!(shown["health"]["consecutiveFailures"] == 0, "{shown}");
    let last = requests.last().context("a request")?;
    ensure!(verifies(last, &newest), "the newest secret signs as well");
    // One more would end an overlap before its time.
    let refused = post(&host, &webhook, "secret/rotate").await?;
    ensure!(
        (refused.status, refused.get("error").as_str()) == (409, Some("Too many secrets")),
        "{} {}",
        refused.status,
        refused.text
    );
    post(&host, &webhook, "test").await?;
    let requests = receiver.wait_for(sent + 1).await?;
    ensure!(
        verifies(&requests[sent], &first),
        "the first was promised a day"
    );
    let now = json!({"organizationId": "org-1", "overlapSeconds": 0});
    let path = format!("/webhooks/{webhook}/secret/rotate");
    ensure!(
        host.post(&path, &now).await?.status == 200,
        "without an overlap"
    );
    Ok(())
}

/// Returns true if one of the request's signatures of this scheme is by this public key.
fn verifies_with_key(request: &Request, public_key: &str) -> Result<bool> {
    let key = STANDARD.decode(public_key.strip_prefix("whpk_").context("a public key")?)?;
    let head = format!(
        "{}.{}.",
        request.header("webhook-id"),
        request.header("webhook-timestamp")
    );
    let signed = [head.as_bytes(), &request.body].concat();
    let signatures = request
        .header("webhook-signature")
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1a,"));
    let key = UnparsedPublicKey::new(&ED25519, key);
    Ok(signatures
        .filter_map(|one| STANDARD.decode(one).ok())
        .any(|one| key.verify(&signed, &one).is_ok()))
}

async fn a_key_pair_signs_where_it_is_wanted(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let receiver = Receiver::start().await?;
    let (webhook, secret) = register(&host, receiver.url(), json!({"asymmetric": true})).await?;
    let path = format!("/webhooks/{webhook}/secret?organizationId=org-1");
    let report = host.get(&path).await?.json();
    ensure!(report["secret"] == secret.as_str(), "{report}");
    let old = report["publicKey"]
        .as_str()
        .context("a public key")?
        .to_owned();
    post(&host, &webhook, "test").await?;
    let first = receiver.wait_for(1).await?.remove(0);
    ensure!(
        verifies(&first, &secret) && verifies_with_key(&first, &old)?,
        "both schemes"
    );

    let rotated = post(&host, &webhook, "secret/rotate").await?.json();
    let new = rotated["publicKey"]
        .as_str()
        .context("a public key")?
        .to_owned();
    ensure!(new != old, "the key is rotated with the secret");
    post(&host, &webhook, "test").await?;
    let second = receiver.wait_for(2).await?.remove(1);
    ensure!(
        verifies_with_key(&second, &old)? && verifies_with_key(&second, &new)?,
        "both within the overlap"
    );

    let change = json!({"organizationId": "org-1", "asymmetric": false});
    let changed = Answer::to(
        host.request("PATCH", &format!("/webhooks/{webhook}"))
            .json(&change),
    )
    .await?;
    ensure!(changed.get("asymmetric") == false, "{}", changed.text);
    ensure!(
        host.get(&path).await?.get("publicKey").is_null(),
        "no key without the scheme"
    );
    post(&host, &webhook, "test").await?;
    let third = receiver.wait_for(3).await?.remove(2);
    ensure!(
        !third.header("webhook-signature").contains("v1a,") && verifies(&third, &secret),
        "v1 alone"
    );
    let wrong = json!({"organizationId": "org-1", "event": "sync.failed", "targetUrl": receiver.url(), "asymmetric": 1});
    ensure!(
        host.post("/webhooks/register", &wrong).await?.status == 400,
        "a flag is true or false"
    );
    Ok(())
}

/// With the library that Standard Webhooks has for Python; `cargo xtask test` installs it where Python can be had, and
/// says so where not.
async fn a_receiver_in_python_verifies_what_was_sent_and_nothing_else(
    backend: Backend,
) -> Result<()> {
    let Some(python) = tool("receivers/bin/python") else {
        return Ok(());
    };
    let host = Host::start(backend).await?;
    let receiver = Receiver::start().await?;
    let (webhook, old) = register(&host, receiver.url(), json!({"asymmetric": true})).await?;
    let rotated = post(&host, &webhook, "secret/rotate").await?;
    let new = rotated
        .get("secret")
        .as_str()
        .map(str::to_owned)
        .context(rotated.text)?;
    post(&host, &webhook, "test").await?;
    let request = receiver.wait_for(1).await?.remove(0);
    let pairs = request.headers.iter();
    let pairs = pairs
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), json!(value.to_str().ok()?))));
    let headers: Value = pairs.collect::<serde_json::Map<_, _>>().into();
    let body = String::from_utf8(request.body.to_vec())?;
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    let case =
        |secret: &str, body: &str| json!({"secret": secret, "headers": headers, "body": body});
    let cases = [
        case(&old, &body),
        case(&new, &body),
        case(&other, &body),
        case(&new, &body.replace(':', ": ")),
    ];
    let mut child = Command::new(python)
        .arg(repository().join("tests/receivers/verify.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    child
        .stdin
        .take()
        .context("stdin")?
        .write_all(serde_json::to_string(&cases)?.as_bytes())
        .await?;
    let said = String::from_utf8(child.wait_with_output().await?.stdout)?;
    let refused = "No matching signature found";
    ensure!(
        said.lines().eq(["valid", "valid", refused, refused]),
        "{said}"
    );
    Ok(())
}

on_every_backend!(
    a_slow_receiver_misses_nothing_while_secrets_are_rotated,
    a_key_pair_signs_where_it_is_wanted,
    a_receiver_in_python_verifies_what_was_sent_and_nothing_else,
);
