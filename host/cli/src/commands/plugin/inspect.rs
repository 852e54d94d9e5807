//! `wharf plugin inspect`: everything that is known about a file, or about a plugin on a host.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{
    author::sandbox,
    list::state,
    remote::{HostArgs, Remote, text},
};
use crate::{
    output::{self, Format},
    settings::CompileArgs,
    usage::{read, read_text},
};

/// `wharf plugin inspect`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin inspect corner.wasm                          a file: what it is, asks for and may use
  wharf plugin inspect corner                               a plugin of the host at BASE_URL
  wharf plugin inspect corner --url http://localhost:3000 --json")]
pub(super) struct InspectArgs {
    /// A file that ends in `.wasm`, or the name of a plugin on a host
    plugin: String,
    /// A file: what it is granted
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
    #[command(flatten)]
    compiling: CompileArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Shows everything that is known about a plugin.
pub(super) async fn run(args: InspectArgs, format: Format) -> anyhow::Result<()> {
    // A plugin's name holds no dot, so the two cannot be mixed up.
    let plugin = if args.plugin.ends_with(".wasm") {
        of_file(&args).await?
    } else {
        Remote::new(&args.host)?.inspect(&args.plugin).await?
    };
    match format {
        Format::Json => output::json(&plugin)?,
        Format::Text => show(&plugin),
    }
    Ok(())
}

/// Reports on a file in the form of a host's report.
async fn of_file(args: &InspectArgs) -> anyhow::Result<Value> {
    let component = read(args.plugin.as_ref())?;
    let grants = args.grants.as_deref().map(read_text).transpose()?;
    let size = component.len();
    let report = sandbox(args.compiling, None)?
        .check(component, grants.as_deref())
        .await;
    let state = match (&report.refusal, report.passed()) {
        (Some(_), _) => "refused",
        (None, true) => "conformant",
        (None, false) => "not conformant, see `wharf plugin check`",
    };
    Ok(
        json!({"plugin": args.plugin, "size": size, "digest": report.digest, "state": state,
        "kind": report.inspection.as_ref().map(|inspection| inspection.kind), "inspection": report.inspection,
        "manifest": report.manifest, "limits": report.limits, "refusal": report.refusal, "grants": grants}),
    )
}

fn show(plugin: &Value) {
    line("plugin", text(&plugin["plugin"]));
    line("state", &state(plugin));
    for key in ["kind", "serves", "digest", "size", "loaded_at"] {
        line(key, &plain(&plugin[key]));
    }
    for part in ["manifest", "inspection", "limits", "refusal"] {
        section(part, &plugin[part]);
    }
    if let Some(grants) = plugin["grants"].as_str() {
        output::line(&format!(
            "\ngrants\n  {}",
            grants.trim_end().replace('\n', "\n  ")
        ));
    }
    let counters = &plugin["counters"];
    section(
        "counters",
        &counters.as_object().map_or(Value::Null, |counters| {
            counters
                .iter()
                // They have a table of their own below.
                .filter(|(name, _)| *name != "last_faults")
                .map(|(name, n)| (name.clone(), n.clone()))
                .collect()
        }),
    );
    rows(
        "last faults",
        &counters["last_faults"],
        &["at", "blame", "fault"],
    );
    rows(
        "revisions",
        &plugin["revisions"],
        &["digest", "state", "reason"],
    );
    rows(
        "audit",
        &plugin["transitions"],
        &["at", "digest", "from", "to", "actor", "reason"],
    );
}

fn line(name: &str, value: &str) {
    if !value.is_empty() {
        output::line(&format!("{name:<14}{value}"));
    }
}

/// Returns a value as one line; null as an empty one.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{name} {}", plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        value => value.to_string(),
    }
}

fn section(name: &str, members: &Value) {
    let Some(members) = members.as_object() else {
        return;
    };
    output::line(&format!("\n{name}"));
    for (name, value) in members.iter().filter(|(_, value)| !plain(value).is_empty()) {
        let lines = value.as_array().map_or_else(
            || vec![plain(value)],
            |list| list.iter().map(plain).collect(),
        );
        output::line(&format!(
            "  {name:<16}{}",
            lines.join(&format!("\n  {:16}", ""))
        ));
    }
}

fn rows(name: &str, rows: &Value, columns: &[&str]) {
    let Some(rows) = rows.as_array().filter(|rows| !rows.is_empty()) else {
        return;
    };
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|column| column.to_uppercase()));
    for row in rows {
        table.add_row(
            columns
                .iter()
                .map(|column| match (*column, plain(&row[*column])) {
                    ("digest", digest) => digest.chars().take(12).collect(),
                    (_, text) => text,
                }),
        );
    }
    output::line(&format!("\n{name}\n{table}"));
}
