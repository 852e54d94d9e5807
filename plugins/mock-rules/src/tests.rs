use proptest::prelude::*;
use wharf_plugin_sdk::adapter::{Fault, Request, Verdict};

use super::judge;

fn request(receipt: &str) -> Request {
    Request {
        receipt: receipt.into(),
        currency: "EUR".into(),
        external_store_id: "ext-1".into(),
        now: "2024-01-01T12:00:00.000Z".into(),
    }
}

#[derive(Debug, PartialEq)]
enum Rule {
    RateLimited,
    Success,
    Failure,
}

/// The contract's sentences, read literally over characters and numbers.
fn model(receipt: &str) -> Rule {
    let end: Vec<char> = receipt.chars().rev().take(2).collect();
    let digits: Vec<u32> = end
        .iter()
        .filter(|c| c.is_ascii())
        .filter_map(|c| c.to_digit(10))
        .collect();
    if end.len() == 2 && digits.len() == 2 && digits.iter().sum::<u32>().is_multiple_of(6) {
        Rule::RateLimited
    } else if end.first().is_some_and(|last| "13579".contains(*last)) {
        Rule::Success
    } else {
        Rule::Failure
    }
}

fn judged(receipt: &str) -> Rule {
    match judge(&request(receipt)) {
        Ok(Verdict::Accepted(_)) => Rule::Success,
        Ok(Verdict::Rejected(_)) => Rule::Failure,
        Err(Fault::RateLimited(_)) => Rule::RateLimited,
        Err(fault) => panic!("no such fault in the rules: {fault:?}"),
    }
}

#[test]
fn every_pair_of_digits() {
    for number in 0..100 {
        for prefix in ["", "order-", "ü", "x9"] {
            let receipt = format!("{prefix}{number:02}");
            assert_eq!(judged(&receipt), model(&receipt), "{receipt}");
        }
    }
}

#[test]
fn the_shared_vectors_hold() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../conformance/seed-rules.json")).expect("JSON");
    for case in vectors["cases"].as_array().expect("cases") {
        let field = |name: &str| case["request"][name].as_str().expect("a text").to_owned();
        let answer = judge(&Request {
            receipt: field("receipt"),
            currency: field("currency"),
            external_store_id: field("external_store_id"),
            now: field("now"),
        });
        let expect = &case["expect"];
        let name = &case["name"];
        match answer {
            Ok(Verdict::Accepted(order)) => {
                let wanted = expect["accepted"]
                    .as_object()
                    .unwrap_or_else(|| panic!("{name}: {order:?}"));
                for (key, got) in [
                    ("id", order.id),
                    ("amount", order.amount),
                    ("currency", order.currency),
                ] {
                    assert!(
                        wanted.get(key).is_none_or(|value| *value == *got),
                        "{name}: {key} is {got}"
                    );
                }
            }
            Ok(Verdict::Rejected(_)) => assert_eq!(expect["rejected"], true, "{name}"),
            Err(_) => assert_eq!(expect["rate_limited"], true, "{name}"),
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_the_contract_read_literally(receipt in "(\\PC{0,20}|[a-z0-9-]{0,8})[0-9٣ü]{0,3}") {
        prop_assert_eq!(judged(&receipt), model(&receipt));
    }

    #[test]
    fn an_order_depends_on_its_receipt_alone(receipt in "[a-z]{0,9}[13579]", currency in "[A-Z]{3}", store in ".*") {
        let other = Request { currency: currency.clone(), external_store_id: store, now: "later".into(), receipt };
        let Ok(Verdict::Accepted(here)) = judge(&request(&other.receipt)) else { panic!("an odd letter's digit") };
        let Ok(Verdict::Accepted(there)) = judge(&other) else { panic!("an odd letter's digit") };
        prop_assert_eq!((&here.id, &here.amount), (&there.id, &there.amount));
        prop_assert_eq!(there.currency, currency);
        prop_assert_eq!(there.imported_at, "later");
        let (whole, places) = here.amount.split_once('.').expect("a point");
        prop_assert!((10..=999).contains(&whole.parse::<u32>().expect("digits")));
        prop_assert!(places.len() == 2 && places.bytes().all(|b| b.is_ascii_digit()));
    }
}
