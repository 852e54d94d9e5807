//! What errors answer, and what they keep to the log.

use std::sync::Arc;

use super::*;

#[test]
fn causes_are_logged_but_never_answered() {
    let cause = Arc::new(std::io::Error::other("relation \"stores\" does not exist"));
    let error = ApiError::from(AppError::Internal(cause));
    assert_eq!(
        error.answer(),
        (Status::INTERNAL_SERVER_ERROR, "Internal error", None)
    );
    let ApiError::App(AppError::Internal(cause)) = &error else {
        panic!("another error")
    };
    assert_eq!(chain(cause.as_ref()), "relation \"stores\" does not exist");
}

#[test]
fn a_passing_trouble_tells_when_to_come_back() {
    for error in [
        ApiError::from(AppError::Unavailable(Arc::new(std::io::Error::other(
            "down",
        )))),
        ApiError::MarketplaceUnavailable,
        ApiError::AnswerTimedOut,
        ApiError::RateLimited(Duration::from_millis(300)),
    ] {
        assert_eq!(
            error.header(),
            Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            "{error:?}"
        );
    }
    let limited = ApiError::RateLimited(Duration::from_secs(60));
    assert_eq!(
        limited.header(),
        Some((header::RETRY_AFTER, HeaderValue::from_static("60")))
    );
}
