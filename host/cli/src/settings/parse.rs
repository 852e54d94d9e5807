//! Readers of single settings.

use std::{net::SocketAddr, time::Duration};

use jiff::SignedDuration;
use wharf_domain::{AddressPolicy, RetrySchedule};

use super::Retention;

/// A duration above 0, such as `500ms`, `30s` or `5m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<SignedDuration>() {
        Ok(duration) if duration.is_positive() => Ok(duration.unsigned_abs()),
        Ok(_) => Err("must be more than 0".into()),
        Err(_) => Err("must be a duration such as 500ms, 30s or 5m".into()),
    }
}

/// A duration such as `5s`, or `0s` for none.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<SignedDuration>() {
        Ok(delay) if !delay.is_negative() => Ok(delay.unsigned_abs()),
        _ => Err("must be a duration such as 5s, or 0s".into()),
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
        if lease < Duration::from_secs(1) {
            Err("must be at least 1s".into())
        } else {
            Ok(lease)
        }
    })
}

/// `off`, days such as `30d`, or a duration.
pub(super) fn retention(text: &str) -> Result<Retention, String> {
    const DAY: u64 = 24 * 60 * 60;
    match (
        text.trim(),
        text.trim().strip_suffix('d').map(str::parse::<u32>),
    ) {
        ("off", _) => Ok(Retention(None)),
        // `0d` is not taken here and refused below: it would purge whatever is finished.
        (_, Some(Ok(days @ 1..))) => {
            Ok(Retention(Some(Duration::from_secs(u64::from(days) * DAY))))
        }
        (text, _) => duration(text)
            .map(|time| Retention(Some(time)))
            .map_err(|_| "must be off, days such as 30d or a duration such as 12h".into()),
    }
}

/// A size such as `512MiB` or `2GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const MIB: u64 = 1024 * 1024;
    let sizes = [("MiB", MIB), ("GiB", 1024 * MIB)];
    let size = sizes.into_iter().find_map(|(unit, size)| {
        let number = text.trim().strip_suffix(unit)?.trim_end();
        number
            // A `u32`, so that not even GiB overflow.
            .parse::<u32>()
            .ok()
            .map(|number| u64::from(number) * size)
    });
    size.filter(|size| *size > 0)
        .ok_or_else(|| "must be a size such as 512MiB or 2GiB".into())
}

/// An address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim()
        .parse()
        .map_err(|_| "must be an address and a port such as 127.0.0.1:9464 or [::1]:9464".into())
}

/// A number of things done at a time.
pub(super) fn concurrency(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        // 0 would stand still in silence.
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err("must be a number from 1 to 10000".into()),
    }
}

/// `seed`, `standard`, or the waits after the first failure, the second and so on, with up to 20 % added at random.
pub(super) fn retry_schedule(text: &str) -> Result<RetrySchedule, String> {
    const JITTER_PERCENT: u32 = 20;
    match text.trim() {
        "seed" => Ok(RetrySchedule::seed()),
        "standard" => Ok(RetrySchedule::standard()),
        list => match list.split(',').map(duration).collect() {
            Ok(waits) => Ok(RetrySchedule {
                waits,
                jitter_percent: JITTER_PERCENT,
            }),
            Err(_) => Err("must be seed, standard or a list of waits such as 1m,5m,1h".into()),
        },
    }
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

/// Returns true for the URL of a Redis server.
pub(super) fn is_redis_url(text: &str) -> bool {
    const SCHEMES: [&str; 4] = ["redis", "rediss", "redis+unix", "unix"];
    wharf_egress::Url::parse(text).is_ok_and(|url| SCHEMES.contains(&url.scheme()))
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
        for bad in ["", "30", "0s", "-5s", "s", "soon", "5 parsecs"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(lease("999ms").is_err() && lease("1s").is_ok());
        assert!(overlap("0s").is_ok() && overlap("168h").is_ok());
        assert!(overlap("169h").is_err() && overlap("-1s").is_err() && overlap("1").is_err());
    }

    #[test]
    fn retention_is_off_or_in_days_or_any_duration() {
        let of = |text| retention(text).map(|retention| retention.0);
        assert_eq!(of("off"), Ok(None));
        assert_eq!(of("30d"), Ok(Some(Duration::from_secs(2_592_000))));
        assert_eq!(of("12h"), Ok(Some(Duration::from_secs(43_200))));
        for bad in ["", "0d", "-1d", "d", "0s", "never"] {
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
        for bad in ["", "never", "1m,,5m", "1m,0s"] {
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
        assert_eq!(concurrency("8"), Ok(8));
        for bad in ["0", "-1", "10001", "many", ""] {
            assert!(concurrency(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redis_has_urls() {
        for good in [
            "redis://127.0.0.1:6379",
            "rediss://u:p@host/2",
            "redis+unix:///run/redis.sock",
        ] {
            assert!(is_redis_url(good), "{good}");
        }
        for bad in ["", "127.0.0.1:6379", "http://redis", "redis"] {
            assert!(!is_redis_url(bad), "{bad}");
        }
    }
}
