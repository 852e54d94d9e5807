//! Webhooks that point where they must not: refused at registration where it can be known, else when the connection is
//! made, and never connected to.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Host, Ledger, PATIENCE, RawServer, Site, eventually, on_every_backend,
};

/// One address of every network that webhooks must not reach.
const FORBIDDEN: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::1]",
    "[100::1]",
    "[2001::1]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd12:3456:789a::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "printer.localhost",
];

/// Other spellings of 127.0.0.1 and of the metadata address.
const SPELLINGS: &[&str] = &[
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7F.1",
    "127.0.0.1.",
    "\u{ff11}27.0.0.1",
    "127\u{3002}0\u{3002}0\u{3002}1",
    "%31%32%37.0.0.1",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
];

/// Ambiguous URLs: another parser might connect to their first or last part.
const TRICKS: &[&str] = &[
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1@example.com/",
    "http://example.com:80@127.0.0.1/",
    "http://user:password@example.com/",
    "http://127.0.0.1:80\\@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://[::1",
    "http://127.0.0.1 .example.com/",
    "http://exa\tmple.com/",
    "http:127.0.0.1/",
    "http:///127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "unix:/run/docker.sock",
];

async fn register(host: &Host, url: &str) -> Result<Answer> {
    let body = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": url});
    host.post("/webhooks/register", &body).await
}

/// A host that allows public addresses alone.
async fn strict_host(site: &std::sync::Arc<Site>) -> Result<Host> {
    site.host()
        .env("WEBHOOK_ALLOW_NETWORKS", "none")
        .start()
        .await
}

async fn what_can_be_known_is_refused_at_registration(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = strict_host(&site).await?;
    let webhook = register(&host, "https://example.com/hook").await?;
    let id = webhook
        .get("id")
        .as_str()
        .map(str::to_owned)
        .context(webhook.text)?;
    let hosts = FORBIDDEN.iter().chain(SPELLINGS);
    let urls = hosts.flat_map(|host| {
        [
            format!("http://{host}/"),
            format!("https://{host}:8443/a?b=c"),
        ]
    });
    for url in urls.chain(TRICKS.iter().map(|url| (*url).to_owned())) {
        let refused = register(&host, &url).await?;
        ensure!(
            refused.status == 400,
            "{url} was answered {}: {}",
            refused.status,
            refused.text
        );
        ensure!(
            refused.json()["details"][0]["path"] == "targetUrl",
            "{url}: {}",
            refused.text
        );
        let change = json!({"organizationId": "org-1", "targetUrl": url});
        let refused = Answer::to(
            host.request("PATCH", &format!("/webhooks/{id}"))
                .json(&change),
        )
        .await?;
        ensure!(
            refused.status == 400,
            "{url} was answered {}: {}",
            refused.status,
            refused.text
        );
    }
    let listed = host.get("/webhooks?organizationId=org-1").await?.json();
    ensure!(listed.as_array().map(Vec::len) == Some(1), "{listed}");
    Ok(())
}

/// The delivery of a test event after its first attempt, with the endpoint moved to this URL behind the host's back.
async fn sent_to(host: &Host, ledger: &Ledger, id: &str, url: &str) -> Result<Value> {
    let url = url.replace('\'', "''");
    let moved = format!(
        "update webhook_endpoints set target_url = '{url}' where id = {}",
        ledger.id(id)
    );
    ensure!(ledger.execute(&moved).await? == 1, "nothing was moved");
    let answer = host
        .post(
            &format!("/webhooks/{id}/test"),
            &json!({"organizationId": "org-1"}),
        )
        .await?;
    let delivery = answer
        .get("deliveryId")
        .as_str()
        .map(str::to_owned)
        .context(answer.text)?;
    let look = || async {
        let shown = host
            .get(&format!("/deliveries/{delivery}?organizationId=org-1"))
            .await
            .ok()?
            .json();
        (shown["attempt"] != 0).then_some(shown)
    };
    eventually(&format!("an attempt at {url}"), PATIENCE, look).await
}

async fn what_came_in_all_the_same_is_never_connected_to(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = strict_host(&site).await?;
    let ledger = Ledger::open(&site).await?;
    let inside = RawServer::start("127.0.0.1", |_| async { Ok(()) }).await?;
    let port = inside.address().port();
    let webhook = register(&host, "https://example.com/hook").await?;
    let id = webhook
        .get("id")
        .as_str()
        .map(str::to_owned)
        .context(webhook.text)?;
    let literals = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
    ];
    for literal in literals {
        let delivery = sent_to(&host, &ledger, &id, &format!("http://{literal}:{port}/")).await?;
        let told = format!("{literal}: {delivery}");
        ensure!(
            delivery["state"] == "failed",
            "a literal stays forbidden: {told}"
        );
        ensure!(
            delivery["lastError"]
                .as_str()
                .is_some_and(|why| why.contains("not a public one") && !why.contains(literal)),
            "{told}"
        );
        ensure!(delivery["attempts"][0]["httpStatus"].is_null(), "{told}");
        // Ten failures in a row would pause the endpoint for a while.
        let enabled = host
            .post(
                &format!("/webhooks/{id}/enable"),
                &json!({"organizationId": "org-1"}),
            )
            .await?;
        ensure!(enabled.status == 200, "{}", enabled.text);
    }
    // What a name means may change, so it is tried again.
    let delivery = sent_to(&host, &ledger, &id, &format!("http://localhost:{port}/")).await?;
    ensure!(delivery["state"] == "pending", "{delivery}");
    ensure!(
        delivery["lastError"]
            .as_str()
            .is_some_and(|why| why.contains("not a public one") && !why.contains("127.0.0.1")),
        "{delivery}"
    );
    // The operator is told which address it was, and how to allow it.
    let told = || async {
        let logged = host.logged();
        (logged.contains("127.0.0.1 of localhost is not a public address")
            && logged.contains("WEBHOOK_ALLOW_NETWORKS"))
        .then_some(())
    };
    eventually("the operator is told", PATIENCE, told).await?;
    for trick in [
        format!("http://example.com@127.0.0.1:{port}/"),
        format!("http://user@localhost:{port}/"),
    ] {
        let delivery = sent_to(&host, &ledger, &id, &trick).await?;
        ensure!(delivery["state"] == "failed", "{trick}: {delivery}");
    }
    ensure!(
        inside.connections() == 0,
        "it was connected to {} times",
        inside.connections()
    );
    Ok(())
}

on_every_backend!(
    what_can_be_known_is_refused_at_registration,
    what_came_in_all_the_same_is_never_connected_to
);
