//! A played marketplace: exchanges in their order, matched with what a guest asks. Nothing reaches the network.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use url::Url;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::contract::{limits::MAX_OUTPUT_BYTES, text::for_people};

/// The behaviour of a played marketplace in one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// An HTTP response.
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// No answer in time.
    TimedOut,
    /// No connection.
    Refused,
    /// Not granted.
    Denied,
}

/// The request that an exchange expects. Exactly the given parts are compared.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) json: Option<serde_json::Value>,
    pub(crate) body: Option<String>,
}

/// One exchange. Without an expected request it takes any.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) expected: Option<Expected>,
    pub(crate) reply: Reply,
}

/// A marketplace for one call. It remembers what was asked.
pub(crate) struct Script {
    exchanges: Vec<Exchange>,
    /// The reply to every request after the exchanges; `None` expects no more.
    rest: Option<Reply>,
    played: Mutex<Played>,
}

#[derive(Default)]
struct Played {
    exchanges: usize,
    rest: usize,
    mistake: Option<String>,
}

/// A request of a guest.
struct Asked {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Script {
    pub(crate) fn new(exchanges: Vec<Exchange>, rest: Option<Reply>) -> Self {
        Self {
            exchanges,
            rest,
            played: Mutex::default(),
        }
    }

    /// Answers a request, or denies one that was not expected.
    pub(super) async fn answer(
        &self,
        request: Request<WasiBody>,
    ) -> Result<Response<WasiBody>, Error> {
        let asked = Asked::read(request).await;
        self.reply(&asked).play()
    }

    fn reply(&self, asked: &Asked) -> Reply {
        let mut played = self.played();
        if played.mistake.is_some() {
            return Reply::Denied;
        }
        let number = played.exchanges + 1;
        let mistake = match (self.exchanges.get(played.exchanges), &self.rest) {
            (Some(exchange), _) => match asked.differs(exchange.expected.as_ref()) {
                None => {
                    played.exchanges = number;
                    return exchange.reply.clone();
                }
                Some(why) => format!("request {number} is not as written: {why}"),
            },
            (None, Some(reply)) => {
                played.rest += 1;
                return reply.clone();
            }
            (None, None) => format!("request {number} is not written: {}", asked.line()),
        };
        played.mistake = Some(mistake);
        Reply::Denied
    }

    /// Returns the first request that was not as written, or the first exchange that was not used.
    pub(crate) fn mistake(&self) -> Option<String> {
        let played = self.played();
        played.mistake.clone().or_else(|| {
            (played.exchanges < self.exchanges.len())
                .then(|| format!("exchange {} was not used", played.exchanges + 1))
        })
    }

    /// Returns the number of requests that came after the exchanges and were answered.
    pub(crate) fn rest_asked(&self) -> usize {
        self.played().rest
    }

    fn played(&self) -> MutexGuard<'_, Played> {
        self.played.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    async fn read(request: Request<WasiBody>) -> Self {
        let (parts, body) = request.into_parts();
        // A guest that breaks off its own body has asked all the same.
        let body = Limited::new(body, MAX_OUTPUT_BYTES).collect().await;
        Self {
            method: parts.method,
            url: parts.uri.to_string(),
            headers: parts.headers,
            body: body.map_or_else(|_| Vec::new(), |body| body.to_bytes().to_vec()),
        }
    }

    fn line(&self) -> String {
        for_people(&format!("{} {}", self.method, self.url))
    }

