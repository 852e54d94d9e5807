//! How fast plugins come, go back and start, and what a hostile one costs its neighbour.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;
use tokio::runtime;
use wharf_engine::{Digest, Engine, EngineSettings, Fault, Limits};

use super::plugin_call::{ask, organization, request};
use crate::{
    report::{Direction, Figure},
    rounds::{Pairs, Plan, median},
    site::{guest, plugins_dir},
    wharf::Process,
};

const SWAPS: u8 = 100;
/// One of these swaps is rolled back.
const ROLLED_BACK: u8 = 5;
const CLIENTS: usize = 2;
const PLUGINS_AT_THE_START: usize = 20;

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let swaps = swaps_under_load().await?;
    let (spinning, neighbour) = beside_a_spinning_guest(plan).await?;
    let mut figures = Vec::new();
    for plugin in ["etsy", "http-marketplace"] {
        figures.push(dropped(plugin, plan).await?);
    }
    figures.extend(swaps);
    figures.push(warm_start(plan).await?);
    figures.extend([spinning, neighbour]);
    Ok(figures)
}

fn component(name: &str) -> Result<Vec<u8>> {
    let file = plugins_dir().join(format!("{name}.wasm"));
    fs::read(&file).with_context(|| format!("{}: `cargo xtask plugins`", file.display()))
}

/// The same code under another digest, so that it is compiled anew.
fn revision(component: &[u8], number: u8) -> Vec<u8> {
    [component, &[0, 3, 1, b'n', number]].concat()
}

/// The grants that let `http-marketplace` serve under this name.
fn grants(serve_as: &str) -> String {
    format!(
        "origins = ['http://127.0.0.1:1']\n[config]\nbase_url = 'http://127.0.0.1:1'\nmarketplace = 'etsy'\n\
         serve_as = '{serve_as}'\n[credentials.marketplace]\nscheme = 'bearer'\ntoken = {{ store = 'access-token' }}\n"
    )
}

fn worst_ms(times: &[Duration]) -> f64 {
    times
        .iter()
        .max()
        .copied()
        .unwrap_or_default()
        .as_secs_f64()
        * 1e3
}

