//! The HTTP client of the tests.

use std::{sync::Once, time::Duration};

use anyhow::{Context, Result};
use reqwest::{
    Client, RequestBuilder,
    header::{self, HeaderMap, HeaderValue},
};
use serde_json::Value;

/// Makes ring the process's TLS provider, once. [`run`](crate::run) and [`client`] do it.
pub fn standard_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that a provider is set already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client that goes straight to the address: no proxy, no redirects, 30 s in all.
///
/// A new one for every call: its connections belong to the runtime of the test that asked for it.
pub fn client() -> Client {
    built(HeaderMap::new())
}

/// The same, which sends this key or token with every request.
///
/// # Panics
/// If it is none.
pub fn client_with(key: &str) -> Client {
    let bearer = HeaderValue::from_str(&format!("Bearer {key}")).expect("a header's value");
    built(HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]))
}

fn built(headers: HeaderMap) -> Client {
    standard_tls();
    Client::builder()
        .default_headers(headers)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client without files or certificates of its own")
}

/// A host's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If the connection fails or the body is not text.
    pub async fn to(request: RequestBuilder) -> Result<Self> {
        let response = request.send().await.context("no answer")?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self {
            status,
            headers,
            text: response.text().await.context("half an answer")?,
        })
    }

    /// The body as JSON; `null` if it is none, so that a comparison shows what came.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// One member of a JSON body, such as `answer["syncToken"]`; `null` if there is none.
    pub fn get(&self, member: &str) -> Value {
        self.json()[member].take()
    }

    /// A header's value, empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}
