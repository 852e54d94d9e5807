//! A guest's words on their way into logs, errors and the database.

/// Characters of a guest's words for people that are kept.
const MAX_REASON_CHARS: usize = 500;

/// Cuts a guest's words and removes control characters: NUL breaks databases, line ends forge logs.
pub(crate) fn for_people(text: &str) -> String {
    let kept = text.chars().take(MAX_REASON_CHARS);
    kept.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
