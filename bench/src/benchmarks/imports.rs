//! First and repeated imports, beside pgbench with the same statements.

use std::cell::Cell;

use anyhow::{Result, ensure};

use super::{CLIENTS, shares};
use crate::{
    load::{self, Load},
    pgbench::{self, Script, statement},
    report::{Direction, Figure},
    rounds::{Pairs, Plan, median},
    site::{STORE_ID, SYNC_TOKEN, Site, sync_token},
    wharf::Process,
};

const STORES: usize = 100;

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let site = Site::open("imports").await?;
    site.register_stores(STORES).await?;
    let wharf = Process::wharf(&site, &["serve", "--role", "api"]).await?;
    let mut figures = first_imports(plan, &site, &wharf).await?;
    figures.push(repeated_imports(plan, &site, &wharf).await?);
    Ok(figures)
}

async fn first_imports(plan: &Plan, site: &Site, wharf: &Process) -> Result<Vec<Figure>> {
    let (mut pairs, mut p99s) = (Pairs::default(), Vec::new());
    let (mut note, mut imported) = (String::new(), 0);
    let number = Cell::new(0);
    for round in 0..plan.rounds {
        let before = wharf.cpu()?;
        let ours = import(plan, wharf, || number.replace(number.get() + 1)).await?;
        note = shares(&ours, wharf.cpu()? - before);
        imported += ours.answers;
        p99s.push(ours.p99_ms);
        pairs.push(
            ours.rate,
            pgbench::run(site, &first(round)?, CLIENTS, plan.turn).await?,
        );
    }
    let kept = site
        .number("select count(*) from sync_logs where receipt like 'w-%' and status = 'success'")
        .await?;
    ensure!(
        usize::try_from(kept)? == imported,
        "{imported} imports were answered, {kept} are in the database"
    );
    let direction = Direction::RatioAtLeast(0.8);
    Ok(vec![
        Figure::beside("first imports", &pairs, "imports/s", "pgbench", direction).with_note(note),
        Figure::alone(
            "first imports, p99",
            median(p99s.into_iter()),
            "ms",
            Direction::AtMost(60.0),
        ),
    ])
}

async fn repeated_imports(plan: &Plan, site: &Site, wharf: &Process) -> Result<Figure> {
    const RECEIPTS: usize = 1_000;
    let mut pairs = Pairs::default();
    let mut note = String::new();
    let number = Cell::new(0);
    for _ in 0..plan.rounds {
        let before = wharf.cpu()?;
        let ours = import(plan, wharf, || {
            number.replace((number.get() + 1) % RECEIPTS)
        })
        .await?;
        note = shares(&ours, wharf.cpu()? - before);
        pairs.push(
            ours.rate,
            pgbench::run(site, &repeated()?, CLIENTS, plan.turn).await?,
        );
    }
    Ok(Figure::beside(
        "repeated imports",
        &pairs,
        "imports/s",
        "pgbench, the one SELECT",
        Direction::Open,
    )
    .with_note(note))
}

/// Imports the receipts of these numbers, spread over the stores. All of them are accepted: they end in 01.
async fn import(plan: &Plan, wharf: &Process, next: impl Fn() -> usize) -> Result<Load> {
    load::drive(
        wharf.address()?,
        CLIENTS,
        plan.turn,
        (200, "\"success\":true"),
        |request| {
            let number = next();
            let token = sync_token(1 + number % STORES).0;
            let body = format!(r#"{{"syncToken":"{token}","receipt":"w-{number:012}-01"}}"#);
            load::post(request, "/orders/import", "", &body);
        },
    )
    .await
}

/// The number of a client's transaction, as text of twelve digits.
const NUMBER: &str = "lpad(:number, 12, '0')";
/// The same of a store.
const STORE: &str = "lpad(:store, 12, '0')";

/// What one first import runs, with the values that it binds: one read, then one transaction. As in Wharf ids rise with
/// time, stores take turns and the sets of rows come as JSON; the database fills the numbers into it.
fn first(round: usize) -> Result<Script> {
    let receipt = format!("'p-' || {NUMBER} || '-01'");
    let json = |name| format!("replace(replace(:{name}, 'NUMBER', {NUMBER}), 'STORE', {STORE})");
    let text = [
        // Rounds, then turns, then clients: unique, and nearly in the order of time.
        "\\set turn :turn + 1\n\\set number :turn * 100 + :client_id\n\\set store 1 + :number % 100\n".to_owned(),
        statement("logs::LOOK_UP", &[&token(), &receipt])?,
        "begin;\n".to_owned(),
        statement("stores::LOCK", &[&json("ids")])?,
        statement("logs::INSERT", &[&json("logs")])?,
        statement("stores::RECENT", &[&json("ids")])?,
        statement("stores::APPLY", &[&json("counts")])?,
        "commit;\n".to_owned(),
    ]
    .concat();
    let at = "2026-01-01T12:00:00.000000Z";
    let id = format!("{STORE_ID}STORE");
    let logs = format!(
        r#"[{{"id":"00000000-0000-7000-9000-NUMBER","store_id":"{id}","receipt":"p-NUMBER-01","created_at":"{at}","status":"success","attempt":1,"next_retry_at":null,"exhausted":0,"order_id":"order-NUMBER","amount":"123.45","currency":"USD","imported_at":"{at}","last_error":null,"plugin_digest":"{}","plugin_faults":0,"refusals":0,"request_id":"0190a5e4-7b1c-7def-8abc-0123456789ab"}}]"#,
        "0123456789abcdef".repeat(4)
    );
    let counts = format!(
        r#"[{{"id":"{id}","imported":1,"rate_limited":0,"sync_status":"success","last_sync_at":"{at}","last_run_at":null,"updated_at":"{at}"}}]"#
    );
    let variables = vec![
        ("turn", (round * 10_000_000).to_string()),
        ("ids", format!(r#"[{{"id":"{id}"}}]"#)),
        ("logs", logs),
        ("counts", counts),
        ("token", SYNC_TOKEN.to_owned()),
    ];
    Ok(Script { text, variables })
}

/// The script of a repeated import: the one read.
fn repeated() -> Result<Script> {
    let receipt = format!("'w-' || {NUMBER} || '-01'");
    let text = "\\set number random(0, 999)\n\\set store 1 + :number % 100\n".to_owned();
    let text = text + &statement("logs::LOOK_UP", &[&token(), &receipt])?;
    Ok(Script {
        text,
        variables: vec![("token", SYNC_TOKEN.to_owned())],
    })
}

fn token() -> String {
    format!("cast(:token || {STORE} as uuid)")
}
