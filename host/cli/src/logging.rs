//! The log on stderr: format, level, and how it shares spans with traces.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

use crate::{
    log_buffer::{FlushAtEnd, LogBuffer},
    traces::Traces,
};

/// Options of the log.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoggingArgs {
    /// Log lines for people (`pretty`) or as JSON (`json`); `auto` is pretty on a terminal.
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_name = "LOG_FORMAT",
        default_value = "auto"
    )]
    log_format: LogFormat,
    /// The lowest level to log, or directives such as `info,sqlx=debug` (RUST_LOG is understood too).
    #[arg(long, global = true, env = "LOG_LEVEL", value_name = "LOG_LEVEL", value_parser = directives)]
    log_level: Option<String>,
}

/// The setting LOG_FORMAT.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people where stderr is a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The readers of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// People: short lines, with colour on a terminal.
    People,
    /// Programs: one JSON object a line.
    Programs,
}

/// The level of a command that was told none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// Everything that an operator wants to follow.
    Info,
    /// Only what is wrong.
    Warn,
}

impl LoggingArgs {
    /// Returns the readers of the log.
    pub(crate) fn style(&self) -> Style {
        match self.log_format {
            LogFormat::Pretty => Style::People,
            LogFormat::Json => Style::Programs,
            LogFormat::Auto if std::io::stderr().is_terminal() => Style::People,
            LogFormat::Auto => Style::Programs,
        }
    }
}

fn directives(text: &str) -> Result<String, String> {
    // To the library a bare word that is no level is a target: `warning` would silence everything else.
    let is_known = |directive: &str| {
        directive.contains('=') || directive.trim().parse::<LevelFilter>().is_ok()
    };
    match EnvFilter::try_new(text) {
        Ok(_) if text.split(',').all(is_known) => Ok(text.to_owned()),
        // The library's own message says where its parser stopped, not what is expected.
        _ => Err(
            "must be off, error, warn, info, debug, trace or directives such as info,sqlx=debug"
                .into(),
        ),
    }
}

/// Starts logging to stderr, and collecting traces if there are to be any. LOG_LEVEL goes before RUST_LOG, and that
/// before the command's own level. Keep what is returned until the process ends.
///
/// # Errors
/// If the system gives no thread for the log.
pub(crate) fn start(
    args: &LoggingArgs,
    default: Level,
    traces: &Traces,
) -> std::io::Result<FlushAtEnd> {
    let fallback = match default {
        Level::Info => "info",
        Level::Warn => "warn",
    };
    let from_environment = || {
        std::env::var("RUST_LOG")
            .ok()
            // RUST_LOG is often set for other programs: what cannot be read there stops nobody.
            .and_then(|text| directives(&text).ok())
    };
    let directives = args
        .log_level
        .clone()
        .or_else(from_environment)
        .unwrap_or_else(|| fallback.into());
    let (style, filter) = (args.style(), filter(&directives));
    let buffer = LogBuffer::start(std::io::stderr())?;
    match traces.layer() {
        // The filter is the whole log's here. As one layer's alone it would lose lines: sqlx asks before every statement
        // whether to log it, and what says yes to everything else goes by that answer then. Beside a second filter, which
        // says no to all that is no trace, it is asked each time.
        None => tracing_subscriber::registry()
            .with(filter)
            .with(lines(style, &buffer))
            .init(),
        Some(layer) => tracing_subscriber::registry()
            .with(lines(style, &buffer).with_filter(filter))
            .with(layer)
            .init(),
    }
    Ok(FlushAtEnd(buffer))
}

/// The filter of the log. It switches the spans of traces off, so that they are made only when they are collected.
fn filter(directives: &str) -> EnvFilter {
    // Added last, so that it replaces a directive of the operator's for the same target.
    let no_traces = format!("{}=off", wharf_app::TRACES)
        .parse()
        .expect("a target and a level");
    EnvFilter::new(directives).add_directive(no_traces)
}

fn lines<S>(style: Style, buffer: &LogBuffer) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // Stderr, for stdout carries results, which programs read.
    let lines = tracing_subscriber::fmt::layer();
    match style {
        Style::People => {
            let colour = std::io::stderr().is_terminal()
                // The convention of no-color.org: set and not empty.
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            // At once: somebody looks at it.
            let lines = lines.with_writer(std::io::stderr);
            lines.compact().with_ansi(colour).with_target(false).boxed()
        }
        Style::Programs => lines
            .with_writer(buffer.clone())
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_level_or_directives() {
        for good in [
            "off",
            "warn",
            "INFO",
            "info,sqlx=debug",
            "sqlx=debug",
            "info,[request{a=1}]=trace",
        ] {
            assert!(directives(good).is_ok(), "{good}");
        }
        for bad in ["warning", "verbose", "info,sqlx", "wharf", "wharf=loud"] {
            assert!(directives(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_of_traces_are_not_made_for_the_log() {
        let log = tracing_subscriber::registry()
            .with(filter("trace"))
            .with(lines(
                Style::Programs,
                &LogBuffer::start(std::io::sink()).expect("a thread"),
            ));
        tracing::subscriber::with_default(log, || {
            assert!(tracing::info_span!("of the log").id().is_some());
            assert!(tracing::info_span!(target: wharf_app::TRACES, "of a trace").is_disabled());
        });
    }
}
