//! Every route of the document x every scope x the own and a foreign organization x no key, and keys that are none.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{ADMIN_TOKEN, Answer, Backend, Host, Ledger, PATIENCE, Site, eventually};

use super::{
    people::{Person, ask, create_key, made_up, portal, start},
    routes::{Route, Things, routes},
};

const OWN: &str = "own-org";
/// Stands in everything that the foreign organization has, and so in nothing that others may see.
const FOREIGN: &str = "foreign-4711";

const SCOPES: [&str; 12] = [
    "orders:read",
    "orders:write",
    "stores:read",
    "stores:write",
    "webhooks:read",
    "webhooks:write",
    "webhooks:secrets",
    "deliveries:read",
    "deliveries:write",
    "keys:*",
    "plugins:*",
    "operator",
];

/// Registers a store and a webhook, and waits for a delivery to it.
async fn furnish(host: &Host, organization: &str) -> Result<Things> {
    let by_admin = async |path: &str, body: Value| -> Result<Answer> {
        let answer = ask(host, "POST", path, Some(ADMIN_TOKEN), Some(&body)).await?;
        ensure!(
            answer.status < 300,
            "{path}: {} {}",
            answer.status,
            answer.text
        );
        Ok(answer)
    };
    let store = json!({"organizationId": organization, "marketplace": "etsy", "externalStoreId": organization,
        "storeName": organization, "accessToken": "token", "currency": "USD"});
    let store = by_admin("/stores/register", store).await?;
    let webhook = json!({"organizationId": organization, "event": "sync.failed",
        "targetUrl": format!("http://127.0.0.1:9/{organization}")});
    let webhook = by_admin("/webhooks/register", webhook).await?.get("id");
    let webhook = webhook.as_str().context("a webhook")?.to_owned();
    let test = json!({"organizationId": organization});
    let test = by_admin(&format!("/webhooks/{webhook}/test"), test).await?;
    let text = |answer: &Answer, name: &str| -> Result<String> {
        Ok(answer.get(name).as_str().context("a text")?.to_owned())
    };
    let delivery = text(&test, "deliveryId")?;
    let there = || async {
        let path = format!("/deliveries/{delivery}?organizationId={organization}");
        let answer = ask(host, "GET", &path, Some(ADMIN_TOKEN), None)
            .await
            .ok()?;
        (answer.status == 200).then_some(())
    };
    eventually("the delivery is there", PATIENCE, there).await?;
    Ok(Things {
        organization: organization.to_owned(),
        sync_token: text(&store, "syncToken")?,
        store: text(&store, "storeId")?,
        event: text(&test, "eventId")?,
        webhook,
        delivery,
    })
}

/// Those who may try: each scope for itself, of an organization where it can be, and of an operator.
async fn people(host: &Host) -> Result<Vec<Person>> {
    let mut people = Vec::new();
    for scope in SCOPES {
        if !["plugins:*", "operator"].contains(&scope) {
            people.push(create_key(host, Some(OWN), scope).await?);
        }
        people.push(create_key(host, None, scope).await?);
    }
    people.push(portal(host, OWN, "read").await?);
    people.push(portal(host, OWN, "care").await?);
    Ok(people)
}

/// Keys that let nobody in, and why.
async fn useless(host: &Host, site: &Site) -> Result<Vec<(&'static str, String)>> {
    let revoked = create_key(host, Some(OWN), "webhooks:read").await?;
    let path = format!("/admin/keys/{}", revoked.id);
    ask(host, "DELETE", &path, Some(ADMIN_TOKEN), None).await?;
    let expired = create_key(host, None, "operator").await?;
    let ledger = Ledger::open(site).await?;
    let (id, past) = (ledger.id(&expired.id), ledger.time(-60));
    ledger
        .execute(&format!(
            "update api_keys set expires_at = {past} where id = {id}"
        ))
        .await?;
    let mut typo = create_key(host, None, "operator").await?.key;
    typo.pop();
    // One key's id with another one's secret would be right for neither.
    let other = create_key(host, None, "operator").await?;
    Ok(vec![
        ("revoked", revoked.key),
        ("expired", expired.key),
        ("typing error", typo),
        ("made up", made_up("org")),
        ("made up", made_up("op")),
        ("made up", made_up("portal")),
        ("another kind", other.key.replace("_op_", "_org_")),
        ("no key", "the-wrong-token-of-somebody".into()),
    ])
}

/// Nothing of the foreign organization, and nothing of our own insides.
fn is_silent(answer: &Answer) -> bool {
    let headers = format!("{:?}", answer.headers);
    !answer.text.contains(FOREIGN) && !headers.contains(FOREIGN)
}

fn refused(answer: &Answer, status: u16, error: &str) -> bool {
    answer.status == status && answer.get("error") == error && is_silent(answer)
}

/// Status and body, which are all that an answer about nothing may differ by.
fn told(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.text.as_str())
}

