//! The input of the contract checks: the same in every run, on every machine.

use std::collections::BTreeMap;

use wharf_domain::{
    Currency, Event, EventId, EventKind, ExternalStoreId, OrganizationId, Receipt, StoreId, Time,
    uuid_v4,
};

use crate::contract::convert::ValidateRequest;

/// The seed of the generated part: "wharf".
const SEED: u64 = 0x77_68_61_72_66;
/// 2024-01-01T12:00:00Z.
const NOW: Time = Time::from_micros(1_704_110_400_000_000);

/// Returns receipts and names that have broken programs before, and some that nobody would think of.
pub(crate) fn inputs() -> Vec<String> {
    let mut inputs: Vec<String> = [
        "",
        " ",
        "0",
        "7",
        "00",
        "66",
        "order-101",
        "order-102",
        "order-115",
        "-1",
        "1e9",
        "NaN",
        "null",
        "ORDER 1",
        "\u{1}\u{2}\u{7f}",
        "\t\r\n",
        "a\u{1b}[31mb",
        "größe-1",
        "订单-1",
        "طلب-١",
        "\u{1f6d2}1",
        "e\u{301}1",
        "\u{202e}101",
        "\u{feff}1",
        "\"}],{\"",
        "' OR 1=1 --",
        "<script>1</script>",
        "../../etc/passwd",
        "%00%0a1",
        "\\u0000",
        "{{7*7}}",
    ]
    .map(String::from)
    .to_vec();
    // 255 characters are the longest receipt.
    inputs.extend(["9", "x", "ü", "\u{1f6d2}"].map(|unit| unit.repeat(255)));
    let mut random = fastrand::Rng::with_seed(SEED);
    inputs.extend((0..8).map(|_| {
        (0..random.usize(1..20))
            .map(|_| random.char(..))
            // The API refuses NUL, so no plugin ever sees it.
            .filter(|c| *c != '\0')
            .collect()
    }));
    inputs.extend((0..8).map(|_| (0..random.usize(1..40)).map(|_| random.digit(10)).collect()));
    inputs
}

/// Makes the request to judge a receipt.
pub(crate) fn request(receipt: &str) -> ValidateRequest {
    ValidateRequest {
        receipt: Receipt::from_stored(receipt.to_owned()),
        currency: Currency::parse("USD").expect("three letters"),
        external_store_id: ExternalStoreId::from_stored("conformance".into()),
        now: NOW,
        access_token: None,
        store_id: None,
        request_id: None,
    }
}

/// Makes an event that carries a text.
pub(crate) fn event(text: &str) -> Event {
    let data = BTreeMap::from([("text", text)]);
    Event {
        id: EventId(uuid_v4([1; 16])),
        kind: EventKind::SyncCompleted.as_str().into(),
        at: NOW,
        organization_id: OrganizationId::from_stored(text.to_owned()),
        store_id: StoreId(uuid_v4([2; 16])),
        data: serde_json::to_string(&data).expect("texts are JSON"),
    }
}
