//! Events in the outbox, sent to a receiver by one worker process.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wharf_queue::Queue;

use crate::{
    database::{Watch, Work},
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
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        receiver.received.take();
        rounds.push(Round::run(plan, site, receiver, worker).await?);
    }
    if let Some(statements) = rounds
        .last()
        .and_then(|round| round.work.statements.as_ref())
    {
        statements.profile(plan.work);
    }
    Ok(figures(&rounds, plan.work as f64))
}

/// One round, and what it took.
struct Round {
    elapsed: Duration,
    cpu: Duration,
    receiver_cpu: Duration,
    connections: usize,
    work: Work,
}

impl Round {
    async fn run(plan: &Plan, site: &Site, receiver: &Receiver, worker: &Process) -> Result<Self> {
        fill(plan, site).await?;
        let watch = Watch::begin(site).await?;
        let (cpu, own_cpu) = (worker.cpu()?, usage::own_cpu()?);
        let elapsed = send(plan, site, receiver).await?;
        let connections = receiver.received.borrow().connections;
        Ok(Self {
            elapsed,
            cpu: worker.cpu()? - cpu,
            receiver_cpu: usage::own_cpu()? - own_cpu,
            connections,
            work: watch.end(site).await?,
        })
    }
}

/// The rate, and the cost of each delivery, in the median round.
fn figures(rounds: &[Round], deliveries: f64) -> Vec<Figure> {
    let each = |of: fn(&Round) -> Option<f64>| -> Option<f64> {
        let values: Option<Vec<f64>> = rounds.iter().map(of).collect();
        Some(median(values?.into_iter()) / deliveries)
    };
    let rate = median(rounds.iter().map(|r| deliveries / r.elapsed.as_secs_f64()));
    let share = median(
        rounds
            .iter()
            .map(|round| round.receiver_cpu.as_secs_f64() * 100.0 / round.elapsed.as_secs_f64()),
    );
    let connections: usize = rounds.iter().map(|round| round.connections).sum();
    let mut figures = vec![
        Figure::alone(
            "events, delivered and settled",
            rate,
            "deliveries/s",
            Direction::AtLeast(3_000.0),
        )
        .with_note(format!("the receiver used {share:.0} % of one")),
    ];
    let costs = [
        (
            "a delivery: processor time of wharf",
            each(|round| Some(micros(round.cpu))),
            "us",
            Direction::Open,
        ),
        (
            "a delivery: processor time of PostgreSQL",
            each(|round| round.work.cpu.map(micros)),
            "us",
            Direction::Open,
        ),
        (
            "a delivery: time in statements",
            each(|round| Some(micros(round.work.statements.as_ref()?.time))),
            "us",
            Direction::AtMost(250.0),
        ),
        (
            "a delivery: statements",
            each(|round| Some(round.work.statements.as_ref()?.calls)),
            "",
            Direction::Open,
        ),
        (
            "a delivery: rows",
            each(|round| Some(round.work.statements.as_ref()?.rows)),
            "",
            Direction::Open,
        ),
        (
            "a delivery: new connections",
            // All rounds together: later ones find those of the first.
            Some(connections as f64 / (deliveries * rounds.len() as f64)),
            "",
            Direction::AtMost(0.05),
        ),
    ];
    figures.extend(
        costs
            .into_iter()
            .filter_map(|(name, value, unit, direction)| {
                Some(Figure::alone(name, value?, unit, direction))
            }),
    );
    figures
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Puts events into the outbox that are not due yet.
async fn fill(plan: &Plan, site: &Site) -> Result<()> {
    let events = plan.work;
    site.run(&format!(
        "truncate callback_outbox cascade;
         insert into callback_outbox (organization_id, store_id, event, payload, due_at)
         select 'org-' || n % {ORGANIZATIONS}, ('{STORE_ID}' || lpad(cast(n % 100 as text), 12, '0'))::uuid, 'sync.completed',
             '{{\"processedCount\":100,\"successCount\":50,\"failedCount\":40,\"rateLimitedCount\":10}}', now() + interval '1 hour'
         from generate_series(1, {events}) n;
         analyze callback_outbox"
    ))
    .await
}

/// Makes the events due, rings, and waits until each has been received once and settled.
async fn send(plan: &Plan, site: &Site, receiver: &Receiver) -> Result<Duration> {
    let events = plan.work;
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
