//! Exchanges of a plugin with its marketplace, shown to its author on stderr.

use wharf_engine::{RecordedAnswer, RecordedExchange};

use crate::output;

/// Characters of a body that are shown.
const MAX_SHOWN: usize = 4_000;

/// Shows exchanges in their order.
pub(super) fn show(exchanges: &[RecordedExchange]) {
    for exchange in exchanges {
        output::complain(&text(exchange));
    }
    if exchanges.is_empty() {
        output::complain("it asked nobody");
    }
}

fn text(exchange: &RecordedExchange) -> String {
    let mut lines = vec![format!("> {} {}", exchange.method, exchange.url)];
    lines.extend(headers('>', &exchange.headers));
    lines.extend(
        exchange
            .credentials
            .iter()
            .map(|name| format!("> (the credential {name}, which the host adds)")),
    );
    lines.extend(body('>', &exchange.body));
    match &exchange.answer {
        Ok(RecordedAnswer {
            status,
            headers: answered,
            body: text,
        }) => {
            lines.push(format!("< {status}, after {} ms", exchange.took_ms));
            lines.extend(headers('<', answered));
            lines.extend(body('<', text));
        }
        Err(why) => lines.push(format!("< no answer, after {} ms: {why}", exchange.took_ms)),
    }
    lines
        .iter()
        .map(|line| harmless(line) + "\n")
        .collect::<String>()
}

fn headers(mark: char, headers: &[(String, String)]) -> impl Iterator<Item = String> {
    headers
        .iter()
        .map(move |(name, value)| format!("{mark} {name}: {value}"))
}

fn body(mark: char, text: &str) -> Vec<String> {
    let shown: String = text.chars().take(MAX_SHOWN).collect();
    let rest = text.chars().count().saturating_sub(MAX_SHOWN);
    let mut lines: Vec<_> = shown.lines().map(|line| format!("{mark} {line}")).collect();
    if rest > 0 {
        lines.push(format!("{mark} ... and {rest} characters more"));
    }
    lines
}

/// Strangers' text: its escape sequences must not drive the author's terminal.
fn harmless(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_are_shown_line_by_line() {
        let exchange = RecordedExchange {
            method: "GET".into(),
            url: "https://a/".into(),
            headers: vec![("accept".into(), "text/plain".into())],
            credentials: vec!["marketplace".into()],
            body: String::new(),
            answer: Ok(RecordedAnswer {
                status: 200,
                headers: vec![],
                body: "one\n\u{1b}[31mtwo".into(),
            }),
            took_ms: 7,
        };
        assert_eq!(
            text(&exchange),
            "> GET https://a/\n> accept: text/plain\n> (the credential marketplace, which the host adds)\n\
             < 200, after 7 ms\n< one\n<  [31mtwo\n"
        );
        let failed = RecordedExchange {
            answer: Err("ConnectionRefused".into()),
            ..exchange
        };
        assert!(text(&failed).ends_with("< no answer, after 7 ms: ConnectionRefused\n"));
    }
}
