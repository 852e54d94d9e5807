//! A receiver of webhooks.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{PATIENCE, eventually};

type Answering = dyn Fn(&Request) -> Response + Send + Sync;

/// One request that a receiver got.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body's very bytes.
    pub body: Bytes,
    /// The time at which it was read to its end.
    pub at: Instant,
}

impl Request {
    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value, empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// An HTTP server on loopback that keeps every request and answers as it is told, at first 200. It ends when the last of
/// its clones goes.
#[derive(Clone, Debug)]
pub struct Receiver {
    url: String,
    shared: Arc<Shared>,
    _server: Arc<Server>,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    answering: Mutex<Arc<Answering>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Server(AbortHandle);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Receiver {
    /// Starts a receiver on a free port.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/webhook", listener.local_addr()?);
        let answering: Arc<Answering> = Arc::new(|_| StatusCode::OK.into_response());
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            answering: Mutex::new(answering),
        });
        let router = Router::new().fallback(record).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            url,
            shared,
            _server: Arc::new(Server(server.abort_handle())),
        })
    }

    /// Its URL for webhooks: `http://127.0.0.1:<port>/webhook`. Every other path works too.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on, answers as this function says. It sees the request before it is listed.
    pub fn answer_with<R: IntoResponse>(
        &self,
        answer: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) {
        let answering: Arc<Answering> = Arc::new(move |request| answer(request).into_response());
        *self
            .shared
            .answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answering;
    }

    /// From now on, answers with this status and an empty body.
    pub fn answer_status(&self, status: u16) {
        let status = StatusCode::from_u16(status).expect("a status code of HTTP");
        self.answer_with(move |_| status);
    }

    /// The requests so far, in the order in which they were read.
    pub fn requests(&self) -> Vec<Request> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until at least so many requests have come, and returns them all.
    ///
    /// # Errors
    /// If they do not come.
    pub async fn wait_for(&self, count: usize) -> Result<Vec<Request>> {
        let enough = || async { Some(self.requests()).filter(|requests| requests.len() >= count) };
        eventually(
            &format!("{count} webhooks at {}", self.url),
            PATIENCE,
            enough,
        )
        .await
    }

    /// Waits for a request whose JSON body names this event, and returns the first.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn wait_for_event(&self, event: &str) -> Result<Request> {
        let found = || async {
            self.requests()
                .into_iter()
                .find(|request| request.json()["event"] == event)
        };
        eventually(&format!("{event} at {}", self.url), PATIENCE, found).await
    }
}

async fn record(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = Request {
        method,
        uri,
        headers,
        body,
        at: Instant::now(),
    };
    let answering = shared
        .answering
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let answer = answering(&request);
    shared
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request);
    answer
}

#[cfg(test)]
mod tests {
    use super::Receiver;
    use crate::client;

    #[test]
    fn keeps_requests_and_answers_as_told() {
        crate::run(async {
            let receiver = Receiver::start().await.expect("a receiver");
            let send = |body| {
                client()
                    .post(receiver.url())
                    .header("x-event-id", "7")
                    .body(body)
                    .send()
            };
            assert_eq!(
                send(r#"{"event":"a"}"#).await.expect("an answer").status(),
                200
            );
            receiver.answer_with(|request| {
                (if request.json()["event"] == "b" {
                    500
                } else {
                    204
                })
                .to_string()
            });
            assert_eq!(
                send(r#"{"event":"b"}"#)
                    .await
                    .expect("an answer")
                    .text()
                    .await
                    .expect("text"),
                "500"
            );
            receiver.answer_status(410);
            assert_eq!(send("").await.expect("an answer").status(), 410);
            assert_eq!(receiver.wait_for(3).await.expect("three requests").len(), 3);
            let request = receiver
                .wait_for_event("b")
                .await
                .expect("the second request");
            assert_eq!(
                (request.header("x-event-id"), request.uri.path()),
                ("7", "/webhook")
            );
        })
    }
}
