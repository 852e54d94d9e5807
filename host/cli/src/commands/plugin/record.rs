//! `wharf plugin record`: a vector from a real call.
#![allow(
    clippy::disallowed_methods,
    reason = "a command writes its file when everything else is done"
)]

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::json;

use super::{
    author::{FileArgs, sandbox},
    question::QuestionArgs,
    trace,
};
use crate::{
    output::{self, Format},
    usage::UsageError,
};

/// `wharf plugin record`.
#[derive(Args)]
#[command(after_help = "\
Example:
  wharf plugin record corner.wasm --receipt A-1250 --out conformance/a-1250.json

Asks once, for real, with the grants and secrets that stand beside the component, and writes the question, each exchange
with the marketplace and the answer as a vector. The values of credentials are not in it; look at the rest before you
share it: it is what your marketplace answered.")]
pub(super) struct RecordArgs {
    #[command(flatten)]
    component: FileArgs,
    #[command(flatten)]
    question: QuestionArgs,
    /// The file of vectors to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Asks once and writes the vector.
pub(super) async fn run(args: RecordArgs, format: Format) -> anyhow::Result<()> {
    let out = args.out.display().to_string();
    // Before anybody is asked. It may be somebody's work.
    if args.out.exists() {
        return Err(UsageError::new(format!("{out} is there already")).into());
    }
    let (component, grants) = args.component.read()?;
    let asked = sandbox(args.component.compiling, Some(&args.component.secrets))?
        .validate_once(component, grants.as_deref(), args.question.request()?)
        .await?;
    let vectors = asked.vectors.map_err(|why| {
        trace::show(&asked.exchanges);
        anyhow!("no vector can be written: {why}")
    })?;
    write_new(&args.out, &vectors).with_context(|| format!("{out} cannot be written"))?;
    let count = asked.exchanges.len();
    match format {
        Format::Json => output::json(&json!({"file": out, "exchanges": count}))?,
        Format::Text => output::line(&format!("{out}: one vector, {count} exchanges")),
    }
    Ok(())
}

fn write_new(path: &PathBuf, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .open(path)?;
    writeln!(file, "{text}")
}
