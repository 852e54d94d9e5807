//! Unread bodies are drained, so that a client sees the refusal instead of a broken pipe.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use futures::{StreamExt, stream};

use crate::body::RequestTimeout;

/// Limit of the bytes of an unread body that are read and thrown away.
// Sixteen times what a JSON body may hold: honest mistakes see their 413, endless senders are cut off.
const DRAINED: usize = 16 * 1024 * 1024;

/// Reads what a refusal left of the body. A client that is still writing when the connection closes would see a broken
/// pipe instead of the refusal.
pub(crate) async fn drain<F: Future<Output = Response>>(
    most: RequestTimeout,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let (parts, body) = request.into_parts();
    // To read a body that waits to be asked for would be to ask for it.
    if body.is_end_stream() || waits_to_be_asked(&parts.headers) {
        return answer(Request::from_parts(parts, body)).await;
    }
    // Shared, because the handler drops its half wherever it stops, and the rest has to be read here.
    let unread = Arc::new(Mutex::new(body.into_data_stream()));
    let read = {
        let unread = unread.clone();
        move |cx: &mut std::task::Context<'_>| {
            unread
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .poll_next_unpin(cx)
        }
    };
    let body = Body::from_stream(stream::poll_fn(read.clone()));
    let response = answer(Request::from_parts(parts, body)).await;
    // A body that has used up its time is not waited for again.
    if response.status() != StatusCode::REQUEST_TIMEOUT {
        let mut drained = 0;
        let rest = stream::poll_fn(read).take_while(|chunk| {
            // An error counts as all of it: nothing more will come.
            drained += chunk.as_ref().map_or(DRAINED, |bytes| bytes.len());
            std::future::ready(drained < DRAINED)
        });
        // Drained, broken off or out of time: the refusal is sent in any case.
        let _ = tokio::time::timeout(most.0, rest.for_each(|_| std::future::ready(()))).await;
    }
    response
}

/// `Expect: 100-continue`: the client sends its body only when we begin to read it, and is content with a refusal.
fn waits_to_be_asked(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
