use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use wharf_engine::{Engine, Kind, PluginReport, PluginState};

use crate::{
    output::{self, Format},
    settings::{DataArgs, PluginsArgs},
    wiring,
};

/// `wharf plugin`.
#[derive(Args)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Load every plugin of the folder as a host would, and say what became of it.
    List(ListArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin list
  wharf plugin list --plugins-dir ./build --json")]
struct ListArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    plugins: PluginsArgs,
}

/// Does what the subcommand says.
pub(crate) fn run(args: PluginArgs, format: Format) -> anyhow::Result<()> {
    match args.command {
        PluginCommand::List(args) => list(&args, format),
    }
}

fn list(args: &ListArgs, format: Format) -> anyhow::Result<()> {
    let engine = Engine::start(wiring::engine_settings(&args.data, &args.plugins))?;
    let plugins = engine.plugins();
    match format {
        Format::Json => output::json(&plugins)?,
        Format::Text => {
            if let Some(problem) = engine.folder_problem() {
                output::complain(&problem);
            }
            output::line(&table(&plugins).to_string());
        }
    }
    Ok(())
}

fn table(plugins: &[PluginReport]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["PLUGIN", "KIND", "SERVES", "VERSION", "SIZE", "DIGEST", "STATE"]);
    for plugin in plugins {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        table.add_row([
            plugin.plugin.clone(),
            shown(plugin.kind.map(kind)),
            shown(plugin.serves.clone()),
            shown(plugin.version.clone()),
            shown(plugin.size.map(|bytes| format!("{} KiB", bytes.div_ceil(1024)))),
            shown(plugin.digest.map(|digest| digest.to_string().chars().take(12).collect())),
            state(&plugin.state),
        ]);
    }
    table
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Adapter => "adapter".into(),
        Kind::Shaper => "shaper".into(),
    }
}

fn state(state: &PluginState) -> String {
    state.to_string()
}
