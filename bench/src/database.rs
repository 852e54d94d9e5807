//! What a `wharf` process makes the database do: its statements, as PostgreSQL counts them, and the processor time of
//! the connections that it holds.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;

use crate::{site::Site, usage};

/// Statements that a profile names; what is behind them costs next to nothing.
const MAX_NAMED: usize = 12;

/// The work of all `wharf` processes of a site, from one moment on.
pub(crate) struct Watch {
    backends: HashMap<i32, Duration>,
    statements: bool,
}

/// The work since then.
pub(crate) struct Work {
    /// Statements, and the rows that they returned or changed; `None` where the server does not count them.
    pub(crate) statements: Option<Statements>,
    /// The processor time of the connections; `None` where the server is another machine's.
    pub(crate) cpu: Option<Duration>,
}

/// The sums over all statements.
pub(crate) struct Statements {
    pub(crate) calls: f64,
    pub(crate) rows: f64,
    pub(crate) time: Duration,
    /// The dearest first: milliseconds, calls and the text's beginning.
    pub(crate) dearest: Vec<(f64, i64, String)>,
}

impl Watch {
    /// Begins to count.
    pub(crate) async fn begin(site: &Site) -> Result<Self> {
        // A server of somebody else's may lack the extension, or the right to it.
        let statements = site
            .run("create extension if not exists pg_stat_statements; select pg_stat_statements_reset()")
            .await
            .is_ok();
        let backends = backends(site).await?;
        Ok(Self {
            backends,
            statements,
        })
    }

    /// The work from the beginning until now.
    pub(crate) async fn end(self, site: &Site) -> Result<Work> {
        let cpu = backends(site)
            .await?
            .into_iter()
            .map(|(pid, now)| {
                let before = self.backends.get(&pid).copied().unwrap_or_default();
                now.saturating_sub(before)
            })
            .sum::<Duration>();
        let statements = if self.statements {
            Some(Statements::read(site).await?)
        } else {
            None
        };
        Ok(Work {
            statements,
            cpu: (!cpu.is_zero()).then_some(cpu),
        })
    }
}

/// The processor time of each connection of `wharf`, by the process that serves it.
async fn backends(site: &Site) -> Result<HashMap<i32, Duration>> {
    let select = "select pid from pg_stat_activity where datname = current_database() and application_name = 'wharf'";
    let pids: Vec<(i32,)> = site.rows(select).await?;
    let used = pids.into_iter().filter_map(|(pid,)| {
        // Not one of this machine's processes, or ended meanwhile.
        let cpu = usage::cpu_of(u32::try_from(pid).ok()?).ok()?;
        Some((pid, cpu))
    });
    Ok(used.collect())
}

impl Statements {
    async fn read(site: &Site) -> Result<Self> {
        let select = "select total_exec_time, calls, rows, regexp_replace(query, '\\s+', ' ', 'g')
            from pg_stat_statements where dbid = (select oid from pg_database where datname = current_database())
            order by total_exec_time desc";
        let rows: Vec<(f64, i64, i64, String)> = site.rows(select).await?;
        let sum = |of: fn(&(f64, i64, i64, String)) -> f64| rows.iter().map(of).sum::<f64>();
        Ok(Self {
            calls: sum(|row| row.1 as f64),
            rows: sum(|row| row.2 as f64),
            time: Duration::from_secs_f64(sum(|row| row.0) / 1_000.0),
            dearest: rows
                .into_iter()
                .take(MAX_NAMED)
                .map(|(time, calls, _, text)| (time, calls, text))
                .collect(),
        })
    }

    /// Writes the dearest statements to stderr, for each of so many pieces of work.
    pub(crate) fn profile(&self, pieces: usize) {
        for (milliseconds, calls, text) in &self.dearest {
            let each = milliseconds * 1_000.0 / pieces as f64;
            let text: String = text.chars().take(80).collect();
            eprintln!("    {each:>7.1} us  {calls:>6} calls  {text}");
        }
    }
}
