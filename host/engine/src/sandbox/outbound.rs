//! The requests of one call on their way out: the hook behind `wasi:http`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};
use wharf_domain::{AccessToken, retry_after};

use super::network::Network;
use super::recording::Recording;
use super::script::Script;

type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Finished), Error>;

/// The destination of one call's requests.
#[derive(Clone)]
pub(crate) enum Outbound {
    /// None: nothing is granted, or the guest is only tried.
    Closed,
    /// The network, as granted.
    Live(Arc<Network>),
    /// The network, as granted, with everything kept for an author.
    Recorded(Arc<Recording>),
    /// A marketplace that a case plays.
    Played(Arc<Script>),
}

impl Outbound {
    /// Tells if a request can leave the host.
    pub(crate) fn reaches_anybody(&self) -> bool {
        match self {
            Self::Closed | Self::Played(_) => false,
            Self::Live(network) => network.reaches_anybody(),
            Self::Recorded(_) => true,
        }
    }
}

/// The requests of one call.
pub(crate) struct Requests {
    pub(crate) outbound: Outbound,
    pub(crate) access_token: Option<AccessToken>,
    left: u32,
    asked: bool,
    asked_to_wait: Arc<Mutex<Option<Duration>>>,
}

impl Requests {
    pub(crate) fn new(outbound: Outbound, max: u32) -> Self {
        Self {
            outbound,
            access_token: None,
            left: max,
            asked: false,
            asked_to_wait: Arc::default(),
        }
    }

    /// The wait that the last 503 asked for.
    pub(crate) fn asked_to_wait(&self) -> Option<Duration> {
        // Nobody panics while it is held.
        *self
            .asked_to_wait
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells if the guest made a request.
    pub(crate) const fn any(&self) -> bool {
        self.asked
    }
}

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Finished,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        // Also if it is refused below. A call that ran out of time after asking waited for its marketplace.
        self.asked = true;
        // Refused requests count too: they cost the host work.
        let Some(left) = self.left.checked_sub(1) else {
            return Box::new(drained(request, Error::ConnectionLimitReached));
        };
        self.left = left;
        match &self.outbound {
            Outbound::Closed => Box::new(drained(request, Error::HttpRequestDenied)),
            Outbound::Played(script) => {
                let script = script.clone();
                Box::new(async move { script.answer(request).await.map(finished) })
            }
            Outbound::Recorded(recording) => {
                let (recording, access_token) = (recording.clone(), self.access_token.clone());
                let first_byte = options.and_then(|options| options.first_byte_timeout);
                Box::new(async move {
                    let sent = recording.send(request, first_byte, access_token);
                    sent.await.map(finished)
                })
            }
            Outbound::Live(network) => {
                let (network, access_token) = (network.clone(), self.access_token.clone());
                let first_byte = options.and_then(|options| options.first_byte_timeout);
                let asked_to_wait = self.asked_to_wait.clone();
                Box::new(async move {
                    let answer = network.send(request, first_byte, access_token).await?;
                    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                        *asked_to_wait.lock().unwrap_or_else(PoisonError::into_inner) =
                            wait_of(answer.headers());
                    }
                    Ok(finished(answer))
                })
            }
        }
    }
}

/// The wait that `Retry-After` asks for. A date is read against the answer's own: the engine has no clock of the host's.
fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    let value = |name| headers.get(name)?.to_str().ok();
    retry_after::parse(value(RETRY_AFTER)?, || retry_after::date(value(DATE)?))
}

/// Returns the response with nothing left to do for its connection: the client keeps its own.
fn finished(response: Response<WasiBody>) -> (Response<WasiBody>, Finished) {
    (response, Box::new(std::future::ready(Ok(()))))
}

async fn drained(request: Request<WasiBody>, error: Error) -> Sent {
    drain(request).await;
    Err(error)
}

/// Reads what the guest writes, so that it sees the refusal and not a broken stream.
async fn drain(request: Request<WasiBody>) {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;
    use crate::sandbox::script::Reply;

    #[tokio::test]
    async fn requests_of_a_call_are_counted() {
        let answers = Reply::Response {
            status: 204,
            headers: vec![],
            body: String::new(),
        };
        let script = Script::new(Vec::new(), Some(answers));
        let mut requests = Requests::new(Outbound::Played(Arc::new(script)), 2);
        assert!(!requests.any());
        for n in 1..=4 {
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let sent = Box::into_pin(requests.send_request(
                Request::new(body),
                None,
                Box::new(std::future::ready(Ok(()))),
            ));
            match sent.await {
                Ok((response, _)) => assert!(n <= 2 && response.status() == 204, "request {n}"),
                Err(error) => {
                    assert!(
                        n > 2 && matches!(error, Error::ConnectionLimitReached),
                        "request {n}: {error:?}"
                    )
                }
            }
        }
        assert!(requests.any());
    }
}
