//! Printing. A reader that has gone away (`wharf schema | head`) is no reason to fail.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

/// The format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A line on stdout.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line on stderr.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A value as indented JSON on stdout.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a host's answer: as it came for programs, in words for people.
pub(crate) fn answer(
    format: Format,
    answer: &Value,
    in_words: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    match format {
        Format::Json => json(answer)?,
        Format::Text => line(&in_words(answer)),
    }
    Ok(())
}

/// A member of an answer in a cell of a table: on one line, `-` where there is none.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text
            .chars()
            // Answers of receivers are strangers' text: their escape sequences must not drive the operator's terminal.
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
        other => other.to_string(),
    }
}

/// A table without lines.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if header.iter().any(|name| !name.is_empty()) {
        table.set_header(header);
    }
    table.add_rows(rows);
    table.to_string()
}
