//! Readers of single settings.

use std::{net::ToSocketAddrs, time::Duration};

use jiff::SignedDuration;
use wharf_api::AllowedHost;
use wharf_domain::{AddressPolicy, RetrySchedule};

use super::{Addresses, AtMost, Retention};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Longest time that something may take. It fits into PostgreSQL's limits, which are 32 bits of milliseconds.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest time that the host keeps something or tries: ten years.
const MAX_LONG_DURATION: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);
/// Attempts of a webhook that a schedule may list.
const MAX_WAITS: usize = 100;

/// A duration above 0 and of a day at most, such as `500ms`, `30s` or `5m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    within(text, MAX_DURATION, "24h")
}

/// A duration above 0 and of ten years at most.
pub(super) fn long_duration(text: &str) -> Result<Duration, String> {
    within(text, MAX_LONG_DURATION, "87600h")
}

fn within(text: &str, max: Duration, max_text: &str) -> Result<Duration, String> {
    match text.trim().parse::<SignedDuration>() {
        Ok(duration) if !duration.is_positive() => Err("must be more than 0".into()),
        Ok(duration) if duration.unsigned_abs() > max => Err(format!("must be at most {max_text}")),
        Ok(duration) => Ok(duration.unsigned_abs()),
        Err(_) => Err("must be a duration such as 500ms, 30s or 5m".into()),
    }
}

/// A duration such as `5s` of an hour at most, or `0s` for none.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<SignedDuration>() {
        Ok(delay) if !delay.is_negative() && delay.unsigned_abs() <= HOUR => {
            Ok(delay.unsigned_abs())
        }
        _ => Err("must be a duration such as 5s, from 0s to 1h".into()),
    }
}

/// Overlap of an old secret with a new one: up to 7 days, `0s` for none.
pub(crate) fn overlap(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<SignedDuration>() {
        Ok(overlap)
            if !overlap.is_negative() && overlap.unsigned_abs() <= wharf_app::MAX_OVERLAP =>
        {
            Ok(overlap.unsigned_abs())
        }
        _ => Err("must be a duration from 0s to 168h (7 days), such as 24h".into()),
    }
}

/// A lease is renewed each third of it and kept in the database: below a second, a busy machine loses it.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|lease| {
        if (Duration::from_secs(1)..=HOUR).contains(&lease) {
            Ok(lease)
        } else {
            Err("must be from 1s to 1h".into())
        }
    })
}

/// `off`, days such as `30d`, or a duration.
pub(super) fn retention(text: &str) -> Result<Retention, String> {
    const DAY: u64 = 24 * 60 * 60;
    const MAX_DAYS: u32 = 3_650;
    match (
        text.trim(),
        text.trim().strip_suffix('d').map(str::parse::<u32>),
    ) {
        ("off", _) => Ok(Retention(None)),
        // `0d` is not taken here and refused below: it would purge whatever is finished.
        (_, Some(Ok(days @ 1..=MAX_DAYS))) => {
            Ok(Retention(Some(Duration::from_secs(u64::from(days) * DAY))))
        }
        (text, _) => long_duration(text)
            .map(|time| Retention(Some(time)))
            .map_err(|_| "must be off, days from 1d to 3650d or a duration such as 12h".into()),
    }
}

/// A size such as `512MiB` or `2GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const MIB: u64 = 1024 * 1024;
    const MAX: u64 = 1024 * 1024 * MIB;
    let sizes = [("MiB", MIB), ("GiB", 1024 * MIB)];
    let size = sizes.into_iter().find_map(|(unit, size)| {
        let number = text.trim().strip_suffix(unit)?.trim_end();
        number
            // A `u32`, so that not even GiB overflow.
            .parse::<u32>()
            .ok()
            .map(|number| u64::from(number) * size)
    });
    size.filter(|size| (1..=MAX).contains(size))
        .ok_or_else(|| "must be a size such as 512MiB or 2GiB, at most 1024GiB".into())
}

/// An address of this machine, or a name of some.
pub(crate) fn host(text: &str) -> Result<Addresses, String> {
    // The resolver wants a port; the setting PORT takes its place.
    resolved((text.trim(), 0)).ok_or_else(|| {
        "must be an address of this machine, or a name of one such as localhost".into()
    })
}

/// An address or a name with a port.
pub(super) fn addresses(text: &str) -> Result<Addresses, String> {
    resolved(text.trim()).ok_or_else(|| {
        "must be an address and a port such as 127.0.0.1:9464, [::1]:9464 or localhost:9464".into()
    })
}

/// One of the names and addresses that this host goes by.
pub(super) fn allowed_host(text: &str) -> Result<AllowedHost, String> {
    AllowedHost::parse(text.trim()).ok_or_else(|| {
        "must be names or addresses, perhaps with ports, such as wharf.example.com,192.0.2.1:8080".into()
    })
}

// An address is read; a name is asked for before anything is served, so that a wrong one is a wrong setting.
fn resolved(name: impl ToSocketAddrs) -> Option<Addresses> {
    let addresses: Vec<_> = name.to_socket_addrs().ok()?.collect();
    (!addresses.is_empty()).then_some(Addresses(addresses))
}

/// A number of things within bounds.
// From 1: 0 would stand still in silence.
pub(super) fn number<const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(number) if (1..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from 1 to {MAX}")),
    }
}

