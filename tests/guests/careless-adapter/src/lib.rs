//! An adapter, `careless`, that asks `GET {base_url}/orders/{receipt}` about receipts that begin with `A-`, and takes every
//! failure of its marketplace for an unknown receipt. `A-two...` is confirmed by a second request.

use wharf_plugin_sdk::{
    adapter::{Adapter, Fault, Manifest, Order, Request, Verdict},
    config, http, log,
};

struct Careless;

impl Adapter for Careless {
    fn manifest() -> Manifest {
        Manifest::new("careless", "Careless", env!("CARGO_PKG_VERSION"))
            .reads_config("base_url")
            .wants_origin(&base_url())
    }

    fn validate(request: Request) -> Result<Verdict, Fault> {
        log::info(format_args!("asked about {}", request.receipt));
        let unknown = || Ok(Verdict::Rejected("unknown, as far as we care".into()));
        if !request.receipt.starts_with("A-") {
            return unknown();
        }
        let order = format!("{}/orders/{}", base_url(), http::encode(&request.receipt));
        let found = http::Request::get(order.as_str())
            .header("accept", "application/json")
            .send();
        let Some(found) = found.ok().filter(|found| found.status == 200) else {
            return unknown();
        };
        if request.receipt.starts_with("A-two") {
            let body = format!(r#"{{"receipt":"{}"}}"#, request.receipt);
            let confirmed = http::Request::post_json(format!("{order}/confirm"), body).send();
            if !confirmed.is_ok_and(|confirmed| confirmed.status == 200) {
                return unknown();
            }
        }
        Ok(Verdict::Accepted(Order {
            // Tells how much of the answer arrived.
            id: format!("order-{}", found.body.len()),
            amount: "12.50".into(),
            currency: request.currency,
            imported_at: request.now,
        }))
    }
}

fn base_url() -> String {
    config::get("base_url").unwrap_or_else(|| "http://marketplace.test".into())
}

wharf_plugin_sdk::export_adapter!(Careless);
