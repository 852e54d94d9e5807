//! Care for stores over the API: lists, holds that every process keeps within two seconds, and removal that any process
//! finishes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    ADMIN_TOKEN, Answer, Backend, Host, Ledger, PATIENCE, Shop, Signal, Site, eventually,
    on_every_backend,
};

/// What the contract allows: a hold is seen by every process within this.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

async fn admin(host: &Host, method: &str, path: &str, body: Option<Value>) -> Result<Answer> {
    let request = host.request(method, path).bearer_auth(ADMIN_TOKEN);
    Answer::to(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

async fn act(host: &Host, shop: &Shop, what: &str, organization: &str) -> Result<Answer> {
    let path = format!("/stores/{}/{what}", shop.store_id);
    host.post(&path, &json!({"organizationId": organization}))
        .await
}

async fn shown(host: &Host, shop: &Shop) -> Result<Value> {
    let answer = host
        .get(&format!("/stores/{}?organizationId=org-1", shop.store_id))
        .await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(answer.json())
}

async fn stores_are_listed_and_shown(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let other = Shop::open(&host, "org-1", "shopify").await?;
    let foreign = Shop::open(&host, "org-2", "etsy").await?;
    shop.import(&host, "order-101").await?;
    shop.import(&host, "order-102").await?;
    let ids = |answer: &Answer| -> Vec<String> {
        let items = answer.get("items");
        let ids = items.as_array().into_iter().flatten();
        ids.map(|store| store["id"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let first = host.get("/stores?organizationId=org-1&limit=1").await?;
    assert_eq!(ids(&first), [other.store_id.clone()], "the newest first");
    let next = first.get("nextCursor");
    let next = next.as_str().context("a cursor")?;
    let rest = format!("/stores?organizationId=org-1&limit=1&cursor={next}");
    assert_eq!(ids(&host.get(&rest).await?), [shop.store_id.clone()]);
    for (query, expected) in [
        ("organizationId=org-1&marketplace=etsy", 1),
        ("organizationId=org-1&syncStatus=partial", 1),
        ("organizationId=org-1&syncStatus=pending", 1),
        ("organizationId=org-1&externalStoreId=ext-100", 2),
        ("organizationId=org-1&externalStoreId=ext", 0),
        ("organizationId=org-1&held=true", 0),
        ("organizationId=nobody", 0),
    ] {
        let answer = host.get(&format!("/stores?{query}")).await?;
        assert_eq!(ids(&answer).len(), expected, "{query}: {}", answer.text);
    }
    assert_eq!(host.get("/stores").await?.status, 400);
    let all = admin(&host, "GET", "/admin/stores?externalStoreId=ext-100", None).await?;
    assert_eq!(ids(&all).len(), 3, "{}", all.text);
    assert_eq!(host.get("/admin/stores").await?.status, 401);

    let store = shown(&host, &shop).await?;
    assert_eq!(store["receipts"], json!({"number": 2, "isAtLeast": false}));
    assert_eq!(
        (&store["importedOrders"], &store["open"]["failed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(store["faults"][0]["receipt"], "order-102");
    let path = format!("/stores/{}?organizationId=org-1", foreign.store_id);
    assert_eq!(host.get(&path).await?.status, 404);
    let path = format!("/admin/stores/{}", foreign.store_id);
    let foreign_shown = admin(&host, "GET", &path, None).await?;
    assert_eq!(foreign_shown.get("organizationId"), "org-2");
    // Neither token is told to anybody.
    for text in [all.text, foreign_shown.text, store.to_string()] {
        for secret in [&shop.sync_token, &foreign.sync_token, "token-abc"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    Ok(())
}

/// Waits until an import of a new receipt is answered so; returns how long it took.
async fn until_import(host: &Host, shop: &Shop, status: u16) -> Result<Duration> {
    let began = Instant::now();
    let answered = || async {
        let receipt = format!("order-{}", began.elapsed().as_micros());
        let answer = shop.try_import(host, &receipt).await.ok()?;
        (answer.status == status).then_some(())
    };
    eventually(
        &format!("an import is answered {status}"),
        PATIENCE,
        answered,
    )
    .await?;
    Ok(began.elapsed())
}

async fn a_held_store_is_asked_nothing(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let host = site.host().start().await?;
    // The embedded database belongs to one process.
    let second = match backend {
        Backend::Postgres => Some(site.host().role("api").start().await?),
        Backend::Embedded => None,
    };
    let elsewhere = second.as_ref().unwrap_or(&host);
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let free = Shop::open(&host, "org-1", "shopify").await?;
    let ledger = Ledger::open(&site).await?;
    let imported = shop.import(&host, "order-101").await?;
    shop.import(&host, "order-102").await?;
    let before = shop.status(&host).await?;

    let held = act(&host, &shop, "hold", "org-1").await?;
    assert_eq!((held.status, held.get("isHeld")), (200, json!(true)));
    let began = Instant::now();
    let here = shop.try_import(&host, "order-now").await?;
    assert_eq!(
        (here.status, here.get("error")),
        (409, json!("Store on hold"))
    );
    until_import(elsewhere, &shop, 409).await?;
    ensure!(began.elapsed() < SEEN_WITHIN, "{:?}", began.elapsed());
    assert_eq!(
        shop.import(elsewhere, "order-101").await?,
        imported,
        "what is known is answered"
    );
    assert_eq!(free.import(elsewhere, "order-101").await?["success"], true);
    shop.request_sync(elsewhere).await?;
    let put_off =
        "select cast(attempt as text) as attempt, cast(fence as text) as fence from sync_jobs
        where held_at is not null and state = 'queued'";
    let job = ledger.wait_for(put_off).await?;
    assert_eq!(job["attempt"], "0", "no attempt is burnt");
    let events = "select count(*) from callback_outbox";
    assert_eq!(ledger.number(events).await?, 0, "no run is told of");
    assert_eq!(shop.status(&host).await?, before);
    assert_eq!(shown(&host, &shop).await?["isHeld"], true);
    let metrics = host.get("/metrics").await?.text;
    ensure!(
        metrics.contains(r#"wharf_holds{what="store"} 1"#),
        "{metrics}"
    );

    // An operator's hold is his to end, and so is the organization's.
    let marketplace = json!({"what": "marketplace", "name": "etsy", "reason": "it is down"});
    assert_eq!(
        admin(&host, "POST", "/admin/holds", Some(marketplace.clone()))
            .await?
            .status,
        200
    );
    let resumed = act(&host, &shop, "resume", "org-1").await?;
    assert_eq!(resumed.get("isHeld"), true);
    assert_eq!(resumed.get("holds")[0]["reason"], "it is down");
    assert_eq!(shop.try_import(&host, "order-now").await?.status, 409);
    assert_eq!(act(&host, &shop, "hold", "stranger").await?.status, 404);
    let ended = admin(
        &host,
        "POST",
        "/admin/holds/resume",
        Some(marketplace.clone()),
    )
    .await?;
    assert_eq!((ended.status, ended.get("ended")), (200, json!(true)));
    let again = admin(&host, "POST", "/admin/holds/resume", Some(marketplace)).await?;
    assert_eq!((again.status, again.get("ended")), (200, json!(false)));
    let began = Instant::now();
    until_import(elsewhere, &shop, 200).await?;
    ensure!(began.elapsed() < SEEN_WITHIN, "{:?}", began.elapsed());
    // What waited runs now, and not when it would have been looked at again.
    let ended = "select event from callback_outbox where event <> 'sync.started'";
    ledger.wait_for(ended).await?;
    Ok(())
}

/// What is wrong with a hold is said, and an organization may be held before it has any store.
async fn refusals_of_holds_are_clear(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    for (body, path) in [
        (json!({"what": "planet", "name": "mars"}), "what"),
        (json!({"what": "store", "name": "no-id"}), "name"),
        (json!({"what": "marketplace", "name": "No Name"}), "name"),
        (json!({"what": "organization"}), "name"),
    ] {
        let answer = admin(&host, "POST", "/admin/holds", Some(body)).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (400, json!("Validation error"))
        );
        assert_eq!(answer.get("details")[0]["path"], path, "{}", answer.text);
    }
    let unknown = json!({"what": "store", "name": "0190a5e4-7b1c-7def-8abc-0123456789ab"});
    assert_eq!(
        admin(&host, "POST", "/admin/holds", Some(unknown))
            .await?
            .status,
        404
    );
    let organization = json!({"what": "organization", "name": "org-1"});
    let placed = admin(&host, "POST", "/admin/holds", Some(organization)).await?;
    let listed = admin(&host, "GET", "/admin/holds?what=organization", None).await?;
    assert_eq!(listed.get("items")[0], placed.json());
    assert_eq!(placed.get("side"), "operator");
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    assert_eq!(shop.try_import(&host, "order-1").await?.status, 409);
    Ok(())
}

/// Whoever ends a hold is killed before it wakes what waited. It does not wait for ten minutes all the same.
async fn what_waited_wakes_without_whoever_resumed_it(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let failpoint = ("WHARF_FAILPOINT", "resume.commit.after:1");
    let mut host = site.host().env(failpoint.0, failpoint.1).start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let ledger = Ledger::open(&site).await?;
    shop.import(&host, "order-102").await?;
    act(&host, &shop, "hold", "org-1").await?;
    shop.request_sync(&host).await?;
    let put_off = "select state from sync_jobs where held_at is not null";
    ledger.wait_for(put_off).await?;
    ensure!(
        act(&host, &shop, "resume", "org-1").await.is_err(),
        "it was killed"
    );
    host.wait().await?;
    assert_eq!(ledger.number("select count(*) from holds").await?, 0);
    ledger.wait_for(put_off).await?;
    let _next = site.host().start().await?;
    let ended = "select event from callback_outbox where event <> 'sync.started'";
    ledger.wait_for(ended).await?;
    Ok(())
}

/// A hold comes in the middle of a run: what was asked is written, nothing more is asked, and the same run goes on later. By
/// a worker that slept longer than it may believe its copy of the holds.
#[test]
fn a_run_stops_where_it_is() -> Result<()> {
    wharf_tests::run(async {
        const SLEEPS: Duration = Duration::from_secs(6);
        let site = Site::open(Backend::Postgres).await?;
        let api = site.host().role("api").start().await?;
        let shop = Shop::open(&api, "org-1", "etsy").await?;
        let ledger = Ledger::open(&site).await?;
        fill(&ledger, &shop, 5, "pending").await?;
        let worker = site.host().role("sync-worker").env("SYNC_CHUNK_SIZE", "1");
        let worker = worker
            .env("WHARF_FAILPOINT", "sync.commit.after:1:stop")
            .spawn()?;
        shop.request_sync(&api).await?;
        let job = |wanted: &str| {
            format!(
                "select cast(processed as text) as processed from sync_jobs where run_id is not null and {wanted}"
            )
        };
        ledger.wait_for(&job("processed = 1")).await?;
        let slept = Instant::now();
        act(&api, &shop, "hold", "org-1").await?;
        let is_old = || async { (slept.elapsed() > SLEEPS).then_some(()) };
        eventually("its copy is old", PATIENCE, is_old).await?;
        worker.signal(Signal::CONT)?;
        let put_off = ledger.wait_for(&job("held_at is not null")).await?;
        assert_eq!(put_off["processed"], "1");
        let held = shown(&api, &shop).await?;
        assert_eq!(held["job"]["run"]["processedCount"], 1, "{held}");
        assert_eq!(
            (&held["job"]["attempt"], &held["due"]["number"]),
            (&json!(0), &json!(4))
        );
        act(&api, &shop, "resume", "org-1").await?;
        ledger
            .wait_for("select state from sync_jobs where state = 'idle'")
            .await?;
        let started = "select count(*) from callback_outbox where event = 'sync.started'";
        assert_eq!(ledger.number(started).await?, 1, "one run");
        let ended = shown(&api, &shop).await?;
        assert_eq!(ended["runs"][0]["processedCount"], 5, "{ended}");
        Ok(())
    })
}

/// Puts so many receipts of this status into a store, past the host.
async fn fill(ledger: &Ledger, shop: &Shop, receipts: u32, status: &str) -> Result<()> {
    let (id, random) = (ledger.id(&shop.store_id), ledger.random_id());
    let at = ledger.time(0);
    ledger
        .execute(&format!(
            "insert into sync_logs (id, store_id, receipt, status, created_at, updated_at)
            with recursive series (n) as (select 1 union all select n + 1 from series where n < {receipts})
            select {random}, {id}, 'filled-' || n, '{status}', {at}, {at} from series"
        ))
        .await
        .map(drop)
}

/// Every table with a store's id in it, but for the outbox: events are promises, and stay.
async fn rows_of(ledger: &Ledger, backend: Backend, shop: &Shop) -> Result<Vec<(String, i64)>> {
    let tables = match backend {
        Backend::Postgres => {
            "select table_name as name from information_schema.columns
             where table_schema = current_schema() and column_name = 'store_id'"
        }
        Backend::Embedded => {
            "select m.name as name from sqlite_schema m join pragma_table_info(m.name) c
             where m.type = 'table' and c.name = 'store_id'"
        }
    };
    let id = ledger.id(&shop.store_id);
    let mut found = vec![(
        "stores".to_owned(),
        ledger
            .number(&format!("select count(*) from stores where id = {id}"))
            .await?,
    )];
    for table in ledger.rows(tables).await? {
        let table = table["name"].as_str().context("a name")?.to_owned();
        if table != "callback_outbox" {
            let count = format!("select count(*) from {table} where store_id = {id}");
            found.push((table, ledger.number(&count).await?));
        }
    }
    Ok(found)
}

/// The process that removes a store is killed at each place where it can be, and another finishes.
async fn a_removal_is_finished_by_whoever_lives(backend: Backend) -> Result<()> {
    for (failpoint, left) in [
        ("removal.hide.after:1", 2_500),
        ("removal.page.before:2", 1_500),
        ("removal.page.after:2", 500),
        ("removal.store.before:1", 0),
    ] {
        removal_survives(backend, failpoint, left)
            .await
            .context(failpoint)?;
    }
    Ok(())
}

async fn removal_survives(backend: Backend, failpoint: &str, left: i64) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site
        .host()
        .env("WHARF_FAILPOINT", failpoint)
        .start()
        .await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let bystander = Shop::open(&host, "org-2", "etsy").await?;
    let ledger = Ledger::open(&site).await?;
    let imported = bystander.import(&host, "order-101").await?;
    fill(&ledger, &shop, 2_500, "success").await?;
    shop.request_sync(&host).await?;
    act(&host, &shop, "hold", "org-1").await?;
    let path = format!("/stores/{}?organizationId=org-1", shop.store_id);
    let remove = |path: String| Answer::to(host.request("DELETE", &path));
    let rehearsed = remove(format!("{path}&dryRun=true")).await?;
    assert_eq!(
        (rehearsed.status, rehearsed.get("dryRun")),
        (200, json!(true))
    );
    assert_eq!(rehearsed.get("receipts")["number"], 2_500);
    assert_eq!(
        shop.try_import(&host, "filled-1").await?.status,
        200,
        "nothing was removed"
    );
    let foreign = format!("/stores/{}?organizationId=org-2", shop.store_id);
    assert_eq!(remove(foreign).await?.status, 404);
    // It may die before it answers.
    if let Ok(answer) = remove(path.clone()).await {
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    let status = host.wait().await?;
    ensure!(!status.success(), "it was killed");
    let there = ledger
        .number(&format!(
            "select count(*) from sync_logs where store_id = {}",
            ledger.id(&shop.store_id)
        ))
        .await?;
    ensure!(there <= left, "{there} receipts are left");

    let host = site.host().start().await?;
    // From the first moment on nobody finds it, however many of its rows are left.
    for (answer, what) in [
        (shop.try_import(&host, "filled-1").await?, "import"),
        (
            host.post("/stores/sync", &json!({"syncToken": shop.sync_token}))
                .await?,
            "sync",
        ),
        (host.get(&path).await?, "show"),
        (act(&host, &shop, "hold", "org-1").await?, "hold"),
    ] {
        assert_eq!(answer.status, 404, "{what}: {}", answer.text);
    }
    assert_eq!(
        host.get("/stores?organizationId=org-1").await?.get("items"),
        json!([])
    );
    let gone = || async {
        let rows = rows_of(&ledger, backend, &shop).await.ok()?;
        rows.iter().all(|(_, number)| *number == 0).then_some(())
    };
    eventually("nothing of it is left", PATIENCE, gone).await?;
    assert_eq!(bystander.import(&host, "order-101").await?, imported);
    let new = Shop::open(&host, "org-1", "etsy").await?;
    ensure!(new.store_id != shop.store_id && new.sync_token != shop.sync_token);
    assert_eq!(shown(&host, &new).await?["receipts"]["number"], 0);
    Ok(())
}

/// While its rows go, the key of a store is taken.
async fn a_store_that_is_being_removed_is_not_registered(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    // No scheduler: its rows stay.
    let host = site.host().role("api").start().await;
    let host = match backend {
        Backend::Postgres => host?,
        // One process has all roles; the scheduler is kept busy by the row of another store's removal.
        Backend::Embedded => return Ok(()),
    };
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let path = format!("/stores/{}?organizationId=org-1", shop.store_id);
    let removed = Answer::to(host.request("DELETE", &path)).await?;
    assert_eq!(removed.status, 202, "{}", removed.text);
    let again = host
        .post("/stores/register", &Shop::registration("org-1", "etsy"))
        .await?;
    assert_eq!(
        (
            again.status,
            again.get("error"),
            again.header("retry-after")
        ),
        (409, json!("Store is being removed"), "1")
    );
    let _scheduler = site.host().start().await?;
    let registered = || async { Shop::open(&host, "org-1", "etsy").await.ok() };
    let new = eventually("it is registered anew", PATIENCE, registered).await?;
    ensure!(new.store_id != shop.store_id);
    Ok(())
}

/// Tokens of a release before stand in the clear until the keys are resealed; nobody notices but readers of the database.
async fn tokens_are_hidden_while_the_host_works(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let mut host = site.host().start().await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    let ledger = Ledger::open(&site).await?;
    let rows = async || -> Result<String> {
        let rows = ledger.rows("select * from stores").await?;
        Ok(Value::from(rows).to_string())
    };
    let is_told = |rows: &str| rows.contains(&shop.sync_token);
    ensure!(!is_told(&rows().await?), "a new database tells no token");
    ensure!(host.stop().await?.success());
    let token = ledger.id(&shop.sync_token);
    for change in [
        format!("update stores set sync_token = {token}, sync_token_sealed = null"),
        "delete from _sqlx_migrations where version = 1000015".to_owned(),
    ] {
        assert_eq!(ledger.execute(&change).await?, 1);
    }
    let host = site.host().start().await?;
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    ensure!(is_told(&rows().await?));
    let keys = async |what: &str| -> Result<Value> {
        let (status, printed) = site.host().command(&["keys", what, "--json"]).run().await?;
        ensure!(status.success(), "{printed}");
        Ok(serde_json::from_str(&printed)?)
    };
    assert_eq!(keys("status").await?["tokensInClear"], 1);
    assert_eq!(keys("reseal").await?["resealedRows"], 1);
    assert_eq!(keys("reseal").await?["resealedRows"], 0);
    ensure!(!is_told(&rows().await?), "hidden now");
    assert_eq!(shop.import(&host, "order-101").await?["success"], true);
    assert_eq!(shop.import(&host, "order-103").await?["success"], true);
    assert_eq!(Shop::open(&host, "org-1", "etsy").await?, shop);
    shop.status(&host).await?;
    let digest = ledger.row("select sync_token from stores").await?;
    let stolen = Shop {
        sync_token: digest["sync_token"].as_str().context("an id")?.to_owned(),
        ..shop
    };
    assert_eq!(stolen.try_import(&host, "order-101").await?.status, 404);
    Ok(())
}

/// `wharf store`, as operators type it.
async fn operators_care_for_stores(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let shop = Shop::open(&host, "org-1", "etsy").await?;
    shop.import(&host, "order-102").await?;
    let wharf = async |words: &[&str]| {
        let command = host.site().host().command(&[&["store"], words].concat());
        command.env("BASE_URL", host.base_url()).run().await
    };
    let id = shop.store_id.as_str();
    for (words, said) in [
        (&["list", "--organization", "org-1"][..], id),
        (
            &["list", "--marketplace", "etsy", "--status", "failed"],
            "ext-100",
        ),
        (&["list", "--held", "true"], "ORGANIZATION"),
        (&["show", id], "order-102"),
        (
            &["hold", "--marketplace", "etsy", "--reason", "it is down"],
            "marketplace etsy is held",
        ),
        (&["show", id], "it is down"),
        (&["holds"], "it is down"),
        (
            &["resume", "--marketplace", "etsy"],
            "is not held by an operator any more",
        ),
        (&["hold", id], "is held since"),
        (&["resume", id], "is not held by an operator any more"),
        (&["resume", id], "was not held by an operator"),
    ] {
        let (status, printed) = wharf(words).await?;
        ensure!(
            status.success() && printed.contains(said),
            "{words:?}: {printed}"
        );
        ensure!(!printed.contains(&shop.sync_token), "{printed}");
    }
    let (status, printed) = wharf(&["list", "--json", "--external-id", "ext-100"]).await?;
    ensure!(status.success(), "{printed}");
    let listed: Value = serde_json::from_str(&printed)?;
    assert_eq!(listed["items"][0]["id"], id);
    let (status, printed) = wharf(&["remove", id]).await?;
    ensure!(!status.success() && printed.contains("--yes"), "{printed}");
    assert_eq!(
        shop.status(&host).await?["syncStatus"],
        "failed",
        "it is there"
    );
    let (status, printed) = wharf(&["remove", id, "--yes"]).await?;
    ensure!(
        status.success() && printed.contains("1 receipts"),
        "{printed}"
    );
    let (status, printed) = wharf(&["show", id]).await?;
    ensure!(
        !status.success() && printed.contains("Store not found"),
        "{printed}"
    );
    Ok(())
}

on_every_backend!(
    operators_care_for_stores,
    tokens_are_hidden_while_the_host_works,
    stores_are_listed_and_shown,
    a_held_store_is_asked_nothing,
    refusals_of_holds_are_clear,
    what_waited_wakes_without_whoever_resumed_it,
    a_removal_is_finished_by_whoever_lives,
    a_store_that_is_being_removed_is_not_registered,
);
