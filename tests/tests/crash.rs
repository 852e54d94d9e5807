//! Processes that end by SIGKILL at every named place of their work, under load, and what is left of what they promised.
//!
//! Short form: every failpoint once, and a few deaths of the embedded single process. Long form (`WHARF_TEST_LONG=1`):
//! twenty seeds of the same. One failpoint alone: `WHARF_TEST_FAILPOINT=send.before`, with `WHARF_TEST_SEED=7` for
//! a known seed. Every run prints its seed.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use tokio::task::JoinSet;
use wharf_tests::{Backend, Host, HostBuilder, PATIENCE, Site, Traffic, eventually, repository};

/// The process that dies at a failpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Api,
    Sync,
    Callback,
}
use Victim::{Api, Callback, Sync};

/// Every failpoint of the code that a host under load passes.
const MATRIX: &[(&str, Victim)] = &[
    ("import.commit.before", Api),
    ("import.commit.after", Api),
    ("ring.before", Api),
    ("ring.after", Api),
    ("sync.sweep.before", Sync),
    ("sync.sweep.after", Sync),
    ("sync.claim.before", Sync),
    ("sync.claim.after", Sync),
    ("lock.get.before", Sync),
    ("lock.get.after", Sync),
    ("sync.start.before", Sync),
    ("sync.start.after", Sync),
    ("plugin.call.before", Sync),
    ("plugin.call.after", Sync),
    ("sync.renewal.before", Sync),
    ("sync.renewal.after", Sync),
    ("sync.commit.before", Sync),
    ("sync.commit.after", Sync),
    ("requeue.before", Sync),
    ("requeue.after", Sync),
    ("lock.release.before", Sync),
    ("lock.release.after", Sync),
    ("callback.sweep.before", Callback),
    ("callback.sweep.after", Callback),
    ("fanout.commit.before", Callback),
    ("fanout.commit.after", Callback),
    ("callback.claim.before", Callback),
    ("callback.claim.after", Callback),
    ("send.before", Callback),
    ("response.before", Callback),
    ("response.after", Callback),
    ("callback.renewal.before", Callback),
    ("callback.renewal.after", Callback),
    ("settle.commit.before", Callback),
    ("settle.commit.after", Callback),
];

/// The embedded process dies at these, one after the other.
const EMBEDDED: &[&str] = &[
    "import.commit.before",
    "import.commit.after",
    "sync.commit.before",
    "requeue.after",
    "fanout.commit.after",
    "callback.claim.after",
    "response.after",
    "settle.commit.before",
];

const LEASE: Duration = Duration::from_secs(1);
/// Sends that a worker has in flight at most, and so the duplicates that its death may cause.
const IN_FLIGHT: usize = 16;
/// Delay that a debug build on a busy machine may add to `lease + 1 s`.
const BUSY: Duration = Duration::from_secs(2);
const CLIENTS: usize = 4;

fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// One seed, or twenty in the long form.
fn seeds() -> Vec<u64> {
    let first = setting("WHARF_TEST_SEED").map_or_else(
        || fastrand::u64(..1_000_000),
        |seed| seed.parse().expect("a seed"),
    );
    let count = if setting("WHARF_TEST_LONG").is_some() {
        20
    } else {
        1
    };
    (first..first + count).collect()
}

/// The failpoints of these victims, or the one that is asked for.
fn failpoints(victim: Victim) -> Vec<&'static str> {
    let alone = setting("WHARF_TEST_FAILPOINT");
    let wanted = |name: &str| alone.as_deref().is_none_or(|alone| alone == name);
    MATRIX
        .iter()
        .filter(|(name, of)| *of == victim && wanted(name))
        .map(|(name, _)| *name)
        .collect()
}