/// A number of requests, or `off` for any.
pub(super) fn at_most(text: &str) -> Result<AtMost, String> {
    // A budget is kept in microseconds, so that finer rates would not be what they say.
    const MAX: u32 = 100_000;
    match (text.trim(), text.trim().parse::<u32>()) {
        ("off", _) | (_, Ok(0)) => Ok(AtMost(None)),
        (_, Ok(number @ 1..=MAX)) => Ok(AtMost(Some(number))),
        _ => Err(format!("must be off or a number from 1 to {MAX}")),
    }
}

/// `seed`, `standard`, or the waits after the first failure, the second and so on, with up to 20 % added at random.
pub(super) fn retry_schedule(text: &str) -> Result<RetrySchedule, String> {
    const JITTER_PERCENT: u32 = 20;
    match text.trim() {
        "seed" => Ok(RetrySchedule::seed()),
        "standard" => Ok(RetrySchedule::standard()),
        list => match list.split(',').map(wait).collect::<Result<Vec<_>, _>>() {
            Ok(waits) if waits.len() <= MAX_WAITS => Ok(RetrySchedule {
                waits,
                jitter_percent: JITTER_PERCENT,
            }),
            _ => Err(
                "must be seed, standard or a list of at most 100 waits such as 1m,5m,1h, each at most 720h".into(),
            ),
        },
    }
}

/// A wait between two attempts, of 30 days at most.
fn wait(text: &str) -> Result<Duration, String> {
    within(text, 720 * HOUR, "720h")
}

/// A list of networks such as `10.0.0.0/8,::1/128`, or `none`.
pub(super) fn networks(text: &str) -> Result<AddressPolicy, String> {
    // A word of its own: an empty variable counts as unset, and then the default holds.
    if text.trim() == "none" {
        return Ok(AddressPolicy::default());
    }
    let allowed = text
        .split(',')
        .map(|network| network.trim().parse())
        .collect::<Result<_, _>>();
    allowed
        .map(|allowed| AddressPolicy { allowed })
        .map_err(|_| "must be none or a list of networks such as 10.0.0.0/8,::1/128".into())
}

/// Refuses what is no URL of a Redis server.
pub(super) fn redis_url(text: &str) -> Result<(), &'static str> {
    const SCHEMES: [&str; 4] = ["redis", "rediss", "redis+unix", "unix"];
    match wharf_egress::Url::parse(text) {
        // The driver's `#insecure` would believe any certificate, and this program is built without it.
        Ok(url) if url.fragment().is_some() => Err("must have no part behind a #"),
        Ok(url) if SCHEMES.contains(&url.scheme()) => Ok(()),
        _ => Err("must be redis://... or rediss://..."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "30", "0s", "-5s", "s", "soon", "5 parsecs", "25h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(lease("999ms").is_err() && lease("1s").is_ok() && lease("61m").is_err());
        assert!(long_duration("87600h").is_ok() && long_duration("87601h").is_err());
        assert!(delay("0s").is_ok() && delay("1h").is_ok() && delay("61m").is_err());
        assert!(overlap("0s").is_ok() && overlap("168h").is_ok());
        assert!(overlap("169h").is_err() && overlap("-1s").is_err() && overlap("1").is_err());
    }

    #[test]
    fn retention_is_off_or_in_days_or_any_duration() {
        let of = |text| retention(text).map(|retention| retention.0);
        assert_eq!(of("off"), Ok(None));
        assert_eq!(of("30d"), Ok(Some(Duration::from_secs(2_592_000))));
        assert_eq!(of("12h"), Ok(Some(Duration::from_secs(43_200))));
        for bad in ["", "0d", "-1d", "d", "0s", "never", "3651d", "99999h"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_schedules_have_names_or_waits() {
        assert_eq!(retry_schedule("seed"), Ok(RetrySchedule::seed()));
        assert_eq!(retry_schedule("standard"), Ok(RetrySchedule::standard()));
        let waits = [60, 300, 3_600].map(Duration::from_secs).to_vec();
        assert_eq!(
            retry_schedule("1m,5m, 1h").map(|schedule| schedule.waits),
            Ok(waits)
        );
        let many = ["1m"; MAX_WAITS + 1].join(",");
        for bad in ["", "never", "1m,,5m", "1m,0s", "721h", &many] {
            assert!(retry_schedule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_a_list_or_none() {
        assert_eq!(networks("none"), Ok(AddressPolicy::default()));
        assert_eq!(
            networks("127.0.0.0/8, ::1/128"),
            Ok(AddressPolicy::with_loopback())
        );
        for bad in ["", "10.0.0.1/33", "localhost", "10.0.0.0/8,"] {
            assert!(networks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(number::<8>("8"), Ok(8));
        for bad in ["0", "-1", "9", "many", ""] {
            assert!(number::<8>(bad).is_err(), "{bad}");
        }
        assert!(bytes("1024GiB").is_ok());
        for bad in ["0MiB", "1025GiB", "4294967296GiB", "512", ""] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        for good in ["127.0.0.1", "::1", "0.0.0.0", "localhost"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for good in ["127.0.0.1:9464", "[::1]:9464", "localhost:9464"] {
            assert!(addresses(good).is_ok(), "{good}");
        }
        // A name that RFC 6761 keeps from existing.
        for bad in ["", "nowhere.invalid", "127.0.0.1:9464"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        for bad in ["", "9464", "localhost", "127.0.0.1:port"] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redis_has_urls() {
        for good in [
            "redis://127.0.0.1:6379",
            "rediss://u:p@host/2",
            "redis+unix:///run/redis.sock",
        ] {
            assert_eq!(redis_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:6379",
            "http://redis",
            "redis",
            "rediss://host/#insecure",
        ] {
            assert!(redis_url(bad).is_err(), "{bad}");
        }
    }
}
