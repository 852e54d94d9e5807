//! A hostile organization that does everything at once, and ten innocent ones that import, synchronise and receive
//! meanwhile: nothing of theirs is lost, the process lives, and its memory is flat.
//!
//! Half a minute of load for each backend; half an hour by `WHARF_TEST_LONG=1`, or as many seconds as
//! `WHARF_SOAK_SECONDS` says. `WHARF_MISDEEDS` chooses what the hostile one does. `WHARF_BINARY` names another program, such as a release build.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::{sync::Mutex, time::interval};
use wharf_tests::{
    Attacker, Backend, Host, Imports, LogLine, PATIENCE, Shop, Site, Traffic, fault_lasts,
    on_every_backend,
};

const INNOCENTS: [&str; 10] = [
    "north", "east", "south", "west", "spring", "summer", "autumn", "winter", "day", "night",
];
/// That an organization may have by default.
const MAX_ENDPOINTS: usize = 1_000;
/// Clients of the innocents: enough for some hundred imports in the short form, with half of a small machine idle.
const CLIENTS: usize = 2;
/// Of the attack. The quiet phase before is a quarter as long.
const SHORT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(24 * 60);
/// The aim: an innocent's import takes at most twice as long under attack. Only the long form has the thousands of
/// imports that make a p99 steady, and is run where the machine has nothing else to do.
const MAX_SLOWDOWN: u32 = 2;
/// For the short form, whose thirty to a hundred imports under attack make the p99 the slowest of them, in a debug build
/// on a machine that others may use: beyond it innocents are not slower but shut out.
const COLLAPSE: Duration = PATIENCE;
/// Guests in flight and SQLite's cache come and go; what leaks grows without end.
const MAX_GROWTH_KIB: i64 = 96 * 1024;

/// Of the neighbours' imports so many may be put off: one in ten.
const PUT_OFF_PART: usize = 10;
/// Small enough that the attack's hoarders alone would fill it.
const MEMORY_TOTAL: &str = "256MiB";

/// Two attacks at a time would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn host(site: &std::sync::Arc<Site>) -> Result<Host> {
    site.host()
        .guarded()
        .env("REQUEST_TIMEOUT", "2s")
        // The innocents' receiver shares a busy process with the hostile ones, and must not seem to hang.
        .env("WEBHOOK_TIMEOUT", "5s")
        .env("WEBHOOK_RETRY", "2s,2s,2s,2s,2s,2s,2s,2s,2s,2s")
        .env("LOG_LEVEL", "warn,wharf=info")
        .env("PLUGIN_MEMORY_TOTAL", MEMORY_TOTAL)
        .start()
        .await
}

/// The least memory that the process had in each half of this time.
async fn least_memory(host: &Host, time: Duration) -> Result<[i64; 2]> {
    let (begin, mut pace) = (Instant::now(), interval(Duration::from_millis(250)));
    let mut least = [i64::MAX; 2];
    while begin.elapsed() < time {
        pace.tick().await;
        let half = usize::from(begin.elapsed() > time / 2);
        least[half] = least[half].min(host.resident_kib()?);
    }
    Ok(least)
}

/// Imports of innocents at the very marketplace whose adapter the attack makes fault.
#[derive(Debug, Default)]
struct Neighbours {
    imported: usize,
    put_off: usize,
}

async fn import_beside(host: &Host, shops: &[Shop], time: Duration) -> Result<Neighbours> {
    let (begin, mut pace) = (Instant::now(), interval(Duration::from_millis(200)));
    let mut seen = Neighbours::default();
    for number in 0.. {
        if begin.elapsed() > time {
            break;
        }
        pace.tick().await;
        let shop: &Shop = &shops[number % shops.len()];
        // A 503 is no answer, and put off as well.
        let answer = shop.try_import(host, &format!("id:good-{number}")).await?;
        if answer.get("success") == true {
            seen.imported += 1;
        } else {
            seen.put_off += 1;
        }
    }
    Ok(seen)
}

/// The time that the attack lasts.
fn attack_time(long: bool) -> Result<Duration> {
    match std::env::var("WHARF_SOAK_SECONDS") {
        Ok(seconds) => Ok(Duration::from_secs(seconds.parse()?)),
        Err(_) => Ok(if long { LONG } else { SHORT }),
    }
}

