//! Components of every released contract version, as they were built then.

mod support;

use support::{ask, engine, shape};
use wharf_domain::Answer;
use wharf_engine::Digest;

const ADAPTER: &[u8] = include_bytes!("frozen/adapter-0.1.0.wasm");
const SHAPER: &[u8] = include_bytes!("frozen/shaper-0.1.0.wasm");

#[tokio::test]
async fn version_0_1_0_loads_and_answers_for_ever() {
    let readme = include_str!("frozen/README.md");
    for bytes in [ADAPTER, SHAPER] {
        assert!(
            readme.contains(&Digest::of(bytes).to_string()),
            "the file is the one that was frozen"
        );
    }
    let engine = engine();
    engine
        .load("frozen-adapter", ADAPTER.to_vec())
        .await
        .expect("it loads");
    engine
        .load("frozen-shaper", SHAPER.to_vec())
        .await
        .expect("it loads");
    let Ok(Answer::Accepted(order)) = ask(&engine, "etsy", "order-101").await.result else {
        panic!("an order")
    };
    assert_eq!(
        (order.id.as_str(), order.amount.to_string().as_str()),
        ("order-1b906bc28b57fdc2", "788.10")
    );
    let message = shape(&engine, "standard", "org-1")
        .await
        .result
        .expect("a message");
    assert!(message.body.starts_with(br#"{"eventId":"#));
}
