//! The handler that `mock-validate` is compared with: axum, the same route, JSON in and out, and nothing in between.

use std::io::Write;

use anyhow::Result;
use axum::{Json, Router, extract::Path, routing::post, serve::ListenerExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Serves until it is killed, in a process of its own and on a runtime like Wharf's. Its address is its first line.
pub(crate) fn serve() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
            let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
            Ok(axum::serve(
                listener,
                Router::new().route("/mock/{marketplace}/validate", post(validate)),
            )
            .await?)
        })
}

async fn validate(Path(_marketplace): Path<String>, Json(body): Json<Value>) -> Json<Value> {
    let currency = body["currency"].as_str().unwrap_or("USD");
    Json(json!({
        "status": true, "orderId": "order-0123456789abcdef", "amount": 123.45, "currency": currency,
        "importedAtUTC": "2026-01-01T12:00:00.000Z",
    }))
}
