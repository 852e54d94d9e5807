use super::*;

fn order(id: &str, amount: &str, currency: &str, imported_at: &str) -> adapter::Order {
    adapter::Order {
        id: id.into(),
        amount: amount.into(),
        currency: currency.into(),
        imported_at: imported_at.into(),
    }
}

const AT: &str = "2024-01-01T12:00:00.000Z";

#[test]
fn a_good_order_is_taken_as_it_is() {
    let taken = checked_order(&order("o-1", "99.99", "EUR", AT)).expect("an order");
    assert_eq!(
        (taken.id.as_str(), taken.amount.to_string().as_str()),
        ("o-1", "99.99")
    );
    assert_eq!(
        (
            taken.currency.as_str(),
            taken.imported_at.to_string().as_str()
        ),
        ("EUR", AT)
    );
}

#[test]
fn nonsense_in_an_order_breaks_the_contract() {
    for bad in [
        order("", "1.00", "EUR", AT),
        order("a\0b", "1.00", "EUR", AT),
        order(&"x".repeat(256), "1.00", "EUR", AT),
        order("o", "-1.00", "EUR", AT),
        order("o", "1e3", "EUR", AT),
        order("o", "1.0000001", "EUR", AT),
        order("o", "NaN", "EUR", AT),
        order("o", "1.00", "eur", AT),
        order("o", "1.00", "EU", AT),
        order("o", "1.00", "EUR", "yesterday"),
        order("o", "1.00", "EUR", "-009999-01-01T00:00:00Z"),
    ] {
        assert!(
            matches!(checked_order(&bad), Err(Fault::ContractBroken(_))),
            "{bad:?}"
        );
    }
}

#[test]
fn the_guests_own_faults_are_answers() {
    use adapter::Fault as Said;
    assert_eq!(
        answer(Err(Said::RateLimited(Some(7)))),
        Ok(Answer::RateLimited(Some(Duration::from_secs(7))))
    );
    let for_ever = answer(Err(Said::RateLimited(Some(u32::MAX))));
    assert_eq!(for_ever, Ok(Answer::RateLimited(Some(MAX_RETRY_AFTER))));
    assert_eq!(
        answer(Err(Said::Unauthorized("no\0".into()))),
        Ok(Answer::Unavailable("unauthorized: no ".into()))
    );
}

fn shaped(content_type: &str, headers: &[(&str, &str)]) -> Result<Message, Fault> {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    message(
        Ok(shaper::Message {
            content_type: content_type.into(),
            headers,
            body: b"{}".to_vec(),
        }),
        1_024,
    )
}

#[test]
fn messages_cannot_break_out_of_http() {
    assert!(shaped("application/json; charset=utf-8", &[("X-Shape", "round")]).is_ok());
    for (content_type, header) in [
        ("", ("x-a", "b")),
        ("json", ("x-a", "b")),
        ("text/plain\r\nx-evil: 1", ("x-a", "b")),
        ("text/plain", ("x-a\r\nx-evil", "b")),
        ("text/plain", ("", "b")),
        ("text/plain", ("x-a", "b\r\nx-evil: 1")),
        ("text/plain", ("x-a", "b\0")),
        ("text/plain", ("Content-Length", "0")),
        ("text/plain", ("Webhook-Signature", "v1,forged")),
        ("text/plain", ("X-Webhook-Signature", "forged")),
        ("text/plain", ("X-Event-Id", "forged")),
    ] {
        assert!(
            matches!(
                shaped(content_type, &[header]),
                Err(Fault::ContractBroken(_))
            ),
            "{content_type:?} {header:?}"
        );
    }
    let too_large = shaper::Message {
        content_type: "text/plain".into(),
        headers: vec![],
        body: vec![0; 1_025],
    };
    assert_eq!(message(Ok(too_large), 1_024), Err(Fault::OutputTooLarge));
    assert!(
        matches!(message(Err("no\n".into()), 0), Err(Fault::Refused(reason)) if reason == "no ")
    );
}

#[test]
fn origins_have_one_spelling() {
    for (text, origin) in [
        ("https://API.example.com", "https://api.example.com"),
        ("https://api.example.com:443/", "https://api.example.com"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
    ] {
        assert_eq!(checked_origin(text).as_deref(), Ok(origin));
    }
    for bad in [
        "",
        "example.com",
        "ftp://a.b",
        "https://u@a.b",
        "https://a.b/path",
        "https://a.b/?q",
        "https://*",
    ] {
        let result = checked_origin(bad);
        assert!(result.is_err() || bad == "https://*", "{bad}: {result:?}");
    }
}

#[test]
fn manifests_are_checked() {
    let manifest = |name: &str, display_name: &str, version: &str| {
        shaper_manifest(shaper::Manifest {
            name: name.into(),
            display_name: display_name.into(),
            version: version.into(),
        })
    };
    assert!(manifest("standard", "Standard", "1.0.0").is_ok());
    for (name, display_name, version) in [
        ("", "A", "1.0.0"),
        ("Etsy", "A", "1.0.0"),
        ("a b", "A", "1.0.0"),
        (&*"a".repeat(65), "A", "1.0.0"),
        ("a", "", "1.0.0"),
        ("a", "A\n", "1.0.0"),
        ("a", "A", "one"),
        ("a", "A", "1.0"),
    ] {
        assert!(
            matches!(
                manifest(name, display_name, version),
                Err(Fault::ContractBroken(_))
            ),
            "{name:?} {version:?}"
        );
    }
}
