//! Operations on the plugins of a running host.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{
    list::state,
    remote::{HostArgs, Remote, text},
};
use crate::{
    output::{self, Format},
    usage::{read, read_text},
};

/// Digits of a digest that are enough to name a revision.
const MIN_DIGITS: usize = 6;

/// `wharf plugin push`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin push corner.wasm
  wharf plugin push build/corner-1.2.wasm --name corner --grants corner.toml
  WHARF_ADMIN_TOKEN=... wharf plugin push corner.wasm --url https://wharf.example.com

Without --grants a plugin that serves already keeps its grants.")]
pub(super) struct PushArgs {
    /// The component
    file: PathBuf,
    /// The plugin's name on the host [default: the file's name without `.wasm`]
    #[arg(long)]
    name: Option<String>,
    /// Its grants: a file as `plugins/<name>.toml`
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
}

/// `wharf plugin disable`.
#[derive(Args)]
pub(super) struct DisableArgs {
    #[command(flatten)]
    plugin: NamedArgs,
    #[command(flatten)]
    why: ReasonArgs,
}

/// `wharf plugin quarantine`.
#[derive(Args)]
pub(super) struct QuarantineArgs {
    #[command(flatten)]
    revision: RevisionArgs,
    #[command(flatten)]
    why: ReasonArgs,
}

#[derive(Args)]
struct ReasonArgs {
    /// The reason, for the audit
    #[arg(long)]
    reason: Option<String>,
}

/// A plugin of a host.
#[derive(Args)]
pub(super) struct NamedArgs {
    /// The plugin's name on the host
    name: String,
    #[command(flatten)]
    host: HostArgs,
}

/// A revision of a plugin.
#[derive(Args)]
pub(super) struct RevisionArgs {
    #[command(flatten)]
    plugin: NamedArgs,
    /// The revision's digest, or its first digits
    digest: String,
}

/// Sends a component.
pub(super) async fn push(args: PushArgs, format: Format) -> anyhow::Result<()> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let stem = args.file.file_stem().and_then(|stem| stem.to_str());
            stem.context("the file has no name; give one with --name")?
                .to_owned()
        }
    };
    let component = read(&args.file)?;
    let grants = args.grants.as_deref().map(read_text).transpose()?;
    let plugin = Remote::new(&args.host)?
        .push(&name, component, grants)
        .await?;
    show(&plugin, format)
}

/// Lets a kept revision serve.
pub(super) async fn activate(args: RevisionArgs, format: Format) -> anyhow::Result<()> {
    args.change("activate", None, format).await
}

/// Goes back to the revision before.
pub(super) async fn rollback(args: NamedArgs, format: Format) -> anyhow::Result<()> {
    args.change("rollback", json!({}), format).await
}

/// Disables a plugin.
pub(super) async fn disable(args: DisableArgs, format: Format) -> anyhow::Result<()> {
    args.plugin
        .change("disable", json!({"reason": args.why.reason}), format)
        .await
}

/// Enables a plugin again.
pub(super) async fn enable(args: NamedArgs, format: Format) -> anyhow::Result<()> {
    args.change("enable", json!({}), format).await
}

/// Quarantines a revision.
pub(super) async fn quarantine(args: QuarantineArgs, format: Format) -> anyhow::Result<()> {
    args.revision
        .change("quarantine", args.why.reason.as_deref(), format)
        .await
}

/// Releases a revision from quarantine.
pub(super) async fn release(args: RevisionArgs, format: Format) -> anyhow::Result<()> {
    args.change("release", None, format).await
}

impl NamedArgs {
    async fn change(&self, what: &str, body: Value, format: Format) -> anyhow::Result<()> {
        let plugin = Remote::new(&self.host)?
            .change(&self.name, what, &body)
            .await?;
        show(&plugin, format)
    }
}

impl RevisionArgs {
    async fn change(&self, what: &str, reason: Option<&str>, format: Format) -> anyhow::Result<()> {
        let remote = Remote::new(&self.plugin.host)?;
        let digest = if self.digest.len() == 64 {
            self.digest.clone()
        } else {
            // Made whole here: the host changes exactly the revision that was looked up.
            full_digest(&remote.inspect(&self.plugin.name).await?, &self.digest)?
        };
        let plugin = remote
            .change(
                &self.plugin.name,
                what,
                &json!({"digest": digest, "reason": reason}),
            )
            .await?;
        show(&plugin, format)
    }
}

/// Returns the one revision whose digest begins with these digits.
fn full_digest(plugin: &Value, digits: &str) -> anyhow::Result<String> {
    if digits.len() < MIN_DIGITS {
        bail!("give at least {MIN_DIGITS} digits of the digest");
    }
    // The host tells digests in lower case; people paste them from anywhere.
    let digits = digits.to_ascii_lowercase();
    let revisions = plugin["revisions"].as_array().into_iter().flatten();
    let mut found: Vec<&str> = revisions
        .filter_map(|revision| revision["digest"].as_str())
        .collect();
    found.retain(|digest| digest.starts_with(&digits));
    // A revision can be listed twice, as retained and as quarantined.
    found.dedup();
    match found[..] {
        [digest] => Ok(digest.to_owned()),
        [] => bail!("the host knows no revision {digits}; `wharf plugin inspect` lists them"),
        _ => bail!("more than one revision begins with {digits}; give more digits"),
    }
}

/// Shows the plugin as it is now, in one line.
pub(super) fn show(plugin: &Value, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return Ok(output::json(plugin)?);
    }
    let is_out = plugin["state"] == "out-of-service";
    let serves = match (plugin["serves"].as_str(), plugin["digest"].as_str()) {
        (Some(name), Some(digest)) if !is_out => {
            format!(", serves {name} with revision {:.12}", digest)
        }
        _ => String::new(),
    };
    output::line(&format!(
        "{}: {}{serves}",
        text(&plugin["plugin"]),
        state(plugin)
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_digits_name_a_revision() {
        let (one, two) = ("aaaaaaaa".repeat(8), "aaaaaabb".repeat(8));
        let plugin = json!({"revisions": [{"digest": one}, {"digest": two}]});
        assert_eq!(full_digest(&plugin, "AAAAAABB").ok(), Some(two));
        for (digits, why) in [
            ("aaaaaa", "more than one"),
            ("bbbbbb", "knows no"),
            ("aaaaa", "at least"),
        ] {
            assert!(
                full_digest(&plugin, digits)
                    .expect_err(digits)
                    .to_string()
                    .contains(why)
            );
        }
    }
}
