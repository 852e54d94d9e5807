//! The mock marketplace's validation, beside a bare axum handler.

use anyhow::Result;

use super::{CLIENTS, shares};
use crate::{
    load::{self, Load},
    report::{Direction, Figure},
    rounds::{Pairs, Plan},
    site::Site,
    wharf::Process,
};

/// `etsy_user:etsy_pass`.
const CREDENTIALS: &str = "authorization: Basic ZXRzeV91c2VyOmV0c3lfcGFzcw==\r\n";

pub(crate) async fn run(plan: &Plan) -> Result<Vec<Figure>> {
    let site = Site::open("mock").await?;
    let (wharf, bare) = (
        Process::wharf(&site, &["serve", "--role", "api"]).await?,
        Process::bare().await?,
    );
    let mut pairs = Pairs::default();
    let mut note = String::new();
    for _ in 0..plan.rounds {
        let before = wharf.cpu()?;
        let ours = ask(plan, &wharf).await?;
        note = shares(&ours, wharf.cpu()? - before);
        pairs.push(ours.rate, ask(plan, &bare).await?.rate);
    }
    let direction = Direction::RatioAtLeast(0.6);
    Ok(vec![
        Figure::beside(
            "mock-validate",
            &pairs,
            "requests/s",
            "bare axum",
            direction,
        )
        .with_note(note),
    ])
}

async fn ask(plan: &Plan, server: &Process) -> Result<Load> {
    load::drive(
        server.address()?,
        CLIENTS,
        plan.turn,
        (200, "orderId"),
        |request| {
            load::post(
                request,
                "/mock/etsy/validate",
                CREDENTIALS,
                r#"{"receipt":"order-101","currency":"EUR"}"#,
            );
        },
    )
    .await
}
