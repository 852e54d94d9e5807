//! The audit after a run: every promise of the system against the database and the receiver.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    Host, Ledger, Request, Site, Traffic,
    traffic::{Seen, lock},
};

/// The figures of an audit that found nothing wrong.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// Receipts that a client was answered with 200.
    pub promised: usize,
    /// Logs in the database.
    pub logs: usize,
    /// Runs that began and ended.
    pub runs: usize,
    /// Deliveries in the database, each accepted by the receiver.
    pub deliveries: usize,
    /// Webhooks that the receiver accepted more than once.
    pub duplicates: usize,
    /// Webhooks that the receiver got in all.
    pub received: usize,
    /// Answers 503, and connections that broke.
    pub troubles: (u64, u64),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            promised,
            logs,
            runs,
            deliveries,
            duplicates,
            received,
            troubles: (refused, broken),
        } = self;
        write!(
            f,
            "{promised} imports promised, {logs} logs, {runs} runs, {deliveries} deliveries, {received} webhooks received \
             ({duplicates} duplicates), {refused} answers 503, {broken} broken connections: nothing lost"
        )
    }
}

impl Traffic {
    /// Holds everything that was promised against the database and the receiver. Call it when the load has settled.
    ///
    /// # Errors
    /// Names the first thing that is not as promised.
    pub async fn audit(&self) -> Result<Account> {
        let wrong = lock(&self.inner().wrong).clone();
        ensure!(
            wrong.is_empty(),
            "{} wrong answers, such as {}",
            wrong.len(),
            wrong[0]
        );
        let logs = self.logs_keep_their_promises().await?;
        self.counters_are_sums().await?;
        let runs = self.runs_began_and_ended().await?;
        let received = self.inner().receiver.requests();
        self.webhooks_are_genuine(&received)?;
        let (deliveries, duplicates) = self.events_arrived(&received).await?;
        let promised = lock(&self.inner().promises).len();
        let (received, troubles) = (received.len(), self.troubles());
        Ok(Account {
            promised,
            logs,
            runs,
            deliveries,
            duplicates,
            received,
            troubles,
        })
    }

    /// The site.
    pub fn site(&self) -> &Arc<Site> {
        &self.inner().site
    }

