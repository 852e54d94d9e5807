//! Backups, restoring by the commands of docs/backup.md, exports, and the move from one database to the other.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_tests::{
    Backend, Database, HostBuilder, Ledger, Site, Traffic, on_every_backend, repository,
    wharf_binary,
};

const CLIENTS: usize = 3;

/// The shell blocks of a section of docs/backup.md, in their order.
fn commands(section: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/backup.md"))?;
    let start = text
        .find(&format!("\n## {section}\n"))
        .context(section.to_owned())?;
    let text = &text[start + 4..];
    let text = text
        .split_once("\n## ")
        .map_or(text, |(section, _)| section);
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| {
        Ok(rest
            .split_once("```")
            .context("a block that ends")?
            .0
            .to_owned())
    });
    blocks.collect()
}

/// Runs a block as an operator would: `wharf` and PostgreSQL's programs in PATH, nothing set but `variables`.
async fn shell(script: &str, dir: &Path, variables: &[(&str, &str)]) -> Result<String> {
    let bin = TempDir::new()?;
    symlink(wharf_binary(), bin.path().join("wharf"))?;
    let mut path = format!("{}:{}", bin.path().display(), env::var("PATH")?);
    if let Some(programs) = postgres_programs() {
        path = format!("{}:{path}", programs.display());
    }
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(dir)
        .env_clear();
    shell.env("PATH", path).envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || shell.output()).await??;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    ensure!(
        output.status.success(),
        "{script}\nended with {}:\n{told}",
        output.status
    );
    Ok(told)
}

/// The newest of the folders in which Debian keeps a server's programs; none where they are in PATH or missing.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders
        .filter(|folder| folder.join("pg_restore").is_file())
        .max()
}

fn host(site: &Arc<Site>) -> HostBuilder {
    site.host()
        .env("WEBHOOK_RETRY", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
        .env("LEASE", "1s")
}

/// Runs a command that must end well.
async fn run(builder: HostBuilder) -> Result<String> {
    let (status, printed) = builder.run().await?;
    ensure!(status.success(), "{status}: {printed}");
    Ok(printed)
}

/// Runs a command that must be refused.
async fn refused(builder: HostBuilder) -> Result<String> {
    let (status, printed) = builder.run().await?;
    ensure!(status.code() == Some(1), "{status}: {printed}");
    Ok(printed)
}

#[test]
fn a_backup_under_load_is_restored() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Embedded).await?;
        let mut running = host(&site).start().await?;
        let traffic = Traffic::open(&running, fastrand::u64(..)).await?;
        let load = traffic.start(CLIENTS);
        traffic.goes_on(60).await?;
        let before = traffic.promises();
        // The page's own commands, where the host's data folder is called `.wharf`.
        let dir = TempDir::new()?;
        symlink(site.data_dir(), dir.path().join(".wharf"))?;
        let blocks = commands("SQLite")?;
        let [backup, key, restore] = &blocks[..] else {
            anyhow::bail!("{blocks:?}");
        };
        let told = shell(backup, dir.path(), &[]).await?;
        ensure!(
            told.contains("bytes, checked") && told.contains(".wharf/key"),
            "{told}"
        );
        traffic.goes_on(20).await?;
        let again = shell(backup, dir.path(), &[]).await;
        ensure!(
            again.is_err_and(|why| why.to_string().contains("--force")),
            "it was overwritten"
        );
        let mode = fs::metadata(dir.path().join("wharf-backup.db"))?
            .permissions()
            .mode();
        ensure!(mode & 0o777 == 0o600, "{mode:o}");
        shell(key, dir.path(), &[]).await?;
        traffic.settle_down(load).await?;
        ensure!(running.stop().await?.success());

        let told = shell(restore, dir.path(), &[]).await?;
        ensure!(told.contains("first"), "{told}");
        let restored = dir.path().join("restored");
        let restored_dir = restored.display().to_string();
        let running = host(&site)
            .env("WHARF_DATA_DIR", &restored_dir)
            .start()
            .await?;
        let ledger = format!("sqlite:{}", restored.join("wharf.db").display());
        let traffic = traffic.restored(site, Ledger::connect(&ledger).await?, before.clone())?;
        traffic.ask(&[running.base_url()]);
        // What was pending in the backup is done now.
        traffic.settle_down(traffic.start(0)).await?;
        let logs = traffic.audit_ledger().await?;
        ensure!(logs >= before.len(), "{logs} logs of {}", before.len());
        traffic.repeat_promises(&running).await
    })
}