/// Files that were never seen, put into the watched folder one after the other: compiled, tried by conformance, serving.
async fn dropped(plugin: &str, plan: &Plan) -> Result<Figure> {
    let (folder, state) = (TempDir::new()?, TempDir::new()?);
    let (file, beside) = (
        folder.path().join("dropped.wasm"),
        folder.path().join("dropped.new"),
    );
    let grants = grants("dropped");
    if plugin == "http-marketplace" {
        fs::write(folder.path().join("dropped.toml"), &grants)?;
    }
    let engine = Engine::start(EngineSettings::new(folder.path(), state.path()))?;
    engine.loaded().await;
    let (component, mut times) = (component(plugin)?, Vec::new());
    for number in 0..u8::try_from(plan.rounds * 4)? {
        let serving = || {
            engine
                .plugins()
                .into_iter()
                .find_map(|report| report.digest)
        };
        let before = serving();
        fs::write(&beside, revision(&component, number))?;
        let began = Instant::now();
        fs::rename(&beside, &file)?;
        while serving() == before {
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "{plugin} does not serve: {:?}",
                engine.plugins()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(began.elapsed());
    }
    let typical = median(times.iter().map(|time| time.as_secs_f64() * 1e3));
    let size = component.len().div_ceil(1024);
    Ok(Figure::alone(
        format!("{plugin} dropped, active"),
        worst_ms(&times),
        "ms",
        Direction::AtMost(700.0),
    )
    .with_note(format!(
        "the slowest of {}, {size} KiB; the median took {typical:.0} ms",
        times.len()
    )))
}

/// Two threads that ask without a pause, while revisions come and go back.
async fn swaps_under_load() -> Result<[Figure; 2]> {
    let state = TempDir::new()?;
    let engine = Engine::start(EngineSettings {
        state_dir: Some(state.path().into()),
        ..EngineSettings::in_memory()
    })?;
    let component = component("etsy")?;
    engine.load("etsy", revision(&component, 0)).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (engine, stop) = (engine.clone(), stop.clone());
            thread::spawn(move || ask_all_the_time(&engine, &stop))
        })
        .collect();
    let (mut swaps, mut rollbacks, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for swap in 1..=SWAPS {
        let before = engine.plugins()[0].digest;
        let began = Instant::now();
        engine.load("etsy", revision(&component, swap)).await?;
        swaps.push(began.elapsed());
        if swap % ROLLED_BACK == 0 {
            let (began, rolling) = (Instant::now(), engine.clone());
            let rolling = tokio::spawn(async move { rolling.rollback("etsy", "bench").await });
            while engine.plugins()[0].digest != before {
                tokio::task::yield_now().await;
            }
            rollbacks.push(began.elapsed());
            let back: Digest = rolling.await??;
            answered.push(began.elapsed());
            ensure!(Some(back) == before, "it was rolled back to another");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for client in clients {
        calls += client.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    let typical_ms = |times: &[Duration]| median(times.iter().map(|time| time.as_secs_f64() * 1e3));
    let slowest = format!(
        "until it serves, the slowest of {}, while {CLIENTS} threads ask; written to disk after {:.0} ms, {:.0} at most",
        rollbacks.len(),
        typical_ms(&answered),
        worst_ms(&answered)
    );
    let typical = typical_ms(&swaps);
    let all = format!(
        "of {calls}, during {SWAPS} swaps ({typical:.0} ms each, compiled anew) and {} rollbacks",
        rollbacks.len()
    );
    Ok([
        Figure::alone(
            "rollback",
            worst_ms(&rollbacks),
            "ms",
            Direction::AtMost(50.0),
        )
        .with_note(slowest),
        // A call that fails ends the benchmark.
        Figure::alone("failed calls", 0.0, "calls", Direction::AtMost(0.0)).with_note(all),
    ])
}

fn ask_all_the_time(engine: &Engine, stop: &AtomicBool) -> Result<u64> {
    runtime::Builder::new_current_thread()
        .build()?
        .block_on(async {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                ask(engine).await?;
                calls += 1;
            }
            Ok(calls)
        })
}

/// The program itself, from its start until it listens, with an embedded database and everything compiled before.
async fn warm_start(plan: &Plan) -> Result<Figure> {
    let dir = TempDir::new()?;
    fill(&dir.path().join("plugins"))?;
    let settings = || {
        let names = [("HOST", "127.0.0.1"), ("PORT", "0"), ("LOG_FORMAT", "json")];
        names
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
    };
    let mut times = Vec::new();
    for start in 0..=plan.rounds * 2 {
        let began = Instant::now();
        let process = Process::start(dir.path(), &["serve"], settings()).await?;
        // The first one compiles.
        if start > 0 {
            times.push(began.elapsed());
        }
        let log = fs::read_to_string(dir.path().join("serve.log"))?;
        ensure!(!log.contains("refused"), "a plugin does not serve: {log}");
        drop(process);
    }
    let lives = fs::read_dir(dir.path().join(".wharf/engine/plugins"))?.count();
    ensure!(lives == PLUGINS_AT_THE_START, "{lives} plugins were loaded");
    let name = format!("warm start with {PLUGINS_AT_THE_START} plugins");
    Ok(
        Figure::alone(name, worst_ms(&times), "ms", Direction::AtMost(300.0)).with_note(format!(
            "the slowest of {}, from the process's start until it listens",
            times.len()
        )),
    )
}

/// Every plugin that ships with Wharf, and as many others as are missing.
fn fill(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let shipped = [
        "etsy",
        "shopify",
        "amazon",
        "standard-payload",
        "cloudevents",
        "slack",
    ];
    for name in shipped {
        fs::write(folder.join(format!("{name}.wasm")), component(name)?)?;
    }
    for number in shipped.len()..PLUGINS_AT_THE_START {
        let name = format!("remote-{number}");
        fs::write(
            folder.join(format!("{name}.wasm")),
            revision(&component("http-marketplace")?, u8::try_from(number)?),
        )?;
        fs::write(folder.join(format!("{name}.toml")), grants(&name))?;
    }
    Ok(())
}

/// How late a spinning guest ends, and the 99th percentile of its neighbour's calls meanwhile and without it, in turns.
async fn beside_a_spinning_guest(plan: &Plan) -> Result<(Figure, Figure)> {
    let engine = Engine::start(EngineSettings::in_memory())?;
    engine.load("etsy", component("etsy")?).await?;
    engine
        .load("hostile", fs::read(guest("hostile-adapter"))?)
        .await?;
    let (mut late, mut p99) = (Vec::new(), Pairs::default());
    for _ in 0..plan.rounds {
        let alone = p99_us(&engine, || false, plan.turn).await?;
        let spins = (plan.turn.as_millis() / Limits::ADAPTER.cpu.as_millis()).max(1);
        let spinning = engine.clone();
        let spinning = tokio::spawn(async move {
            let mut late = Vec::new();
            for _ in 0..spins {
                // Answers between two of them, so that it is not put aside for failing half of the time.
                for _ in 0..2 {
                    drop(
                        spinning
                            .validate("hostile", &organization()?, request("fine")?)
                            .await,
                    );
                }
                let began = Instant::now();
                match spinning
                    .validate("hostile", &organization()?, request("spin")?)
                    .await
                    .result
                {
                    Err(Fault::OutOfCpu) => {
                        late.push(began.elapsed().saturating_sub(Limits::ADAPTER.cpu))
                    }
                    other => bail!("a spinning guest ended with {other:?}"),
                }
            }
            Ok(late)
        });
        p99.push(
            p99_us(&engine, || spinning.is_finished(), plan.turn * 10).await?,
            alone,
        );
        late.extend(spinning.await??);
    }
    let typical = median(late.iter().map(|time| time.as_secs_f64() * 1e3));
    let cpu = Limits::ADAPTER.cpu.as_millis();
    let note = format!(
        "the latest of {}, after its {cpu} ms of processor time; the median was {typical:.0} ms",
        late.len()
    );
    Ok((
        Figure::alone(
            "a spinning guest ends late by",
            worst_ms(&late),
            "ms",
            Direction::AtMost(20.0),
        )
        .with_note(note),
        Figure::beside(
            "its neighbour's p99",
            &p99,
            "us",
            "alone",
            Direction::RatioAtMost(2.0),
        )
        .with_note("one call after the other"),
    ))
}

/// Of calls one after the other until it is over.
async fn p99_us(engine: &Engine, is_over: impl Fn() -> bool, longest: Duration) -> Result<f64> {
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < longest && !is_over() {
        let asked = Instant::now();
        ask(engine).await?;
        latencies.push(asked.elapsed());
    }
    latencies.sort_unstable();
    let p99 = latencies
        .get(latencies.len() * 99 / 100)
        .context("no call was answered")?;
    Ok(p99.as_secs_f64() * 1e6)
}
