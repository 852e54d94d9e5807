//! `wharf plugin list`: the plugins of a folder, or of a host.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use wharf_engine::{Engine, EngineSettings};

use super::remote::{HostArgs, Remote, text};
use crate::{
    output::{self, Format},
    settings::PluginsArgs,
    wiring,
};

/// `wharf plugin list`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin list                                 loads the folder as a host would, and says what became of it
  wharf plugin list --plugins-dir ./build --json
  wharf plugin list --url http://localhost:3000     asks a running host")]
pub(super) struct ListArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    plugins: PluginsArgs,
}

/// Shows every plugin.
pub(super) async fn run(args: ListArgs, format: Format) -> anyhow::Result<()> {
    let listed = if args.host.given_url().is_some() {
        Remote::new(&args.host)?.list().await?
    } else {
        of_folder(&args).await?
    };
    if format == Format::Json {
        return Ok(output::json(&listed["plugins"])?);
    }
    if let Some(problem) = listed["folder_problem"].as_str() {
        output::complain(problem);
    }
    output::line(
        &table(
            listed["plugins"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default(),
        )
        .to_string(),
    );
    Ok(())
}

/// Loads the folder without state: looking must not change what a host beside it serves.
async fn of_folder(args: &ListArgs) -> anyhow::Result<Value> {
    let settings = EngineSettings {
        state_dir: None,
        ..wiring::engine_settings(&args.host.data, &args.plugins)
    };
    let engine = Engine::start(settings)?;
    engine.loaded().await;
    Ok(json!({"plugins": engine.plugins(), "folder_problem": engine.folder_problem()}))
}

fn table(plugins: &[Value]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "PLUGIN", "KIND", "SERVES", "VERSION", "SIZE", "DIGEST", "STATE",
    ]);
    for plugin in plugins {
        let size = plugin["size"]
            .as_u64()
            .map(|bytes| format!("{} KiB", bytes.div_ceil(1024)));
        table.add_row([
            text(&plugin["plugin"]),
            text(&plugin["kind"]),
            text(&plugin["serves"]),
            text(&plugin["version"]),
            size.as_deref().unwrap_or("-"),
            plugin["digest"]
                .as_str()
                .and_then(|digest| digest.get(..12))
                .unwrap_or("-"),
            &state(plugin),
        ]);
    }
    table
}

/// Returns a plugin's state in words.
pub(super) fn state(plugin: &Value) -> String {
    let refusal = &plugin["refusal"];
    match (
        plugin["state"].as_str(),
        refusal["cause"].as_str(),
        plugin["reason"].as_str(),
    ) {
        (Some("refused"), Some(cause), _) => {
            format!("refused at {}: {cause}", text(&refusal["stage"]))
        }
        (Some("needs-approval"), Some(cause), _) => format!("needs approval: {cause}"),
        (Some("out-of-service"), _, Some(reason)) => reason.to_owned(),
        (state, _, _) => state.unwrap_or("-").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_words() {
        for (plugin, words) in [
            (json!({"state": "active"}), "active"),
            (json!({"state": "loading"}), "loading"),
            (
                json!({"state": "refused", "refusal": {"stage": "verify", "cause": "no"}}),
                "refused at verify: no",
            ),
            (
                json!({"state": "needs-approval", "refusal": {"cause": "it asks"}}),
                "needs approval: it asks",
            ),
            (
                json!({"state": "out-of-service", "reason": "disabled: later"}),
                "disabled: later",
            ),
            (json!({}), "-"),
        ] {
            assert_eq!(state(&plugin), words);
        }
    }
}
