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

/// A line on stdout, or several.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", harmless(text));
}

/// A line on stderr, or several.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", harmless(text));
}

/// A value as indented JSON on stdout.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<()> {
    let text = escaped(&serde_json::to_string_pretty(value)?);
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    Ok(())
}

/// True of what drives a terminal instead of being shown by it: control characters, and those that turn the direction
/// of writing, by which a name can look like another (Unicode's UAX 9).
fn is_driving(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A text of several lines, with blanks for what would drive the terminal: names, answers and manifests are strangers'.
fn harmless(text: &str) -> String {
    let shown = |c: char| {
        if is_driving(c) && !matches!(c, '\n' | '\t') {
            ' '
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// JSON that says the same, with escapes for what would drive the terminal. Outside of texts there is nothing such.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_driving(c) && c != '\n' {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
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
        Value::String(text) => harmless(text).replace(['\n', '\t'], " "),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_drive_the_terminal() {
        let evil = "a\u{1b}[2Jb\u{9b}c\u{202e}d\u{2066}e\u{200f}f\u{7f}g\rh";
        let shown = harmless(evil);
        assert_eq!(shown, "a [2Jb c d e f g h");
        assert_eq!(harmless("one\n\ttwo ü 漢"), "one\n\ttwo ü 漢");
        assert_eq!(text(&Value::from("one\ntwo\u{202e}")), "one two ");
        let json = escaped(&serde_json::to_string_pretty(&[evil]).expect("JSON"));
        assert!(!json.chars().any(|c| is_driving(c) && c != '\n'), "{json}");
        let read: Vec<String> = serde_json::from_str(&json).expect("JSON still");
        assert_eq!(read, [evil], "it says the same");
    }
}