    /// Returns the part that differs from what is expected.
    fn differs(&self, expected: Option<&Expected>) -> Option<String> {
        let expected = expected?;
        // Compared as parsed: `https://a` and `https://a/` are one URL.
        if self.method != expected.method
            || Url::parse(&self.url).ok().as_ref() != Some(&expected.url)
        {
            return Some(format!(
                "it is {}, expected {} {}",
                self.line(),
                expected.method,
                expected.url
            ));
        }
        let is_there = |name: &str, value: &str| {
            let mut values = self.headers.get_all(name).iter();
            values.any(|said| said.as_bytes() == value.as_bytes())
        };
        let missing = expected
            .headers
            .iter()
            .find(|(name, value)| !is_there(name, value));
        if let Some((name, value)) = missing {
            return Some(format!("it has no header {name}: {value}"));
        }
        let body = String::from_utf8_lossy(&self.body);
        let same_json = |json: &serde_json::Value| {
            serde_json::from_slice::<serde_json::Value>(&self.body).is_ok_and(|said| said == *json)
        };
        let is_body = expected.json.as_ref().is_none_or(same_json)
            && expected.body.as_ref().is_none_or(|text| *text == body);
        (!is_body).then(|| format!("its body is {}", for_people(&body)))
    }
}

impl Reply {
    fn play(self) -> Result<Response<WasiBody>, Error> {
        let (status, headers, body) = match self {
            Self::Response {
                status,
                headers,
                body,
            } => (status, headers, body),
            Self::TimedOut => return Err(Error::ConnectionReadTimeout),
            Self::Refused => return Err(Error::ConnectionRefused),
            Self::Denied => return Err(Error::HttpRequestDenied),
        };
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        let body = Full::new(bytes::Bytes::from(body))
            .map_err(|never| match never {})
            .boxed_unsync();
        response
            .body(body)
            // The author of a vector may have written a header that HTTP does not allow.
            .map_err(|error| Error::InternalError(Some(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(method: Method, url: &str) -> Exchange {
        Exchange {
            expected: Some(Expected {
                method,
                url: Url::parse(url).expect("a URL"),
                headers: vec![("accept".into(), "application/json".into())],
                json: Some(serde_json::json!({"receipt": "A-1"})),
                body: None,
            }),
            reply: Reply::Refused,
        }
    }

    fn asked(method: Method, url: &str, accept: &'static str, body: &str) -> Asked {
        let accept = (
            "accept".parse().expect("a name"),
            accept.parse().expect("a value"),
        );
        Asked {
            method,
            url: url.into(),
            headers: HeaderMap::from_iter([accept]),
            body: body.into(),
        }
    }

    #[test]
    fn requests_are_matched_in_their_order() {
        let script = || Script::new(vec![exchange(Method::POST, "https://a/x?b=1")], None);
        let (json, body) = ("application/json", r#"{ "receipt" : "A-1" }"#);
        let good = || asked(Method::POST, "https://a/x?b=1", json, body);
        let right = script();
        assert_eq!(right.mistake().as_deref(), Some("exchange 1 was not used"));
        assert_eq!(
            (right.reply(&good()), right.mistake()),
            (Reply::Refused, None)
        );
        assert_eq!(right.reply(&good()), Reply::Denied);
        let more = right.mistake().expect("one request more");
        assert_eq!(more, "request 2 is not written: POST https://a/x?b=1");

        for (wrong, why) in [
            (
                asked(Method::GET, "https://a/x?b=1", json, body),
                "it is GET",
            ),
            (asked(Method::POST, "https://a/x?b=2", json, body), "b=2"),
            (
                asked(Method::POST, "https://b/x?b=1", json, body),
                "https://b/x",
            ),
            (
                asked(Method::POST, "https://a/x?b=1", "text/html", body),
                "no header accept",
            ),
            (
                asked(Method::POST, "https://a/x?b=1", json, "{}"),
                "its body is {}",
            ),
        ] {
            let script = script();
            assert_eq!(script.reply(&wrong), Reply::Denied);
            let mistake = script.mistake().expect("it differs");
            assert!(mistake.contains(why), "{mistake}");
        }
    }

    #[test]
    fn what_follows_the_exchanges_is_counted() {
        let script = Script::new(Vec::new(), Some(Reply::TimedOut));
        let any = asked(Method::GET, "https://a/", "*/*", "");
        assert_eq!(
            (script.reply(&any), script.reply(&any)),
            (Reply::TimedOut, Reply::TimedOut)
        );
        assert_eq!((script.rest_asked(), script.mistake()), (2, None));
    }
}
