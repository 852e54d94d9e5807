//! What the operator of a host is told by webhooks of his own, and does about webhooks of all organizations.

mod commands;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    ADMIN_TOKEN, Answer, Backend, Host, HostBuilder, Ledger, Receiver, Request, Site, built_plugin,
    on_every_backend,
};

use self::commands::by_commands;

/// Sends a request of the operator's.
async fn admin(host: &Host, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let request = host.request(method, &format!("/admin{path}"));
    let request = request.bearer_auth(ADMIN_TOKEN);
    Answer::to(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

/// The answer of a request of the operator's that must go well.
async fn ask(host: &Host, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let answer = admin(host, method, path, body).await?;
    ensure!(
        matches!(answer.status, 200 | 202 | 204),
        "{method} {path}: {} {}",
        answer.status,
        answer.text
    );
    Ok(answer.json())
}

fn text(value: &Value) -> Result<String> {
    let text = value.as_str().with_context(|| value.to_string())?;
    Ok(text.to_owned())
}

/// Adds a webhook of the operator's; returns its id and its secret.
async fn add(host: &Host, event: &str, url: &str, shaper: &str) -> Result<(String, String)> {
    let body = json!({"event": event, "targetUrl": url, "shaper": shaper});
    let added = ask(host, "POST", "/operator-webhooks", Some(&body)).await?;
    Ok((text(&added["id"])?, text(&added["secret"])?))
}

async fn register(host: &Host, organization: &str, event: &str, url: &str) -> Result<String> {
    let body = json!({"organizationId": organization, "event": event, "targetUrl": url});
    let answer = host.post("/webhooks/register", &body).await?;
    text(&answer.get("id")).context(answer.text)
}

fn verifies(request: &Request, secret: &str) -> bool {
    let reader = standardwebhooks::Webhook::new(secret).expect("a secret");
    reader.verify(&request.body, &request.headers).is_ok()
}

fn ids(items: &Value) -> Vec<&str> {
    let items = items["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["id"].as_str()).collect()
}

async fn wait_for_event(ledger: &Ledger, kind: &str) -> Result<Value> {
    let done = format!(
        "select count(*) as n from callback_outbox where event = '{kind}' and status = 'success' having count(*) = 1"
    );
    ledger.wait_for(&done).await
}

async fn a_disabled_webhook_is_told_once(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let (ops, gone) = (Receiver::start().await?, Receiver::start().await?);
    gone.answer_status(410);
    for (event, url) in [
        ("store.disconnected", ops.url()),
        ("sync.failed", ops.url()),
    ] {
        let never = json!({"event": event, "targetUrl": url});
        let refused = admin(&host, "POST", "/operator-webhooks", Some(&never)).await?;
        ensure!(refused.status == 400, "{event} {}", refused.text);
    }
    let (own, secret) = add(&host, "endpoint.disabled", ops.url(), "standard").await?;
    let listed = ask(&host, "GET", "/operator-webhooks", None).await?;
    ensure!(ids(&listed) == [own.as_str()], "{listed}");

    // Nobody else sees it or can say its name.
    for path in [
        format!("/webhooks/{own}?organizationId=org-1"),
        format!("/webhooks/{own}?organizationId="),
        "/webhooks?organizationId=".into(),
    ] {
        let seen = host.get(&path).await?;
        ensure!(
            matches!(seen.status, 400 | 404),
            "{path}: {} {}",
            seen.status,
            seen.text
        );
    }
    let stranger = host.request("GET", "/admin/operator-webhooks");
    ensure!(Answer::to(stranger).await?.status == 401);

    let secret_path = format!("{}?token=hidden", gone.url());
    let hook = register(&host, "org-1", "sync.failed", &secret_path).await?;
    ledger.put_event("org-1", "sync.failed", "{}").await?;
    let told = ops.wait_for(1).await?.remove(0);
    ensure!(verifies(&told, &secret) && !String::from_utf8_lossy(&told.body).contains("hidden"));
    let (body, id) = (told.json(), told.header("x-event-id"));
    ensure!(body["event"] == "endpoint.disabled" && body["eventId"] == id);
    let data = &body["data"];
    ensure!(
        data["organizationId"] == "org-1"
            && data["webhookId"] == hook
            && data["event"] == "sync.failed"
            && data["receiver"] == "127.0.0.1"
            && data["reason"]
                .as_str()
                .is_some_and(|why| why.contains("410")),
        "{body}"
    );

    // It fails no more than once, and a second event for the same endpoint finds it disabled.
    ledger.put_event("org-1", "sync.failed", "{}").await?;
    wait_for_event(&ledger, "endpoint.disabled").await?;
    let disabled = ask(&host, "GET", "/webhooks?state=disabled", None).await?;
    ensure!(ids(&disabled) == [hook.as_str()], "{disabled}");
    let item = &disabled["items"][0];
    ensure!(
        item["organizationId"] == "org-1"
            && item["health"]["lastError"]
                .as_str()
                .is_some_and(|error| error.contains("410")),
        "{item}"
    );

    // All that webhooks have, the operator's have too.
    let key = "rotate-once";
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let path = format!("/admin/operator-webhooks/{own}/secret/rotate");
        let request = host.request("POST", &path).bearer_auth(ADMIN_TOKEN);
        let request = request.header("idempotency-key", key);
        let rotated = Answer::to(request.json(&json!({"overlapSeconds": 0}))).await?;
        ensure!(rotated.status == 200, "{}", rotated.text);
        secrets.push(text(&rotated.get("secret"))?);
    }
    ensure!(secrets[0] == secrets[1] && secrets[0] != secret, "once");
    ask(
        &host,
        "POST",
        &format!("/operator-webhooks/{own}/test"),
        None,
    )
    .await?;
    let test = ops.wait_for_event("webhook.test").await?;
    ensure!(verifies(&test, &secrets[0]) && !verifies(&test, &secret));
    ask(&host, "DELETE", &format!("/operator-webhooks/{own}"), None).await?;
    let listed = ask(&host, "GET", "/operator-webhooks", None).await?;
    ensure!(ids(&listed).is_empty(), "{listed}");
    let told = ops.requests();
    let told = told
        .iter()
        .filter(|one| one.json()["event"] == "endpoint.disabled");
    ensure!(told.count() == 1);
    Ok(())
}

fn quick(host: HostBuilder) -> HostBuilder {
    host.env("LEASE", "1s").env("WEBHOOK_RETRY", "1s,1s,1s")
}

/// The process dies before, and after, the commit that disables the endpoint.
async fn a_crash_loses_and_doubles_no_event(backend: Backend) -> Result<()> {
    for failpoint in ["settle.commit.before:1", "settle.commit.after:1"] {
        let site = Site::open(backend).await?;
        let (ops, gone) = (Receiver::start().await?, Receiver::start().await?);
        gone.answer_status(410);
        let mut host = quick(site.host())
            .env("WHARF_FAILPOINT", failpoint)
            .start()
            .await?;
        let (_, secret) = add(&host, "endpoint.disabled", ops.url(), "standard").await?;
        register(&host, "org-1", "sync.failed", gone.url()).await?;
        let ledger = Ledger::open(&site).await?;
        ledger.put_event("org-1", "sync.failed", "{}").await?;
        host.wait().await?;
        ensure!(ops.requests().is_empty(), "{failpoint}: it was too early");
        let _host = quick(site.host()).start().await?;
        let told = ops.wait_for(1).await?.remove(0);
        ensure!(verifies(&told, &secret), "{failpoint}");
        wait_for_event(&ledger, "endpoint.disabled").await?;
        let same = ops.requests().iter().all(|one| one.body == told.body);
        ensure!(same, "{failpoint}: another event came");
    }
    Ok(())
}

/// An endpoint of the operator's that is disabled is told to the others, and not to itself.
async fn nobody_is_told_of_himself(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let ledger = Ledger::open(host.site()).await?;
    let (gone, ops) = (Receiver::start().await?, Receiver::start().await?);
    gone.answer_status(410);
    let (own, _) = add(&host, "endpoint.disabled", gone.url(), "standard").await?;
    ask(
        &host,
        "POST",
        &format!("/operator-webhooks/{own}/test"),
        None,
    )
    .await?;
    // It is disabled by the answer to its own test; the event of that has nobody to go to.
    wait_for_event(&ledger, "endpoint.disabled").await?;
    ensure!(gone.requests().len() == 1, "{:?}", gone.requests());

    ask(
        &host,
        "POST",
        &format!("/operator-webhooks/{own}/enable"),
        None,
    )
    .await?;
    add(&host, "endpoint.disabled", ops.url(), "cloudevents").await?;
    ask(
        &host,
        "POST",
        &format!("/operator-webhooks/{own}/test"),
        None,
    )
    .await?;
    let told = ops.wait_for(1).await?.remove(0).json();
    ensure!(
        told["source"] == "/operator"
            && told["type"] == "wharf.endpoint.disabled"
            && told["subject"] == own
            && told["data"]["organizationId"] == Value::Null,
        "{told}"
    );
    ensure!(gone.requests().len() == 2);
    Ok(())
}

/// The same code under another digest: custom sections say nothing to the machine.
fn revision(component: &[u8], number: u8) -> Vec<u8> {
    [component, &[0, 3, 1, b'n', number]].concat()
}

async fn a_quarantined_plugin_is_told(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let (ops, slack) = (Receiver::start().await?, Receiver::start().await?);
    let (_, secret) = add(&host, "plugin.quarantined", ops.url(), "standard").await?;
    add(&host, "plugin.rolled_back", slack.url(), "slack").await?;
    let good = std::fs::read(built_plugin("etsy"))?;
    let plugins = host.admin();
    let mut digests = Vec::new();
    for number in 1..=2 {
        let pushed = plugins.push("etsy", &revision(&good, number), None).await?;
        ensure!(pushed.status == 200, "{}", pushed.text);
        digests.push(text(&plugins.plugin("etsy").await?["digest"])?);
    }
    let body = json!({"digest": digests[1], "reason": "it is odd"});
    plugins.change("etsy", "quarantine", body).await?;
    let told = ops.wait_for(1).await?.remove(0);
    let data = &told.json()["data"];
    ensure!(
        verifies(&told, &secret)
            && data["plugin"] == "etsy"
            && data["digest"] == digests[1].as_str()
            && data["reason"] == "it is odd"
            && data["automatic"] == false,
        "{data}"
    );
    let back = slack.wait_for(1).await?.remove(0).json();
    let details = back["blocks"][1]["text"]["text"].as_str();
    ensure!(
        back["text"] == "Plugin rolled back"
            && details.is_some_and(|details| details.contains(&digests[0])),
        "{back}"
    );

    // By hand, under a key: twice asked, once done.
    let before = text(&plugins.plugin("etsy").await?["digest"])?;
    let roll_back = || {
        let request = plugins.request("POST", "/etsy/rollback");
        Answer::to(request.header("idempotency-key", "back-1"))
    };
    let (first, again) = (roll_back().await?, roll_back().await?);
    ensure!(first.status == 200, "{}", first.text);
    ensure!(
        (again.status, &again.text) == (200, &first.text)
            && again.header("idempotent-replayed") == "true",
        "{} {}",
        again.status,
        again.text
    );
    let after = text(&plugins.plugin("etsy").await?["digest"])?;
    ensure!(after != before && first.get("digest") == after.as_str());
    slack.wait_for(2).await?;
    Ok(())
}

/// Two organizations with two dead letters each: one answers 500, the other 503.
async fn dead_letters(host: &Host, ledger: &Ledger, receivers: [&Receiver; 2]) -> Result<()> {
    for (organization, receiver) in ["org-1", "org-2"].into_iter().zip(receivers) {
        register(host, organization, "sync.failed", receiver.url()).await?;
        for _ in 0..2 {
            ledger.put_event(organization, "sync.failed", "{}").await?;
        }
    }
    let dead =
        "select count(*) as n from callback_deliveries where state = 'failed' having count(*) = 4";
    ledger.wait_for(dead).await.map(drop)
}

async fn a_filter_names_what_is_sent_again(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().env("WEBHOOK_RETRY", "1s").start().await?;
    let ledger = Ledger::open(&site).await?;
    let (one, two) = (Receiver::start().await?, Receiver::start().await?);
    one.answer_status(500);
    two.answer_status(503);
    dead_letters(&host, &ledger, [&one, &two]).await?;
    let failing = ask(&host, "GET", "/webhooks?state=failing", None).await?;
    ensure!(ids(&failing).len() == 2, "{failing}");
    for (query, number) in [
        ("", 4),
        ("?organizationId=org-1", 2),
        ("?status=503", 2),
        ("?status=5xx", 4),
        ("?status=none", 0),
        ("?error=Service%20Unavailable", 2),
        ("?event=sync.completed", 0),
        ("?until=2020-01-01T00:00:00Z", 0),
        ("?since=2999-01-01T00:00:00Z", 0),
    ] {
        let path = format!("/dead-letters{query}");
        let found = ask(&host, "GET", &path, None).await?;
        ensure!(ids(&found).len() == number, "{path}: {found}");
    }
    let first = ask(&host, "GET", "/dead-letters?limit=3", None).await?;
    let cursor = text(&first["nextCursor"])?;
    let path = format!("/dead-letters?limit=3&cursor={cursor}");
    let rest = ask(&host, "GET", &path, None).await?;
    ensure!(ids(&rest).len() == 1 && rest["nextCursor"] == Value::Null);
    ensure!(!ids(&first).contains(&ids(&rest)[0]), "{first} {rest}");

    // The body of one of them is gone.
    let theirs = ask(&host, "GET", "/dead-letters?organizationId=org-1", None).await?;
    let event = text(&theirs["items"][0]["eventId"])?;
    let gone = format!(
        "delete from callback_messages where outbox_id = {}",
        ledger.id(&event)
    );
    ledger.execute(&gone).await?;
    let sent_before = (one.requests().len(), two.requests().len());
    one.answer_status(204);
    two.answer_status(204);
    let redrive = |body: Value| {
        let host = &host;
        async move { ask(host, "POST", "/dead-letters/redrive", Some(&body)).await }
    };
    let answer = |redriven: i64, no_body: i64, dry_run: bool| {
        let skipped = json!({"noBody": no_body, "webhookDisabled": 0});
        json!({"redriven": redriven, "skipped": skipped, "dryRun": dry_run})
    };
    let all = redrive(json!({"dryRun": true})).await?;
    ensure!(all == answer(3, 1, true), "{all}");
    let unavailable = redrive(json!({"status": "503", "dryRun": true})).await?;
    ensure!(unavailable == answer(2, 0, true), "{unavailable}");
    let of_one = json!({"organizationId": "org-1", "perMinute": 6_000});
    let done = redrive(of_one.clone()).await?;
    ensure!(done == answer(1, 1, false), "{done}");
    one.wait_for(sent_before.0 + 1).await?;
    let sent = "select count(*) as n from callback_deliveries where organization_id = 'org-1' and state = 'success' having count(*) = 1";
    ledger.wait_for(sent).await?;
    // What has no body stays and is told each time.
    let again = redrive(of_one).await?;
    ensure!(again == answer(0, 1, false), "{again}");
    let client = json!({"organizationId": "org-1"});
    let client = host.post("/dead-letters/redrive", &client).await?.json();
    ensure!(client == answer(0, 1, false), "{client}");
    ensure!(
        two.requests().len() == sent_before.1,
        "the other organization is not touched"
    );
    let theirs = ask(&host, "GET", "/dead-letters?organizationId=org-2", None).await?;
    ensure!(ids(&theirs).len() == 2, "{theirs}");
    by_commands(&host, &two, sent_before.1).await
}

on_every_backend!(
    a_disabled_webhook_is_told_once,
    a_crash_loses_and_doubles_no_event,
    nobody_is_told_of_himself,
    a_quarantined_plugin_is_told,
    a_filter_names_what_is_sent_again,
);
