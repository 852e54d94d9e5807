//! One exchange with a stranger: a request, and an answer that is read as it comes.

use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy;
use tokio::time::Sleep;
use url::Url;

use crate::{client::Connector, metered::Allowance};

/// Tries to send a request that the peer is known not to have begun with.
const MAX_TRIES: usize = 3;

/// A failed exchange.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot stand in a request.
    #[error("the URL cannot be asked")]
    Url(#[source] http::Error),
    /// No answer was heard.
    #[error("no answer was heard")]
    Send(#[source] legacy::Error),
    /// The answer's body broke off.
    #[error("the answer broke off")]
    Body(#[source] hyper::Error),
    /// The exchange's time is over.
    #[error("the time is over")]
    TimedOut,
}

impl Error {
    /// True if no connection could be made.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Send(error) if error.is_connect())
    }

    /// True if HTTP/2 says that nothing was done with the request: the peer is closing in good order, or refused it.
    fn is_unprocessed(&self) -> bool {
        let Self::Send(error) = self else {
            return false;
        };
        let cause = error.source().and_then(|hyper| hyper.source());
        cause
            .and_then(|cause| cause.downcast_ref::<h2::Error>())
            .filter(|h2| h2.is_remote())
            .is_some_and(|h2| {
                (h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR))
                    || (h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM))
            })
    }
}

/// A request to a stranger.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its target. Credentials in it are not sent.
    pub url: Url,
    /// Its headers, without its host and length.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The end of the whole exchange, the answer's body included.
    pub deadline: Instant,
}

impl Request {
    fn build(&self) -> Result<http::Request<Full<Bytes>>, Error> {
        let mut request = http::Request::builder()
            .method(self.method.clone())
            .uri(self.url.as_str())
            .body(Full::new(self.body.clone()))
            .map_err(Error::Url)?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// A client that judges addresses where it connects, and bounds what peers may send unasked.
#[derive(Clone)]
pub struct GuardedClient {
    pub(crate) inner: legacy::Client<Connector, Full<Bytes>>,
    pub(crate) user_agent: Option<HeaderValue>,
}

impl GuardedClient {
    /// Sends a request and returns the answer as soon as its head is there.
    ///
    /// # Errors
    /// If there is no answer until the request's deadline.
    pub async fn send(&self, mut request: Request) -> Result<Answer, Error> {
        let headers = &mut request.headers;
        let mut default = |name, value| {
            headers.entry(name).or_insert(value);
        };
        default(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(agent) = &self.user_agent {
            default(header::USER_AGENT, agent.clone());
        }
        let deadline = request.deadline;
        let answer = tokio::time::timeout_at(deadline.into(), self.ask(&request)).await;
        let answer = answer.unwrap_or(Err(Error::TimedOut))?;
        Ok(AnswerBody::of(answer, deadline))
    }

    async fn ask(&self, request: &Request) -> Result<Response<Incoming>, Error> {
        let mut tries = 1;
        loop {
            let answer = self.inner.request(request.build()?).await;
            match answer.map_err(Error::Send) {
                Err(error) if tries < MAX_TRIES && error.is_unprocessed() => tries += 1,
                ended => return ended,
            }
        }
    }
}

/// An answer, whose body is still to be read.
pub type Answer = Response<AnswerBody>;

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    allowance: Option<Allowance>,
    deadline: Pin<Box<Sleep>>,
}

impl AnswerBody {
    fn of(answer: Response<Incoming>, deadline: Instant) -> Answer {
        let allowance = answer.extensions().get::<Allowance>().cloned();
        if let Some(allowance) = &allowance {
            allowance.refill();
        }
        let deadline = Box::pin(tokio::time::sleep_until(deadline.into()));
        answer.map(|incoming| Self {
            incoming,
            allowance,
            deadline,
        })
    }

    /// Returns the next piece, or none at the end.
    ///
    /// # Errors
    /// If the body breaks off, or the exchange's time is over.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.frame().await {
            // Trailers are of no interest.
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // First: a body that never ends always has a frame.
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Error::TimedOut)));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if let Some(allowance) = &self.allowance {
            allowance.refill();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::Body)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
