//! The author's commands on a component in a file: check, measure and pack.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use wharf_engine::{BenchReport, Digest, Engine, EngineSettings, PackFacts, Spread};

use crate::{
    output::{self, Format},
    settings::{CompileArgs, PluginSecretsArgs},
    usage::{UsageError, read, read_text},
    wiring,
};

/// A component in a file, with its grants.
#[derive(Args)]
pub(super) struct FileArgs {
    /// The component
    pub(super) file: PathBuf,
    #[command(flatten)]
    grants: GrantsArgs,
    #[command(flatten)]
    pub(super) secrets: PluginSecretsArgs,
    #[command(flatten)]
    pub(super) compiling: CompileArgs,
}

#[derive(Args)]
pub(super) struct GrantsArgs {
    /// Its grants [default: the `.toml` file beside the component, if there is one]
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
}

impl GrantsArgs {
    /// Reads the grants for a component.
    pub(super) fn read(&self, component: &Path) -> Result<Option<String>, UsageError> {
        let beside = component.with_extension("toml");
        match &self.grants {
            Some(file) => read_text(file).map(Some),
            // As a host does: the grants lie beside the component, under its name.
            None if beside.is_file() => read_text(&beside).map(Some),
            None => Ok(None),
        }
    }
}

impl FileArgs {
    /// Reads the component's bytes and its grants.
    pub(super) fn read(&self) -> Result<(Vec<u8>, Option<String>), UsageError> {
        Ok((read(&self.file)?, self.grants.read(&self.file)?))
    }
}

/// Starts an engine without plugins. Without secrets it can check plugins, and they can ask nobody.
pub(super) fn sandbox(
    compiling: CompileArgs,
    secrets: Option<&PluginSecretsArgs>,
) -> anyhow::Result<Engine> {
    let settings = EngineSettings {
        secrets_dir: secrets.map(|secrets| secrets.plugin_secrets_dir.clone()),
        ..wiring::compiling(compiling, EngineSettings::in_memory())
    };
    Ok(Engine::start(settings)?)
}

