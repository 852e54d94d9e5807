//! Texts in URLs and forms.

/// A text as one segment of a URL's path, or as a value of its query: all but letters, digits and `-._~` is
/// percent-encoded (RFC 3986).
///
/// ```
/// use wharf_plugin_sdk::http;
///
/// assert_eq!(http::encode("A 1/ü"), "A%201%2F%C3%BC");
/// ```
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

/// Pairs as the body of a form: `application/x-www-form-urlencoded`, by the URL Standard.
pub(super) fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let text = |text: &str| {
        // A blank is a plus there, and a tilde is encoded.
        encode(text)
            .replace("%20", "+")
            .replace('~', "%7E")
            .replace("%2A", "*")
    };
    let pairs = pairs.into_iter();
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{}={}", text(name), text(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded_by_the_url_standard() {
        let pairs = [("grant_type", "client credentials"), ("a&b", "x=1+~*ü")];
        assert_eq!(
            form(pairs),
            "grant_type=client+credentials&a%26b=x%3D1%2B%7E*%C3%BC"
        );
        assert_eq!(form([]), "");
    }
}