pub(crate) async fn every_route_asks_for_its_scope(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = start(&site).await?;
    let own = furnish(&host, OWN).await?;
    let foreign = furnish(&host, FOREIGN).await?;
    let (people, useless) = (people(&host).await?, useless(&host, &site).await?);
    let before = state(&host, &foreign).await?;
    let routes = routes(&host).await?;
    ensure!(routes.len() > 30, "{} routes", routes.len());
    let nothing = Things::none(OWN);
    for route in routes.iter().filter(|route| !route.scopes.is_empty()) {
        let name = route.name();
        let nobody = route.ask(&host, None, &own, Some(OWN)).await?;
        ensure!(refused(&nobody, 401, "Unauthorized"), "{name}: {nobody:?}");
        assert_eq!(
            nobody.header("www-authenticate"),
            "Bearer realm=\"wharf\"",
            "{name}"
        );
        for (why, key) in &useless {
            let answer = route.ask(&host, Some(key), &own, Some(OWN)).await?;
            ensure!(
                refused(&answer, 401, "Unauthorized"),
                "{name} {why}: {answer:?}"
            );
            ensure!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{name} {why}"
            );
        }
        for person in &people {
            cell(&host, route, person, [&own, &foreign, &nothing])
                .await
                .with_context(|| {
                    format!("{name} by {:?} of {:?}", person.scopes, person.organization)
                })?;
        }
        let admin = route
            .ask(&host, Some(ADMIN_TOKEN), &nothing, Some(OWN))
            .await?;
        ensure!(
            ![401, 403, 500].contains(&admin.status),
            "{name} by the admin: {admin:?}"
        );
    }
    for route in routes.iter().filter(|route| route.scopes.is_empty()) {
        let is_public = ["/healthz", "/readyz", "/metrics"].contains(&route.path.as_str());
        ensure!(
            is_public || route.path.starts_with("/mock/"),
            "{} asks nobody",
            route.name()
        );
    }
    assert_eq!(
        state(&host, &foreign).await?,
        before,
        "nobody changed what is another's"
    );
    let metrics = host.get("/metrics").await?;
    ensure!(
        metrics.status == 200 && is_silent(&metrics),
        "metrics name an organization"
    );
    Ok(())
}

/// One person at one route.
async fn cell(
    host: &Host,
    route: &Route,
    person: &Person,
    [own, foreign, nothing]: [&Things; 3],
) -> Result<()> {
    let key = Some(person.key.as_str());
    let is_of_organization = person.organization.is_some();
    let named = Some(OWN);
    let answer = route.ask(host, key, nothing, named).await?;
    // Operators' routes are not for an organization, whatever its scopes.
    let may =
        person.may(&route.scopes) && !(is_of_organization && route.path.starts_with("/admin/"));
    if !may {
        ensure!(refused(&answer, 403, "Forbidden"), "{answer:?}");
        ensure!(answer.json()["details"][0]["path"] == "scope", "{answer:?}");
        let theirs = route.ask(host, key, foreign, Some(FOREIGN)).await?;
        ensure!(refused(&theirs, 403, "Forbidden"), "{theirs:?}");
        return Ok(());
    }
    ensure!(![401, 403, 500, 503].contains(&answer.status), "{answer:?}");
    ensure!(is_silent(&answer) || !is_of_organization, "{answer:?}");
    // Of a log, which nobody has here, there is nothing to find.
    if route.method == "GET" && route.names_thing() && !route.path.contains("{logId}") {
        // Whoever may look finds what is there: operators in any organization.
        let there = if is_of_organization { own } else { foreign };
        let organization = route
            .names_organization()
            .then_some(there.organization.as_str());
        let found = route.ask(host, key, there, organization).await?;
        ensure!(found.status == 200, "{found:?}");
    }
    if !is_of_organization {
        return Ok(());
    }
    if route.names_organization() {
        let left_out = route.ask(host, key, nothing, None).await?;
        assert_eq!(
            left_out.status, answer.status,
            "left out, it is filled in: {left_out:?}"
        );
        ensure!(is_silent(&left_out), "{left_out:?}");
        let theirs = route.ask(host, key, foreign, Some(FOREIGN)).await?;
        ensure!(refused(&theirs, 403, "Forbidden"), "{theirs:?}");
    }
    if route.names_thing() {
        // The same to the letter as of what is nowhere.
        let theirs = route
            .ask(
                host,
                key,
                foreign,
                named.filter(|_| route.names_organization()),
            )
            .await?;
        assert_eq!(
            told(&theirs),
            told(&answer),
            "another's is as good as nothing"
        );
        ensure!(is_silent(&theirs), "{theirs:?}");
    }
    Ok(())
}

/// What there is of an organization, as the admin sees it.
async fn state(host: &Host, things: &Things) -> Result<Vec<Value>> {
    let organization = &things.organization;
    let mut state = Vec::new();
    for path in [
        format!("/webhooks?organizationId={organization}"),
        format!(
            "/webhooks/{}/secret?organizationId={organization}",
            things.webhook
        ),
        format!("/stores/sync-status?syncToken={}", things.sync_token),
    ] {
        let answer = ask(host, "GET", &path, Some(ADMIN_TOKEN), None).await?;
        ensure!(
            answer.status == 200,
            "{path}: {} {}",
            answer.status,
            answer.text
        );
        let mut answer = answer.json();
        // Deliveries fail meanwhile, as their receiver is nobody.
        for webhook in answer.as_array_mut().into_iter().flatten() {
            webhook["health"] = Value::Null;
            webhook["updatedAt"] = Value::Null;
        }
        state.push(answer);
    }
    Ok(state)
}
