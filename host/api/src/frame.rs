//! What holds for every request: its id and its line in the log, its metrics, its time, the rest of its body, and panics.
//!
//! All of it is one layer. A layer of axum costs each request a boxed future and a clone of all that is behind it.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use wharf_app::App;

use crate::{
    ApiSettings, ApiState, body::RequestTimeout, door::Door, drain::drain, error::ApiError,
    measure::measure, observe::observe,
};

/// The parts of the frame.
#[derive(Clone)]
pub(crate) struct Frame(Arc<Parts>);

struct Parts {
    answer_timeout: Duration,
    request_timeout: RequestTimeout,
    door: Door,
    app: Option<App>,
}

impl Frame {
    /// With a state, requests are counted in its metrics, and against the limits of their clients.
    pub(crate) fn new(settings: &ApiSettings, state: Option<ApiState>) -> Self {
        Self(Arc::new(Parts {
            answer_timeout: settings.answer_timeout,
            request_timeout: RequestTimeout(settings.request_timeout),
            app: state.as_ref().map(|state| state.app.clone()),
            door: Door::new(settings, state),
        }))
    }
}

/// All of it, for the routes of the API.
pub(crate) async fn whole(
    State(frame): State<Frame>,
    mut request: Request,
    next: Next,
) -> Response {
    let timeout = frame.0.request_timeout;
    // For those who read the body.
    request.extensions_mut().insert(timeout);
    let answer = |request| bounded(&frame.0, request, next);
    // Inside of `drain`: the latency in the log is the answer's, not that of a client that still sends.
    let observed = |request| observe(request, answer);
    let drained = |request| drain(timeout, request, observed);
    // Outermost, so that what is refused on the way is counted as well.
    measure(frame.0.app.as_ref(), request, drained).await
}

/// The same without request ids, lines in the log and metrics: a scrape every few seconds would fill the log.
pub(crate) async fn bounds(State(frame): State<Frame>, request: Request, next: Next) -> Response {
    bounded(&frame.0, request, next).await
}

async fn bounded(parts: &Parts, mut request: Request, next: Next) -> Response {
    // Nothing at all is done for what may not come in.
    let _in_work = match parts.door.enter(&mut request).await {
        Ok(in_work) => in_work,
        Err(error) => return error.into_response(),
    };
    // The time runs inside of what catches panics: one that comes meanwhile is answered too. The handler is dropped where
    // it waits. What it committed stays, and a repeat of the request finds it.
    let answered = AssertUnwindSafe(tokio::time::timeout(
        parts.answer_timeout,
        next.run(request),
    ));
    match answered.catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => ApiError::AnswerTimedOut.into_response(),
        Err(panic) => panicked(&*panic).into_response(),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> ApiError {
    // `panic!` with arguments carries a `String`, without any a `&str`.
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::Panicked(message.to_owned())
}