#[test]
fn a_dump_is_restored() -> Result<()> {
    wharf_tests::run(async {
        let programs = postgres_programs().is_some() || which("pg_restore");
        ensure!(
            programs,
            "pg_dump and pg_restore come with the server that the tests need"
        );
        let site = Site::open(Backend::Postgres).await?;
        let mut running = host(&site).start().await?;
        let traffic = Traffic::open(&running, fastrand::u64(..)).await?;
        let load = traffic.start(CLIENTS);
        traffic.goes_on(40).await?;
        let before = traffic.promises();
        let dir = TempDir::new()?;
        let blocks = commands("PostgreSQL")?;
        let [dump, restore] = &blocks[..] else {
            anyhow::bail!("{blocks:?}");
        };
        let new = Database::create().await?;
        let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let variables = [
            ("DATABASE_URL", site.database().url()),
            ("RESTORED_URL", new.url()),
            ("WHARF_ENCRYPTION_KEY", key),
        ];
        shell(dump, dir.path(), &variables).await?;
        traffic.goes_on(10).await?;
        traffic.settle_down(load).await?;
        ensure!(running.stop().await?.success());
        let told = shell(restore, dir.path(), &variables).await?;
        ensure!(told.contains("first"), "{told}");
        let running = host(&site).env("DATABASE_URL", new.url()).start().await?;
        let traffic = traffic.restored(site, Ledger::connect(new.url()).await?, before.clone())?;
        traffic.ask(&[running.base_url()]);
        traffic.settle_down(traffic.start(0)).await?;
        let logs = traffic.audit_ledger().await?;
        ensure!(logs >= before.len(), "{logs} logs of {}", before.len());
        traffic.repeat_promises(&running).await?;
        // `wharf backup` says that this is not its business.
        let said = refused(host(traffic.site()).command(&["backup", "x.db"])).await?;
        ensure!(said.contains("pg_dump"), "{said}");
        Ok(())
    })
}