/// `wharf plugin check`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin check corner.wasm
  wharf plugin check plugins/*.wasm --json
  wharf plugin check corner.wasm --grants corner.toml

Reaches no network and reads no secret that the grants name. Exit codes: 0 every file passed, 1 one did not, 2 a file could not be read.")]
pub(super) struct CheckArgs {
    /// The components
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    grants: GrantsArgs,
    #[command(flatten)]
    compiling: CompileArgs,
}

/// Checks components as a host would.
pub(super) async fn check(args: CheckArgs, format: Format) -> anyhow::Result<()> {
    let engine = sandbox(args.compiling, None)?;
    let (mut reports, mut failed) = (Vec::new(), Vec::new());
    for file in &args.files {
        let (component, grants) = (read(file)?, args.grants.read(file)?);
        // One that fails does not end it: a CI wants to see all at once.
        let report = engine.check(component, grants.as_deref()).await;
        if !report.passed() {
            failed.push(file.display().to_string());
        }
        match format {
            Format::Text => output::line(&format!("{}\n{report}\n", file.display())),
            Format::Json => {
                reports.push(json!({"file": file, "passed": report.passed(), "report": report}))
            }
        }
    }
    if format == Format::Json {
        output::json(&reports)?;
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("not fit to serve: {}", failed.join(", "))
    }
}

/// `wharf plugin bench`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin bench corner.wasm
  wharf plugin bench corner.wasm --json | jq .fuel.median

Fuel is the same on every machine, so a CI can hold a plugin to it; time is this machine's.")]
pub(super) struct BenchArgs {
    #[command(flatten)]
    component: FileArgs,
}

/// Measures calls of a component.
pub(super) async fn bench(args: BenchArgs, format: Format) -> anyhow::Result<()> {
    let (component, grants) = args.component.read()?;
    let report = sandbox(args.component.compiling, None)?
        .bench(component, grants.as_deref())
        .await?;
    match format {
        Format::Json => output::json(&report)?,
        Format::Text => output::line(&format!(
            "{} calls, a fresh instance each\n{}",
            report.calls,
            costs(&report)
        )),
    }
    Ok(())
}

fn costs(report: &BenchReport) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["", "LEAST", "MEDIAN", "MAX", "LIMIT"]);
    let row = |name: &str,
               Spread {
                   least,
                   median,
                   most,
               }: Spread,
               limit: String| {
        [
            name.to_owned(),
            least.to_string(),
            median.to_string(),
            most.to_string(),
            limit,
        ]
    };
    table.add_row(row("fuel", report.fuel, "-".into()));
    table.add_row(row(
        "time (us)",
        report.micros,
        format!("{} of CPU", report.limits.cpu.as_micros()),
    ));
    let kib = |bytes: usize| bytes.div_ceil(1024).to_string();
    let peak = kib(report.peak_memory_bytes);
    table.add_row([
        "memory (KiB)",
        "",
        "",
        &peak,
        &kib(report.limits.memory_bytes),
    ]);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// `wharf plugin pack`.
#[derive(Args)]
#[command(after_help = "\
Example, in the folder that `wharf plugin new corner` made:
  wharf plugin pack target/wasm32-wasip2/release/corner.wasm --out corner.wasm

Version, licence and description come from ./Cargo.toml where no option names them.")]
pub(super) struct PackArgs {
    /// The component from the compiler
    file: PathBuf,
    /// The packed component
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The folder of vectors, `*.json` [default: `conformance`, if there is one]
    #[arg(long, value_name = "DIR")]
    conformance: Option<PathBuf>,
    /// A semantic version
    #[arg(long)]
    package_version: Option<String>,
    /// An SPDX expression such as `Apache-2.0 OR MIT`
    #[arg(long)]
    license: Option<String>,
    /// One line for people
    #[arg(long)]
    description: Option<String>,
}

/// Packs a component with the facts of the package in this folder and its vectors.
pub(super) fn pack_file(file: &Path, out: &Path) -> anyhow::Result<()> {
    pack(&PackArgs {
        file: file.to_owned(),
        out: out.to_owned(),
        conformance: None,
        package_version: None,
        license: None,
        description: None,
    })
}

/// Packs a component.
pub(super) fn pack(args: &PackArgs) -> anyhow::Result<()> {
    let package = package_facts(Path::new("Cargo.toml"))?;
    let fact = |given: &Option<String>, name: &str| {
        given
            .clone()
            .or_else(|| package.get(name)?.as_str().map(String::from))
    };
    let facts = PackFacts {
        version: fact(&args.package_version, "version"),
        licenses: fact(&args.license, "license"),
        description: fact(&args.description, "description"),
        vectors: vectors(args.conformance.as_deref())?,
    };
    let packed = wharf_engine::pack(&read(&args.file)?, &facts)?;
    write_beside(&args.out, &packed)?;
    let (files, size) = (facts.vectors.len(), packed.len().div_ceil(1024));
    let digest = Digest::of(&packed).short();
    let of = if files == 1 { "file" } else { "files" };
    output::line(&format!(
        "{}: {size} KiB, {files} {of} of vectors, digest {digest}",
        args.out.display()
    ));
    Ok(())
}

/// Returns the package's own facts; none if there is no package here.
pub(super) fn package_facts(manifest: &Path) -> anyhow::Result<toml::Table> {
    if !manifest.is_file() {
        return Ok(toml::Table::new());
    }
    let manifest: toml::Table = read_text(manifest)?.parse().context("Cargo.toml")?;
    Ok(manifest
        .get("package")
        .and_then(|package| package.as_table())
        .cloned()
        .unwrap_or_default())
}

/// Reads all files of vectors.
fn vectors(dir: Option<&Path>) -> Result<Vec<String>, UsageError> {
    let usual = Path::new("conformance");
    match dir.or(usual.is_dir().then_some(usual)) {
        Some(dir) => wharf_engine::vectors(dir).map_err(|error| UsageError::new(error.to_string())),
        None => Ok(Vec::new()),
    }
}

/// Writes a file beside its place and renames it, so that a host that watches the folder never reads half of it.
fn write_beside(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path
        .file_name()
        .with_context(|| format!("{} is no file", path.display()))?
        .to_string_lossy();
    // It ends in `.new` and not in `.wasm`, so the watching host passes it by.
    let beside = path.with_file_name(format!(".{name}.new"));
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    written.with_context(|| format!("{} cannot be written", path.display()))
}
