//! Due logs of many stores, asked about again by one worker process.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wharf_domain::{Clock, SystemClock};
use wharf_queue::Queue;
use wharf_store::jobs;

use crate::{
    report::{Direction, Figure},
    rounds::{Plan, median},
    site::{STORE_ID, Site, store_id},
    wharf::Process,
};

const STORES: usize = 100;
const MAX: Duration = Duration::from_secs(60);

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let site = Site::open("sync").await?;
    site.register_stores(STORES).await?;
    let worker = Process::wharf(&site, &["worker", "sync"]).await?;
    let (mut rates, mut cpu) = (Vec::new(), Duration::ZERO);
    for _ in 0..plan.rounds {
        let logs = fill(&site, plan.work / STORES).await?;
        let before = worker.cpu()?;
        rates.push(logs as f64 / work_off(&site).await?.as_secs_f64());
        cpu = (worker.cpu()? - before) / u32::try_from(logs)?;
    }
    let note = format!("{} us of processor time each", cpu.as_micros());
    let rate = median(rates.into_iter());
    Ok(vec![
        Figure::alone(
            "due logs, asked again",
            rate,
            "logs/s",
            Direction::AtLeast(5_000.0),
        )
        .with_note(note),
    ])
}

/// Due logs for every store; their receipts end in 00 to 99, so every answer of the marketplace comes up.
async fn fill(site: &Site, logs: usize) -> Result<usize> {
    site.run(&format!(
        "truncate sync_logs, callback_outbox cascade;
         update stores set imported_orders = 0, rate_limited_count = 0, sync_status = 'pending', last_sync_at = null,
             last_run_at = null;
         insert into sync_logs (store_id, receipt)
         select ('{STORE_ID}' || lpad(cast(s as text), 12, '0'))::uuid, 'due-' || n || '-' || lpad(cast(n % 100 as text), 2, '0')
         from generate_series(1, {STORES}) s, generate_series(1, {logs}) n;
         analyze sync_logs, stores"
    ))
    .await?;
    Ok(STORES * logs)
}

/// Queues every store's job, rings, and waits until no job is left.
async fn work_off(site: &Site) -> Result<Duration> {
    let stores = || (1..=STORES).map(store_id);
    let began = Instant::now();
    let queued = jobs::enqueue(&mut site.conn().await?, stores(), SystemClock.now()).await?;
    ensure!(
        queued.len() == STORES,
        "{} of {STORES} jobs were queued",
        queued.len()
    );
    stores().for_each(|store| {
        site.doorbell
            .ring(Queue::SyncStore, &format!("store:{store}"))
    });
    while site
        .number("select count(*) from sync_jobs where due_at is not null")
        .await?
        > 0
    {
        ensure!(
            began.elapsed() < MAX,
            "the worker is not done after {} s",
            MAX.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let elapsed = began.elapsed();
    let left = site
        .number("select count(*) from sync_logs where status = 'pending'")
        .await?;
    ensure!(left == 0, "{left} logs were not asked about");
    Ok(elapsed)
}