fn which(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A site that worked for a while, and what it promised; nothing works on it any more.
async fn filled(site: &Arc<Site>) -> Result<Traffic> {
    let mut running = host(site).start().await?;
    let traffic = Traffic::open(&running, fastrand::u64(..)).await?;
    let load = traffic.start(CLIENTS);
    traffic.goes_on(80).await?;
    traffic.settle_down(load).await?;
    traffic.audit().await?;
    traffic.ledger().close().await;
    ensure!(running.stop().await?.success());
    Ok(traffic)
}

#[test]
fn a_host_moves_to_postgres_and_goes_on() -> Result<()> {
    wharf_tests::run(async {
        let old = Site::open(Backend::Embedded).await?;
        let new = Site::open(Backend::Postgres).await?;
        let to = new.database().url().to_owned();
        let copy = |words: &[&str]| {
            host(&old)
                .command(&[&["copy", "--json"][..], words].concat())
                .env("WHARF_COPY_TO", &to)
        };
        let mut idle = host(&old).start().await?;
        let said = refused(copy(&[])).await?;
        ensure!(
            said.contains("is in use") && said.contains("wharf.db"),
            "{said}"
        );
        ensure!(idle.stop().await?.success());
        let traffic = filled(&old).await?;
        let key = fs::read_to_string(old.data_dir().join("key"))?;
        let key = key.trim();
        let moved = || host(&new).env("WHARF_ENCRYPTION_KEY", key);

        let wrong = "ab".repeat(32);
        let said = refused(copy(&[]).env("WHARF_ENCRYPTION_KEY", &wrong)).await?;
        ensure!(said.contains("the wrong WHARF_ENCRYPTION_KEY"), "{said}");
        let (status, said) = copy(&["--to", "postgres://u:hidden@db/wharf"])
            .run()
            .await?;
        ensure!(
            status.code() == Some(2) && said.contains("password") && !said.contains("hidden"),
            "{said}"
        );
        // Killed before and after a commit, it goes on where it was.
        for failpoint in ["copy.commit.after:3", "copy.commit.before:2"] {
            let (status, said) = copy(&[]).env("WHARF_FAILPOINT", failpoint).run().await?;
            ensure!(!status.success(), "it was to be killed: {said}");
            let said = refused(moved()).await?;
            ensure!(said.contains("was not finished"), "{said}");
        }
        let said = run(copy(&[])).await?;
        let said: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        let tables = said["tables"].as_array().context("tables")?;
        ensure!(tables.iter().all(|table| table["same"] == true), "{said}");
        let rows = |name: &str| {
            tables
                .iter()
                .find(|table| table["table"] == name)
                .map(|table| table["target"].clone())
        };
        ensure!(rows("stores") == Some(json!(4)), "{said}");
        let said = refused(copy(&[])).await?;
        ensure!(said.contains("is not empty"), "{said}");

        let traffic = traffic.moved(new.clone()).await?;
        println!("moved: {}", traffic.audit().await?);
        let mut running = moved().start().await?;
        traffic.ask(&[running.base_url()]);
        traffic.repeat_promises(&running).await?;
        let load = traffic.start(CLIENTS);
        traffic.goes_on(40).await?;
        let said = refused(back(&new, key, &old)).await?;
        ensure!(said.contains("is in use (wharf all roles)"), "{said}");
        traffic.settle_down(load).await?;
        println!("went on: {}", traffic.audit().await?);
        ensure!(running.stop().await?.success());
        // And back, into a file that is made.
        let said = run(back(&new, key, &old)).await?;
        ensure!(said.contains("All is in SQLite in "), "{said}");
        Ok(())
    })
}

fn back(from: &Arc<Site>, key: &str, to: &Arc<Site>) -> HostBuilder {
    let file = format!("sqlite:{}", to.dir().join("back.db").display());
    host(from)
        .command(&["copy", "--to", &file])
        .env("WHARF_ENCRYPTION_KEY", key)
}

async fn an_organization_is_exported_while_hosts_work(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    let running = host(&site).start().await?;
    let traffic = Traffic::open(&running, fastrand::u64(..)).await?;
    let load = traffic.start(CLIENTS);
    traffic.goes_on(40).await?;
    let during = site.dir().join("during.ndjson");
    let file = during.display().to_string();
    run(site
        .host()
        .command(&["export", "--organization", "north", "--output", &file]))
    .await?;
    let (lines, _) = export(&fs::read_to_string(&during)?)?;
    ensure!(
        lines.iter().any(|line| line["type"] == "receipt"),
        "{lines:?}"
    );
    ensure!(
        fs::metadata(&during)?.permissions().mode() & 0o777 == 0o600,
        "others may read it"
    );
    let again = site.host().command(&["export", "--all", "--output", &file]);
    ensure!(
        refused(again).await?.contains("--force"),
        "it was overwritten"
    );
    traffic.settle_down(load).await?;

    let printed = run(site.host().command(&["export", "--all"])).await?;
    // Behind the lines stands what was told on stderr.
    let (lines, counts) = export(printed.split("exported: ").next().unwrap_or_default())?;
    let ledger = Ledger::open(&site).await?;
    for (kind, table) in [
        ("store", "stores"),
        ("receipt", "sync_logs"),
        ("webhook", "webhook_endpoints"),
        ("delivery", "callback_deliveries"),
        ("attempt", "callback_attempts"),
        ("event", "callback_outbox"),
    ] {
        let rows = ledger
            .number(&format!("select count(*) from {table}"))
            .await?;
        ensure!(counts[kind] == rows, "{kind}: {counts}, and {rows} rows");
        let lines = lines.iter().filter(|line| line["type"] == kind).count();
        ensure!(counts[kind] == lines, "{kind}: {counts}, and {lines} lines");
    }
    for secret in traffic.secrets() {
        ensure!(!printed.contains(secret), "a secret is in it");
    }
    for shop in traffic.shops() {
        ensure!(!printed.contains(&shop.sync_token), "a token is in it");
    }
    let nobody = site.host().command(&["export", "--organization", "nobody"]);
    ensure!(
        refused(nobody)
            .await?
            .contains("nothing of organization nobody")
    );
    Ok(())
}

/// The lines of an export that is whole, and the counts of its end.
fn export(text: &str) -> Result<(Vec<Value>, Value)> {
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    let mut lines: Vec<Value> = lines.collect::<Result<_>>()?;
    let end = lines.pop().context("no line")?;
    ensure!(end["type"] == "end", "it was cut off: {end}");
    let head = lines.remove(0);
    ensure!(head["type"] == "export" && head["format"] == 1, "{head}");
    Ok((lines, end["counts"].clone()))
}

on_every_backend!(an_organization_is_exported_while_hosts_work);
