//! A small blocking HTTP client over `wasi:http`, for adapters that ask a remote marketplace.
//!
//! The host decides at its border: only origins that the manifest asks for and the operator granted are reached, and
//! credentials that the manifest names are added there. A guest never sees a token, and redirects are not followed.
//!
//! ```
//! use wharf_plugin_sdk::{adapter::Fault, http};
//!
//! fn order(receipt: &str) -> Result<Vec<u8>, Fault> {
//!     let url = format!("https://api.example.com/orders/{}", http::encode(receipt));
//!     let request = http::Request::get(url);
//!     Ok(request.send()?.or_fault()?.body)
//! }
//! ```

use std::{fmt, time::Duration};

use crate::adapter::Fault;

mod encode;
#[cfg(target_arch = "wasm32")]
mod wasi;

pub use encode::encode;

/// The longest that a connection, an answer's first byte or a pause in it may take, unless a request says less.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Sends a body.
    Post,
}

/// A request to a remote marketplace.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// An absolute http or https URL.
    pub url: String,
    /// Headers in their order.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// The longest that the connection, the first byte and every pause may take.
    pub timeout: Duration,
}

impl Request {
    /// Reads a URL.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url.into(), Vec::new())
    }

    /// Sends JSON to a URL.
    pub fn post_json(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new(Method::Post, url.into(), body.into()).header("content-type", "application/json")
    }

    /// Sends a form (`application/x-www-form-urlencoded`) to a URL, as token endpoints of OAuth 2 take it.
    pub fn post_form<'a>(
        url: impl Into<String>,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        Self::new(Method::Post, url.into(), encode::form(pairs).into_bytes())
            .header("content-type", "application/x-www-form-urlencoded")
    }

    /// Adds a pair to the URL's query, encoded.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        self.url.push(separator);
        self.url
            .push_str(&format!("{}={}", encode(name), encode(value)));
        self
    }

    fn new(method: Method, url: String, body: Vec<u8>) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Waits at most this long for the connection, the first byte and every pause.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request and reads the whole answer, whatever its status. In native tests the answer comes from
    /// [`crate::testing::with_upstream`].
    ///
    /// # Errors
    /// [`Error`] if there is no answer or it is too large.
    pub fn send(&self) -> Result<Response, Error> {
        #[cfg(target_arch = "wasm32")]
        return wasi::send(self);
        #[cfg(not(target_arch = "wasm32"))]
        return crate::testing::answered(self);
    }
}

/// An answer of a remote marketplace.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in their order; a value that is no UTF-8 is left out.
    pub headers: Vec<(String, String)>,
    /// The body, at most as large as the operator granted: 8 MiB by default.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The answer itself if its status is a success.
    ///
    /// # Errors
    /// The fault that the status stands for: 429 rate-limited with its Retry-After, 401 and 403 unauthorized, 400 and 405
    /// misconfigured (we ask wrongly), anything else unavailable. Where each receipt has a URL, look at a 404 before: it
    /// says that there is none.
    pub fn or_fault(self) -> Result<Self, Fault> {
        let said = || format!("the marketplace answered {}", self.status);
        match self.status {
            200..=299 => Ok(self),
            429 => Err(Fault::RateLimited(self.retry_after())),
            401 | 403 => Err(Fault::Unauthorized(said())),
            400 | 405 => Err(Fault::Misconfigured(said())),
            _ => Err(Fault::Unavailable(said())),
        }
    }

    /// Seconds to wait as Retry-After says, be it a number or a date, which is read against the answer's own Date; at
    /// most 24 hours.
    pub fn retry_after(&self) -> Option<u32> {
        let now = || crate::retry_after::date(self.header("date")?);
        let wait = crate::retry_after::parse(self.header("retry-after")?, now)?;
        u32::try_from(wait.as_secs()).ok()
    }
}