fn host(site: &Arc<Site>) -> HostBuilder {
    site.host()
        .env("LEASE", "1s")
        .env("CALLBACK_CONCURRENCY", &IN_FLIGHT.to_string())
        .env("WEBHOOK_RETRY", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
        .env("LOG_LEVEL", "warn,wharf=info,wharf_app=info")
}

/// A process that will end itself at the failpoint, at one of the first passages.
fn armed(site: &Arc<Site>, victim: Victim, failpoint: &str, rng: &mut Rng) -> HostBuilder {
    let most = match failpoint.split('.').nth(1) {
        Some("call") => 20,
        Some("renewal" | "sweep" | "release") => 2,
        _ if failpoint.starts_with("requeue") => 1,
        _ => 5,
    };
    let host = host(site).env(
        "WHARF_FAILPOINT",
        &format!("{failpoint}:{}", rng.u32(1..=most)),
    );
    match victim {
        Api => host.role("api"),
        Sync => host.role("sync-worker").role("sync-scheduler"),
        Callback => host.role("callback-worker").role("callback-scheduler"),
    }
}

/// The deaths of a run.
#[derive(Default)]
struct Toll {
    kills: usize,
    senders: usize,
    slowest_recovery: Duration,
}

/// One process of each kind dies in each round, at its next failpoint; a fourth one survives and takes over.
async fn kill_at_every_failpoint(seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let site = Site::open(Backend::Postgres).await?;
    let survivor = host(&site).start().await?;
    let traffic = Traffic::open(&survivor, seed).await?;
    let load = traffic.start(CLIENTS);
    let mut plans = [Api, Sync, Callback].map(|victim| (victim, failpoints(victim)));
    plans.iter_mut().for_each(|(_, plan)| rng.shuffle(plan));
    let (mut toll, mut recoveries) = (Toll::default(), JoinSet::new());
    while plans.iter().any(|(_, plan)| !plan.is_empty()) {
        let mut dying = JoinSet::new();
        for (victim, failpoint) in plans
            .iter_mut()
            .filter_map(|(victim, plan)| Some((*victim, plan.pop()?)))
        {
            let mut host = armed(&site, victim, failpoint, &mut rng).spawn()?;
            let (traffic, survivor) = (traffic.clone(), survivor.base_url().to_owned());
            dying.spawn(async move {
                let pid = host.pid();
                await_death(&mut host, victim, failpoint, &traffic, &survivor).await?;
                anyhow::Ok((victim, failpoint, pid))
            });
        }
        while let Some(death) = dying.join_next().await {
            let (victim, failpoint, pid) = death??;
            toll.kills += 1;
            toll.senders += usize::from(victim == Callback);
            recoveries.spawn(recovery(traffic.clone(), failpoint, pid));
        }
    }
    while let Some(recovery) = recoveries.join_next().await {
        toll.slowest_recovery = toll.slowest_recovery.max(recovery??);
    }
    traffic.settle_down(load).await?;
    report(&traffic, &toll).await
}

/// Waits until the process has killed itself. An API gets its share of the requests; a process that renews leases
/// gets a reason to.
async fn await_death(
    host: &mut Host,
    victim: Victim,
    failpoint: &str,
    traffic: &Traffic,
    survivor: &str,
) -> Result<()> {
    if victim == Api {
        host.wait_until_up().await?;
        traffic.ask(&[survivor, host.base_url()]);
    }
    let holding_up = async {
        if failpoint.starts_with("sync.renewal") {
            return hold_up_stores(traffic).await;
        }
        std::future::pending().await
    };
    let status = tokio::select! {
        status = host.wait() => status.with_context(|| format!("{failpoint} is never passed"))?,
        held = holding_up => { held?; anyhow::bail!("unreachable: holding up has no end") }
    };
    if victim == Api {
        traffic.ask(&[survivor]);
    }
    ensure!(
        status.signal() == Some(9),
        "{failpoint}: it ended with {status}:\n{}",
        host.logged()
    );
    Ok(())
}

/// Keeps the stores' rows for longer than a third of a lease, again and again: whoever works on one renews its lease.
async fn hold_up_stores(traffic: &Traffic) -> Result<()> {
    loop {
        let hold = "do $$ begin perform id from stores order by id for no key update; perform pg_sleep(0.8); end $$";
        traffic.ledger().execute(hold).await?;
    }
}

/// Measures the time until a dead process holds nothing any more.
async fn recovery(traffic: Traffic, failpoint: &'static str, pid: u32) -> Result<Duration> {
    let died = Instant::now();
    let held = format!(
        "select (select count(*) from sync_jobs where claimed_by like '%-{pid}')
            + (select count(*) from callback_deliveries where claimed_by like '%-{pid}') as number"
    );
    let free = || async { (traffic.ledger().row(&held).await.ok()?["number"] == 0).then_some(()) };
    eventually(
        &format!("the work of the dead process ({failpoint}) is taken over"),
        PATIENCE,
        free,
    )
    .await?;
    let took = died.elapsed();
    println!("{failpoint}: recovered after {} ms", took.as_millis());
    let most = LEASE + Duration::from_secs(1) + BUSY;
    ensure!(
        took <= most,
        "{failpoint}: {took:?} until the work was taken over, at most {most:?}"
    );
    Ok(took)
}

async fn report(traffic: &Traffic, toll: &Toll) -> Result<()> {
    let account = traffic.audit().await?;
    println!(
        "{} kills, slowest recovery {:?}: {account}",
        toll.kills, toll.slowest_recovery
    );
    let most = toll.senders * IN_FLIGHT;
    ensure!(
        account.duplicates <= most,
        "{} duplicates by {} dead senders",
        account.duplicates,
        toll.senders
    );
    ensure!(
        account.promised > 0 && account.deliveries > 0,
        "there was no load"
    );
    Ok(())
}

/// One process on SQLite, killed and started again.
async fn kill_the_embedded_process(seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let site = Site::open(Backend::Embedded).await?;
    let mut running = host(&site).start().await?;
    let traffic = Traffic::open(&running, seed).await?;
    let load = traffic.start(CLIENTS);
    let mut toll = Toll::default();
    for failpoint in EMBEDDED {
        running.kill().await?;
        let passage = format!("{failpoint}:{}", rng.u32(1..=4));
        running = host(&site).env("WHARF_FAILPOINT", &passage).spawn()?;
        // Work that waits may bring it to its end before it says that it is up.
        if running.wait_until_up().await.is_ok() {
            traffic.ask(&[running.base_url()]);
        }
        let status = running
            .wait()
            .await
            .with_context(|| format!("{failpoint} is never passed"))?;
        ensure!(
            status.signal() == Some(9),
            "{failpoint}: it ended with {status}:\n{}",
            running.logged()
        );
        running = host(&site).start().await?;
        traffic.ask(&[running.base_url()]);
        toll.kills += 2;
        toll.senders += 2;
    }
    traffic.settle_down(load).await?;
    report(&traffic, &toll).await
}

#[test]
fn nothing_is_lost_at_any_failpoint() -> Result<()> {
    for seed in seeds() {
        println!("WHARF_TEST_SEED={seed}");
        wharf_tests::run(kill_at_every_failpoint(seed))?;
    }
    Ok(())
}

#[test]
fn nothing_is_lost_by_the_embedded_process() -> Result<()> {
    for seed in seeds() {
        println!("WHARF_TEST_SEED={seed}");
        wharf_tests::run(kill_the_embedded_process(seed))?;
    }
    Ok(())
}

#[test]
fn every_failpoint_of_the_code_is_in_the_matrix() -> Result<()> {
    let (mut in_code, mut folders) = (Vec::new(), vec![repository().join("host/app/src")]);
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    for file in files {
        let text = std::fs::read_to_string(file)?;
        let names = text
            .split("failpoint::pass(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        in_code.extend(names.map(str::to_owned));
    }
    in_code.sort();
    in_code.dedup();
    // What is not done under load is killed by the suites that do it: keys, moving, receipts and stores_care.
    let apart = ["reseal.", "copy.", "redrive.", "removal.", "resume."];
    in_code.retain(|name| !apart.iter().any(|one| name.starts_with(one)));
    let mut matrix: Vec<_> = MATRIX.iter().map(|(name, _)| (*name).to_owned()).collect();
    matrix.sort();
    assert_eq!(in_code, matrix);
    Ok(())
}
