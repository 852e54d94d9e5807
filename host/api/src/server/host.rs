//! The `Host` of a request (RFC 9112, 3.2).

use std::net::Ipv6Addr;

use axum::http::{Request, Version, header};

/// Returns true if the request names its host once and in the right form. Without one a request of HTTP/1.1 is none;
/// HTTP/1.0 knows no host, and HTTP/2 has `:authority` for it.
pub(super) fn is_named<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(is_host),
        // A proxy and this host might else act on different ones of the two.
        (Some(_), Some(_)) => false,
    }
}

/// `uri-host [ ":" port ]` (RFC 3986, 3.2.2), or nothing at all, for a URL without a host.
fn is_host(text: &str) -> bool {
    let (is_name, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (is_reg_name(&text.as_bytes()[..end]), &text[end..])
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_name && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// Unreserved characters, delimiters and percent-encoded bytes. No `@`: a host has no user.
fn is_reg_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() => rest,
            [byte, rest @ ..] if b"-._~!$&'()*+,;=".contains(byte) => rest,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_form() {
        for good in [
            "",
            "a",
            "example.com:80",
            "127.0.0.1:3000",
            "[::1]",
            "[2001:db8::1]:443",
            "a:",
            "x_y",
            "a%20b",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "a b", "a/b", "u@a", "a:b", "a:1:2", "[::1", "[x]", "[::1]x", "a%2", "ä", "a?b", "a, b",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        let named = |version, hosts: &[&str]| {
            let request = hosts.iter().fold(Request::builder(), |request, host| {
                request.header(header::HOST, *host)
            });
            is_named(&request.version(version).body(()).expect("a request"))
        };
        assert!(named(Version::HTTP_11, &["a"]) && named(Version::HTTP_10, &["a"]));
        assert!(named(Version::HTTP_10, &[]) && named(Version::HTTP_2, &[]));
        assert!(!named(Version::HTTP_11, &[]));
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert!(!named(version, &["a", "a"]) && !named(version, &["a b"]));
        }
    }
}
