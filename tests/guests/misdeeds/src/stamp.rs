//! Faults that are chosen after compiling. The component holds one text of fixed length; whoever wants a faulty plugin
//! overwrites it in the file, so that one compilation yields as many different faulty components as there are texts.

use std::hint::black_box;

/// The stamp of a component that has none: its length is what a fault may take.
static STAMP: [u8; 128] = *b"wharf-stamp:                                                                                                                    ";

/// A fault and the moment at which it shows, as `when what`: `describe trap`, `unicode spin`, `always amount:-1.00`.
fn stamp() -> Option<(&'static str, &'static str)> {
    // Through a black box, or the compiler would know the text.
    let text = std::str::from_utf8(&black_box(&STAMP)["wharf-stamp:".len()..]).ok()?;
    text.trim_end().split_once(' ')
}

/// The fault of `describe`, if that is when it shows.
pub fn at_describe() -> Option<&'static str> {
    stamp()
        .filter(|(when, _)| *when == "describe")
        .map(|(_, what)| what)
}

/// The fault that shows for this text: a receipt or an organization's id.
pub fn at_text(text: &str) -> Option<&'static str> {
    let (when, what) = stamp()?;
    let shows = match when {
        "always" => true,
        "empty" => text.is_empty(),
        "long" => text.chars().count() > 200,
        "unicode" => !text.is_ascii(),
        "control" => text.chars().any(char::is_control),
        "digits" => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    shows.then_some(what)
}
