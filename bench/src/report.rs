//! What was measured, for people and for programs.

use comfy_table::{
    Cell, CellAlignment, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED,
};
use serde::{Serialize, Serializer};

use crate::rounds::Pairs;

/// One measured figure.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figure {
    /// Its name.
    pub(crate) name: String,
    /// The value.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// The baseline.
    pub(crate) baseline: Option<Baseline>,
    /// The figure's ratio to the baseline.
    pub(crate) ratio: Option<f64>,
    /// The target.
    #[serde(serialize_with = "as_text")]
    pub(crate) direction: Direction,
    /// The target is met; absent where there is none.
    pub(crate) met: Option<bool>,
    /// The machine's shares, and other things to know.
    pub(crate) note: String,
}

/// The baseline of a figure, measured in turns with it.
#[derive(Serialize)]
pub(crate) struct Baseline {
    /// Its name.
    pub(crate) name: &'static str,
    /// The value, in the figure's unit.
    pub(crate) value: f64,
}

/// The target of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    /// Nothing is asked of it.
    Open,
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// At least this part of the baseline.
    RatioAtLeast(f64),
    /// At most this many times the baseline.
    RatioAtMost(f64),
}

impl Figure {
    /// A figure without a baseline.
    pub(crate) fn alone(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        direction: Direction,
    ) -> Self {
        let met = direction.met(value, None);
        Self {
            name: name.into(),
            value,
            unit,
            baseline: None,
            ratio: None,
            direction,
            met,
            note: String::new(),
        }
    }

    /// A figure beside its baseline.
    pub(crate) fn beside(
        name: impl Into<String>,
        pairs: &Pairs,
        unit: &'static str,
        baseline: &'static str,
        direction: Direction,
    ) -> Self {
        let ratio = pairs.ratio();
        Self {
            baseline: Some(Baseline {
                name: baseline,
                value: pairs.baseline(),
            }),
            ratio: Some(ratio),
            met: direction.met(pairs.ours(), Some(ratio)),
            ..Self::alone(name, pairs.ours(), unit, direction)
        }
    }

    /// Adds what else there is to know.
    #[must_use]
    pub(crate) fn with_note(self, note: impl Into<String>) -> Self {
        Self {
            note: note.into(),
            ..self
        }
    }
}

impl Direction {
    fn met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::Open => None,
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Self::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Open => String::new(),
            Self::AtLeast(least) => format!("at least {}", number(least)),
            Self::AtMost(most) => format!("at most {}", number(most)),
            Self::RatioAtLeast(least) => format!("at least {:.0} %", least * 100.0),
            Self::RatioAtMost(most) => format!("at most {most} times"),
        }
    }
}

fn as_text<S: Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&direction.text())
}

/// All figures as a table that fits the terminal.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "benchmark",
        "figure",
        "baseline",
        "ratio",
        "direction",
        "met?",
        "note",
    ]);
    for figure in figures {
        let baseline = figure
            .baseline
            .as_ref()
            .map(|baseline| format!("{} {}", number(baseline.value), baseline.name));
        let met = match figure.met {
            Some(true) => Cell::new("yes").fg(Color::Green),
            Some(false) => Cell::new("no").fg(Color::Red),
            None => Cell::new(""),
        };
        table.add_row([
            Cell::new(&figure.name),
            Cell::new(format!("{} {}", number(figure.value), figure.unit))
                .set_alignment(CellAlignment::Right),
            Cell::new(baseline.unwrap_or_default()),
            Cell::new(
                figure
                    .ratio
                    .map(|ratio| format!("{ratio:.2}"))
                    .unwrap_or_default(),
            ),
            Cell::new(figure.direction.text()),
            met,
            Cell::new(&figure.note),
        ]);
    }
    table.to_string()
}

/// Three digits, with commas between thousands: `12,300`, `4.56`.
fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (4.567, "4.57"),
            (45.67, "45.7"),
            (456.7, "457"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn directions_are_judged() {
        assert_eq!(Direction::Open.met(1.0, None), None);
        assert_eq!(Direction::AtLeast(5.0).met(5.0, None), Some(true));
        assert_eq!(Direction::AtMost(5.0).met(5.1, None), Some(false));
        assert_eq!(
            Direction::RatioAtLeast(0.8).met(1.0, Some(0.79)),
            Some(false)
        );
        assert_eq!(
            Direction::RatioAtMost(1.5).met(100.0, Some(1.4)),
            Some(true)
        );
    }
}
