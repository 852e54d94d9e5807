//! A request on its way to the router and its answer on the way back, with their bodies watched.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, Request, Response, header},
    response::IntoResponse,
};
use futures::future::BoxFuture;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    service::Service,
};
use hyper_util::service::TowerToHyperService;

use super::{
    activity::{Activity, Arrival, Exchange},
    host,
    places::Class,
};
use crate::{error::ApiError, is_probe, limits::ClientAddress};

/// The receiver of a connection's requests.
pub(super) struct Exchanges {
    pub(super) router: Router,
    pub(super) activity: Arc<Activity>,
    pub(super) class: Class,
    pub(super) client: ClientAddress,
}

impl Service<Request<Incoming>> for Exchanges {
    type Response = Response<Leaving>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Before the class is looked at: a client that does not take its 503 has to be noticed too.
        let exchange = self.activity.begin(!request.body().is_end_stream());
        let refused = if !host::is_named(&request) {
            Some(ApiError::BadHost)
        } else if self.class == Class::Probes && !is_probe(request.uri().path()) {
            Some(ApiError::TooManyConnections)
        } else {
            None
        };
        if let Some(error) = refused {
            let answer = last(error).map(|body| leaving(body, exchange));
            return Box::pin(async move { Ok(answer) });
        }
        let arrival = exchange.arrival();
        let mut request = request.map(|body| Body::new(Arriving { body, arrival }));
        request.extensions_mut().insert(self.client);
        let answer = TowerToHyperService::new(self.router.clone()).call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| leaving(body, exchange))) })
    }
}

/// The last answer on its connection.
fn last(error: ApiError) -> Response<Body> {
    let mut response = error.into_response();
    let headers = response.headers_mut();
    // Kept open it would hold one of the few places that are for health checks, or carry on a client's confusion.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn leaving(body: Body, exchange: Exchange) -> Leaving {
    exchange.answering();
    Leaving {
        body,
        // Held for its drop alone: the exchange lasts until the last byte is handed over or the client is gone.
        _exchange: exchange,
    }
}

/// A request's body.
struct Arriving {
    body: Incoming,
    arrival: Arrival,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // Whoever knows the length stops there and never asks for the `None` behind the last frame.
        let is_end = frame.is_none() || self.body.is_end_stream();
        self.arrival.came(is_end);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. The exchange ends with it.
pub(super) struct Leaving {
    body: Body,
    _exchange: Exchange,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Without the hint hyper would send chunks instead of a `content-length`.
        self.body.size_hint()
    }
}