/// The reason why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The URL or a header is not valid.
    Invalid(String),
    /// The host refuses the request: the origin is not granted, or a limit of the call is used up.
    Denied,
    /// It took too long.
    TimedOut,
    /// The body of the answer is larger than the operator granted.
    TooLarge,
    /// The host has no value for a credential of the request.
    NoCredential,
    /// No connection, or it broke.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "the request is not valid: {why}"),
            Self::Denied => f.write_str("the host denied the request: is the origin granted?"),
            Self::TimedOut => f.write_str("the marketplace took too long"),
            Self::TooLarge => f.write_str("the answer is larger than `http_body_bytes` allows"),
            Self::NoCredential => f.write_str(
                "the host has no value for a credential of the request; if it is the store's access token, the store has \
                 none",
            ),
            Self::Failed(why) => write!(f, "the marketplace cannot be reached: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Returns `misconfigured` for a request that cannot be made, and `unavailable` for one that got no answer.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(_) | Error::Denied | Error::NoCredential => {
                Self::Misconfigured(error.to_string())
            }
            Error::TimedOut | Error::TooLarge | Error::Failed(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// Splits an absolute URL into its scheme (in lower case), its authority and its path with query.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
fn split(url: &str) -> Result<(String, &str, &str), Error> {
    let invalid = || Error::Invalid(format!("{url:?} is no absolute http or https URL"));
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(scheme.as_str(), "http" | "https")
        || authority.is_empty()
        || authority.contains('@')
    {
        return Err(invalid());
    }
    let path = path.split('#').next().unwrap_or_default();
    Ok((scheme, authority, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn requests_encode_what_they_carry() {
        let request =
            Request::post_form("https://a/token", [("scope", "orders read")]).query("q", "a&b");
        assert_eq!(request.url, "https://a/token?q=a%26b");
        assert_eq!(request.body, b"scope=orders+read");
        let form = (
            "content-type".into(),
            "application/x-www-form-urlencoded".into(),
        );
        assert_eq!(request.headers, [form]);
        assert_eq!(
            Request::get("https://a/?b=1").query("c", "ü").url,
            "https://a/?b=1&c=%C3%BC"
        );
    }

    #[test]
    fn urls_are_split() {
        assert_eq!(
            split("http://a:1/b?c#d"),
            Ok(("http".into(), "a:1", "/b?c"))
        );
        assert_eq!(split("HTTPS://[::1]"), Ok(("https".into(), "[::1]", "")));
        assert_eq!(split("https://a?b"), Ok(("https".into(), "a", "?b")));
        for bad in ["", "a/b", "ftp://a/", "http:///b", "http://u:p@a/"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    fn response(status: u16, headers: &[(&str, &str)]) -> Response {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Response {
            status,
            headers,
            body: Vec::new(),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = ("Date", "Mon, 01 Jan 2024 12:00:00 GMT");
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Mon, 01 Jan 2024 12:01:30 GMT", Some(90)),
            ("Mon, 01 Jan 2024 11:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("99999999999", Some(86_400)),
            ("2.0", Some(2)),
            ("Monday, 01-Jan-24 12:01:30 GMT", Some(90)),
            ("Mon Jan  1 12:01:30 2024", Some(90)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400)),
            ("+7", None),
        ] {
            assert_eq!(
                response(429, &[now, ("retry-after", value)]).retry_after(),
                seconds,
                "{value}"
            );
        }
        assert_eq!(
            response(429, &[("retry-after", "Mon, 01 Jan 2024 12:01:30 GMT")]).retry_after(),
            None
        );
        assert_eq!(response(429, &[]).retry_after(), None);
    }

    #[test]
    fn statuses_are_faults() {
        let fault = |status| {
            response(status, &[("Retry-After", "3")])
                .or_fault()
                .expect_err("a fault")
        };
        assert!(matches!(fault(429), Fault::RateLimited(Some(3))));
        assert!(matches!(fault(401), Fault::Unauthorized(_)));
        assert!(matches!(fault(400), Fault::Misconfigured(_)));
        for status in [302, 404, 408, 410, 500, 503] {
            assert!(matches!(fault(status), Fault::Unavailable(_)), "{status}");
        }
        assert!(response(204, &[]).or_fault().is_ok());
    }

    #[test]
    fn tests_script_the_upstream() {
        let asked = testing::with_upstream(
            |request| {
                Ok(Response {
                    status: 200,
                    body: request.url.clone().into_bytes(),
                    ..Response::default()
                })
            },
            || Request::get("http://a/").send(),
        );
        assert_eq!(
            asked.map(|response| response.body),
            Ok(b"http://a/".to_vec())
        );
        assert_eq!(
            Request::get("http://a/").send().map(|r| r.status),
            Err(Error::Denied)
        );
    }
}
