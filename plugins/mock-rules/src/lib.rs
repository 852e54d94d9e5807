//! The seed's mock marketplace, shared by the adapters `etsy`, `shopify` and `amazon`.
//!
//! A receipt whose last two characters are ASCII digits with a sum that 6 divides (`00` included) is rate-limited;
//! else one that ends in an odd ASCII digit stands for an order; every other receipt is unknown. Order id and amount
//! depend on the receipt alone.

use wharf_plugin_sdk::adapter::{Fault, Order, Request, Verdict};

/// Seconds that a rate-limited caller is asked to wait.
pub const RETRY_AFTER_SECONDS: u32 = 60;

/// Judges a receipt.
///
/// # Errors
/// [`Fault::RateLimited`] as the rules say; nothing else.
pub fn judge(request: &Request) -> Result<Verdict, Fault> {
    let receipt = request.receipt.as_bytes();
    let rate_limited = match receipt {
        [.., a, b] if a.is_ascii_digit() && b.is_ascii_digit() => {
            (a - b'0' + b - b'0').is_multiple_of(6)
        }
        _ => false,
    };
    if rate_limited {
        return Err(Fault::RateLimited(Some(RETRY_AFTER_SECONDS)));
    }
    match receipt.last() {
        // The ASCII codes of the odd digits are odd.
        Some(last) if last.is_ascii_digit() && last % 2 == 1 => {
            Ok(Verdict::Accepted(order(request)))
        }
        _ => Ok(Verdict::Rejected(
            "the marketplace knows no such receipt".into(),
        )),
    }
}

fn order(request: &Request) -> Order {
    let hash = fnv1a(request.receipt.as_bytes());
    let cents = 1_000 + hash % 99_000;
    Order {
        id: format!("order-{hash:016x}"),
        amount: format!("{}.{:02}", cents / 100, cents % 100),
        currency: request.currency.clone(),
        imported_at: request.now.clone(),
    }
}

/// The FNV-1a hash: short, and the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
