//! Events in the outbox, sent to a receiver by one worker process.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wharf_queue::Queue;

use crate::{
    receiver::Receiver,
    report::{Direction, Figure},
    rounds::{Plan, median},
    site::{STORE_ID, Site, organization},
    usage,
    wharf::Process,
};

const ORGANIZATIONS: usize = 10;
const MAX: Duration = Duration::from_secs(60);

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let site = Site::open("callbacks").await?;
    let receiver = Receiver::start().await?;
    for number in 0..ORGANIZATIONS {
        let url = format!("http://{}/hooks/{number}", receiver.address);
        site.register_endpoint(&organization(number), &url).await?;
    }
    let worker = Process::wharf(&site, &["worker", "callback"]).await?;
    receiver
        .tasks
        .run_until(measure(plan, &site, &receiver, &worker))
        .await
}

async fn measure(
    plan: &Plan,
    site: &Site,
    receiver: &Receiver,
    worker: &Process,
) -> Result<Vec<Figure>> {
    let (mut rates, mut note) = (Vec::new(), String::new());
    for _ in 0..plan.rounds {
        receiver.received.take();
        let (cpu, own_cpu) = (worker.cpu()?, usage::own_cpu()?);
        let elapsed = send(plan, site, receiver).await?.as_secs_f64();
        rates.push(plan.work as f64 / elapsed);
        let each = (worker.cpu()? - cpu).as_secs_f64() * 1e6 / plan.work as f64;
        let share = (usage::own_cpu()? - own_cpu).as_secs_f64() * 100.0 / elapsed;
        note =
            format!("{each:.0} us of processor time each; the receiver used {share:.0} % of one");
    }
    let rate = median(rates.into_iter());
    let name = "events, delivered and settled";
    Ok(vec![
        Figure::alone(name, rate, "deliveries/s", Direction::AtLeast(3_000.0)).with_note(note),
    ])
}

/// Puts events into the outbox, rings, and waits until each has been received once and settled.
async fn send(plan: &Plan, site: &Site, receiver: &Receiver) -> Result<Duration> {
    let events = plan.work;
    site.run(&format!(
        "truncate callback_outbox cascade;
         insert into callback_outbox (organization_id, store_id, event, payload, due_at)
         select 'org-' || n % {ORGANIZATIONS}, ('{STORE_ID}' || lpad(cast(n % 100 as text), 12, '0'))::uuid, 'sync.completed',
             '{{\"processedCount\":100,\"successCount\":50,\"failedCount\":40,\"rateLimitedCount\":10}}', now() + interval '1 hour'
         from generate_series(1, {events}) n;
         analyze callback_outbox"
    ))
    .await?;
    let began = Instant::now();
    site.run("update callback_outbox set due_at = now() - interval '1 second'")
        .await?;
    site.doorbell.ring(Queue::Callback, "events");
    let open = "select count(*) from callback_outbox where status = 'pending'";
    while receiver.received.borrow().ids.len() < events || site.number(open).await? > 0 {
        ensure!(
            began.elapsed() < MAX,
            "the worker is not done after {} s",
            MAX.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let elapsed = began.elapsed();
    let sent_twice = receiver.received.borrow().requests - events;
    ensure!(sent_twice == 0, "{sent_twice} events were sent twice");
    let attempts = site
        .number("select count(*) from callback_attempts where http_status = 200")
        .await?;
    ensure!(
        usize::try_from(attempts)? == events,
        "{attempts} attempts were recorded"
    );
    Ok(elapsed)
}