    /// The signing secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.inner().secrets.values().map(String::as_str)
    }

    /// What was promised until now, by store and receipt.
    pub fn promises(&self) -> BTreeMap<(String, String), Value> {
        lock(&self.inner().promises).clone()
    }

    /// The same account at the site that all has moved to. The load must have ended.
    ///
    /// # Errors
    /// If the site's database is not there.
    pub async fn moved(self, site: Arc<Site>) -> Result<Self> {
        let (ledger, promises) = (Ledger::open(&site).await?, self.promises());
        self.restored(site, ledger, promises)
    }

    /// The account of an earlier time, with the promises of then, over a database that was restored.
    ///
    /// # Errors
    /// If the load has not ended.
    pub fn restored(
        self,
        site: Arc<Site>,
        ledger: Ledger,
        promises: BTreeMap<(String, String), Value>,
    ) -> Result<Self> {
        let mut inner = Arc::into_inner(self.0).context("the load has not ended")?;
        (inner.site, inner.ledger, inner.promises) = (site, ledger, Mutex::new(promises));
        Ok(Self(Arc::new(inner)))
    }

    /// Holds the promises against a database alone that was restored: of what came after its backup, receivers know more.
    /// Returns how many logs it has.
    ///
    /// # Errors
    /// As [`audit`](Self::audit).
    pub async fn audit_ledger(&self) -> Result<usize> {
        let logs = self.logs_keep_their_promises().await?;
        self.counters_are_sums().await?;
        self.runs_began_and_ended().await?;
        Ok(logs)
    }

    /// Imports once more what was promised as a success, and holds the answers against the first ones.
    ///
    /// # Errors
    /// If one differs.
    pub async fn repeat_promises(&self, host: &Host) -> Result<()> {
        for ((store, receipt), promised) in self.promises() {
            let shop = self.shops().iter().find(|shop| shop.store_id == store);
            let token = &shop.context("a store of ours")?.sync_token;
            if promised["success"] == true {
                let import = json!({"syncToken": token, "receipt": receipt});
                let answer = host.post("/orders/import", &import).await?;
                ensure!(
                    answer.json() == promised,
                    "{receipt} was {promised} and is {}",
                    answer.text
                );
            }
        }
        Ok(())
    }

    async fn logs_keep_their_promises(&self) -> Result<usize> {
        let select = format!(
            "select id, store_id, receipt, status, attempt, order_id from sync_logs where store_id in ({})",
            self.stores()
        );
        let rows = self.inner().ledger.rows(&select).await?;
        let mut by_key = HashMap::new();
        for row in &rows {
            by_key.insert((text(row, "store_id"), text(row, "receipt")), row);
        }
        for (key, answer) in lock(&self.inner().promises).iter() {
            let row = by_key
                .get(key)
                .with_context(|| format!("the promised import {key:?} is lost"))?;
            if answer["success"] == true {
                ensure!(
                    row["status"] == "success",
                    "{key:?} was {answer} and is {row}"
                );
                ensure!(
                    row["order_id"] == answer["orderId"],
                    "{key:?} was {answer} and is {row}"
                );
            }
        }
        let Seen { logs, .. } = &mut *lock(&self.inner().seen);
        never_less(logs, &rows, "status", "success")?;
        Ok(rows.len())
    }

    async fn counters_are_sums(&self) -> Result<()> {
        let ours = &self.inner().organizations;
        let counters = format!(
            "select s.id, s.imported_orders, s.rate_limited_count, s.sync_status,
                (select count(*) from sync_logs l where l.store_id = s.id and l.status = 'success'
                    and l.duplicate_of is null) as imported,
                (select count(*) from sync_logs l where l.store_id = s.id and l.status = 'rate_limited') as limited
            from stores s where s.organization_id in ({ours})"
        );
        for row in self.inner().ledger.rows(&counters).await? {
            ensure!(
                row["imported_orders"] == row["imported"],
                "imported_orders is no sum: {row}"
            );
            ensure!(
                row["rate_limited_count"] == row["limited"],
                "rate_limited_count is no sum: {row}"
            );
            let latest = format!(
                "select status from sync_logs where store_id = {} order by created_at desc, id desc limit 20",
                self.inner().ledger.id(&text(&row, "id"))
            );
            let latest = self.inner().ledger.rows(&latest).await?;
            let status = status_by_the_rule(&latest);
            ensure!(
                row["sync_status"] == status,
                "sync_status should be {status}: {row}"
            );
        }
        Ok(())
    }

    /// Every run told of its beginning once and of its end once, and its sums are its logs' attempts.
    async fn runs_began_and_ended(&self) -> Result<usize> {
        let ours = &self.inner().organizations;
        let runs = format!(
            "select store_id, sum(case when event = 'sync.started' then 1 else 0 end) as began,
                sum(case when event <> 'sync.started' then 1 else 0 end) as ended
            from callback_outbox where organization_id in ({ours}) group by store_id"
        );
        let mut count = 0;
        for row in self.inner().ledger.rows(&runs).await? {
            ensure!(
                row["began"] == row["ended"],
                "a run began without end: {row}"
            );
            count += usize::try_from(row["began"].as_u64().unwrap_or_default())?;
        }
        Ok(count)
    }

    fn webhooks_are_genuine(&self, received: &[Request]) -> Result<()> {
        let mut bodies = HashMap::new();
        for request in received {
            let path = request.uri.path().to_owned();
            let secret = self
                .inner()
                .secrets
                .get(&path)
                .with_context(|| format!("who registered {path}?"))?;
            let verifier = Webhook::new(secret)?;
            verifier
                .verify(&request.body, &request.headers)
                .with_context(|| format!("{path}: forged"))?;
            let id = request.header("x-event-id").to_owned();
            let first = bodies.entry((path, id)).or_insert(&request.body);
            ensure!(
                *first == &request.body,
                "two bodies under one id: {first:?} and {:?}",
                request.body
            );
        }
        Ok(())
    }

    async fn events_arrived(&self, received: &[Request]) -> Result<(usize, usize)> {
        let mut arrivals = BTreeMap::<(String, String), usize>::new();
        for request in received {
            *arrivals
                .entry((
                    request.uri.path().to_owned(),
                    request.header("x-event-id").to_owned(),
                ))
                .or_default() += 1;
        }
        let ours = &self.inner().organizations;
        let select = format!(
            "select d.id, d.outbox_id, d.state, d.attempt, e.target_url, o.status,
                (select count(*) from callback_attempts a where a.delivery_id = d.id) as attempts,
                (select count(*) from callback_attempts a where a.delivery_id = d.id and a.http_status = 200) as accepted,
                (select count(*) from callback_attempts a where a.delivery_id = d.id and a.http_status is not null) as answered
            from callback_deliveries d join webhook_endpoints e on e.id = d.endpoint_id
            join callback_outbox o on o.id = d.outbox_id
            where d.organization_id in ({ours})"
        );
        let rows = self.inner().ledger.rows(&select).await?;
        let mut duplicates = 0;
        for row in &rows {
            let url = text(row, "target_url");
            let path = url.find("/webhook").map_or("", |at| &url[at..]).to_owned();
            let arrived = arrivals
                .remove(&(path, text(row, "outbox_id")))
                .unwrap_or_default();
            ensure!(
                row["state"] == "success" && row["status"] == "success",
                "an event was not delivered: {row}"
            );
            ensure!(
                row["accepted"] == 1 && row["attempts"] == row["attempt"],
                "attempts are missing: {row}"
            );
            // An attempt without an answer may not have arrived at all.
            let answered = usize::try_from(row["answered"].as_u64().unwrap_or_default())?;
            let attempts = usize::try_from(row["attempts"].as_u64().unwrap_or_default())?;
            ensure!(
                arrived >= answered,
                "{answered} attempts were answered and {arrived} arrived: {row}"
            );
            duplicates += arrived.saturating_sub(attempts);
        }
        ensure!(
            arrivals.is_empty(),
            "webhooks came of events that are not stored: {arrivals:?}"
        );
        let events = format!(
            "select count(*) as number from callback_outbox where organization_id in ({ours})"
        );
        let events = self.inner().ledger.row(&events).await?;
        ensure!(
            events["number"] == rows.len(),
            "{events} events and {} deliveries",
            rows.len()
        );
        let Seen { deliveries, .. } = &mut *lock(&self.inner().seen);
        never_less(deliveries, &rows, "state", "success")?;
        Ok((rows.len(), duplicates))
    }
}

/// Final states stay final, and attempts only grow.
fn never_less(
    seen: &mut BTreeMap<String, (String, i64)>,
    rows: &[Value],
    state: &str,
    last: &str,
) -> Result<()> {
    for row in rows {
        let now = (
            text(row, state),
            row["attempt"].as_i64().unwrap_or_default(),
        );
        if let Some(before) = seen.insert(text(row, "id"), now.clone()) {
            ensure!(
                before.0 != last || before == now,
                "it was {before:?} and is {row}"
            );
            ensure!(before.1 <= now.1, "it was {before:?} and is {row}");
        }
    }
    Ok(())
}

/// The contract's rule, read literally.
fn status_by_the_rule(latest: &[Value]) -> &'static str {
    let count = |wanted: &str| latest.iter().filter(|row| row["status"] == wanted).count();
    let Some(last) = latest.first() else {
        return "pending";
    };
    let bad = count("failed") + count("rate_limited");
    match last["status"].as_str().unwrap_or_default() {
        "success" if bad == 0 => "success",
        "failed" if count("success") == 0 => "failed",
        _ => "partial",
    }
}

fn text(row: &Value, column: &str) -> String {
    row[column].as_str().unwrap_or_default().to_owned()
}
