//! The benchmarks: each figure beside what limits it, measured in the same run. `cargo xtask bench` runs them.
//!
//! Promises: real `wharf` processes of the release build over loopback HTTP, a PostgreSQL that waits for the disk and a
//! Redis that appends; rounds of Wharf and of its baseline take turns, so that whatever else the machine does hits both.
//! Left out: comparisons with other machines or other days. Ratios travel, absolute figures do not.

mod bare;
mod benchmarks;
mod database;
mod fill;
mod load;
mod message;
mod pgbench;
mod receiver;
mod report;
mod rounds;
mod site;
mod usage;
mod wharf;

use std::{io::Write, process::ExitCode, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{report::Figure, rounds::Plan};

/// Measures Wharf beside what limits it.
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    chore: Option<Chore>,
    /// Only the benchmarks whose name contains this
    filter: Option<String>,
    /// One short round each: whether everything runs, not how fast
    #[arg(long)]
    quick: bool,
    /// The figures as JSON on stdout
    #[arg(long)]
    json: bool,
    /// Only names the benchmarks
    #[arg(long)]
    list: bool,
    /// Serves the handler that `mock-validate` is compared with
    #[arg(long, hide = true)]
    bare: bool,
}

#[derive(Subcommand)]
enum Chore {
    /// Fills a database with logs, for looking at plans and speed
    Fill(fill::Arguments),
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.bare {
        return bare::serve().map(|()| ExitCode::SUCCESS);
    }
    // One thread: what the load generator uses of the machine, Wharf cannot.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                done = run(&arguments) => done,
                // Returning drops the processes that were started.
                _ = interrupt.recv() => bail!("interrupted"),
                _ = terminate.recv() => bail!("told to stop"),
            }
        })
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    // sqlx and the Redis client want it set, also for connections without TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(Chore::Fill(arguments)) = &arguments.chore {
        return fill::run(arguments).await.map(|()| ExitCode::SUCCESS);
    }
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let chosen: Vec<_> = benchmarks::ALL
        .iter()
        .filter(|benchmark| benchmark.name.contains(filter))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no benchmark's name contains {filter:?}; --list names them"
    );
    if arguments.list {
        for benchmark in chosen {
            print(&format!("{:<16} {}", benchmark.name, benchmark.about))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let plan = if arguments.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let mut figures: Vec<Figure> = Vec::new();
    for benchmark in chosen {
        let began = Instant::now();
        eprintln!(
            "{} {}",
            console::style("==>").cyan().bold().for_stderr(),
            benchmark.about
        );
        figures.extend(
            (benchmark.run)(&plan)
                .await
                .with_context(|| benchmark.name)?,
        );
        eprintln!("    {:.1} s", began.elapsed().as_secs_f64());
    }
    if arguments.json {
        print(&serde_json::to_string_pretty(&figures)?)?;
    } else {
        print(&report::table(&figures))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