fn completed_runs(traffic: &Traffic) -> usize {
    let requests = traffic.receiver().requests();
    let completed = requests
        .iter()
        .filter(|one| one.uri.path().ends_with("sync.completed"));
    completed.count()
}

fn told(imports: &Imports) -> String {
    format!(
        "{} imports, median {:?}, p99 {:?}, {} without a verdict",
        imports.times.len(),
        imports.percentile(50),
        imports.percentile(99),
        imports.without_verdict
    )
}

/// Holds the innocents' imports under attack against the quiet ones.
fn compare(quiet: &Imports, attacked: &Imports, long: bool) -> Result<()> {
    let (quiet, attacked) = (quiet.percentile(99), attacked.percentile(99));
    let ratio = attacked.as_secs_f64() / quiet.as_secs_f64();
    println!("p99 under attack is {ratio:.2} of the quiet one");
    let most = if long { MAX_SLOWDOWN * quiet } else { COLLAPSE };
    ensure!(
        attacked <= most,
        "{attacked:?} under attack, {quiet:?} before"
    );
    Ok(())
}

async fn ten_organizations_go_on_beside_a_hostile_one(backend: Backend) -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let long = std::env::var_os("WHARF_TEST_LONG").is_some();
    let time = attack_time(long)?;
    let site = Site::open(backend).await?;
    Attacker::install_plugins(&site)?;
    let mut host = host(&site).await?;
    let key = host
        .create_key(Attacker::ORGANIZATION, Attacker::SCOPES)
        .await?;
    let attacker = Attacker::open(&host, &key).await?;
    ensure!(
        attacker.endpoints() == MAX_ENDPOINTS,
        "{} endpoints",
        attacker.endpoints()
    );
    let traffic = Traffic::of(&host, &INNOCENTS, fastrand::u64(..)).await?;
    let load = traffic.start(CLIENTS);
    traffic.goes_on(CLIENTS).await?;
    traffic.take_imports();
    let used = host.processor_seconds()?;
    fault_lasts(time / 4).await;
    let quiet = traffic.take_imports();
    let quiet_load = (host.processor_seconds()? - used) / (time / 4).as_secs_f64();

    let mut beside = Vec::new();
    for organization in INNOCENTS {
        beside.push(Shop::open(&host, organization, "hostile").await?);
    }
    let runs_before = completed_runs(&traffic);
    let attack = attacker.attack();
    if Attacker::has("bomb") {
        Attacker::drop_bomb(&site)?;
    }
    let used = host.processor_seconds()?;
    let lasting = async {
        fault_lasts(time / 2).await;
        least_memory(&host, time / 2).await
    };
    let (memory, neighbours) = tokio::try_join!(lasting, import_beside(&host, &beside, time))?;
    let attacked_load = (host.processor_seconds()? - used) / time.as_secs_f64();
    let attacked = traffic.take_imports();
    let runs = completed_runs(&traffic) - runs_before;
    attack.end().await?;
    println!("{backend:?}, quiet: {}", told(&quiet));
    println!(
        "beside {} endpoints: {}",
        attacker.endpoints(),
        told(&attacked)
    );
    println!("at the faulting marketplace: {neighbours:?}; runs that were told of: {runs}");
    println!("processors in use: {quiet_load:.2} when quiet, {attacked_load:.2} under attack");
    println!("memory from the middle to the end: {memory:?} KiB");
    println!("the hostile one's: {}", attacker.account()?);

    traffic.settle_down(load).await?;
    println!("{}", traffic.audit().await?);
    compare(&quiet, &attacked, long)?;
    ensure!(
        neighbours.put_off * PUT_OFF_PART <= neighbours.imported,
        "{neighbours:?}"
    );
    ensure!(runs > 0, "nobody was synchronised");
    ensure!(
        memory[1] - memory[0] < MAX_GROWTH_KIB,
        "memory grew: {memory:?}"
    );
    // Guests panic in lines of JSON, the host itself on its standard error.
    let panicked = |line: &LogLine| line.json.is_null() && line.text.contains("panicked at");
    ensure!(!host.log().iter().any(panicked), "{}", host.logged());
    ensure!(
        host.get("/healthz").await?.status == 200,
        "it is not healthy"
    );
    ensure!(host.stop().await?.success(), "it does not end well");
    Ok(())
}

on_every_backend!(ten_organizations_go_on_beside_a_hostile_one);
