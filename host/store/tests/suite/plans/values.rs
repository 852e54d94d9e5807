//! Values for the parameters of the statements whose plans are looked at.

use anyhow::Result;
use wharf_domain::Time;
use wharf_store::Sql;
use wharf_tests::Backend;

use crate::{fixture::NOW, operator_plans};

/// The statement with values instead of parameters.
pub(super) fn with_values(name: &str, sql: Sql, backend: Backend) -> Result<String> {
    let (text, nobody, late) = match backend {
        Backend::Postgres => {
            let late = jiff::Timestamp::from_microsecond(NOW.as_micros())?;
            (
                sql.postgres,
                "'00000000-0000-0000-0000-000000000001'".to_owned(),
                format!("timestamptz '{late}'"),
            )
        }
        Backend::Embedded => (
            sql.sqlite,
            "x'00000000000000000000000000000001'".to_owned(),
            Time::as_micros(NOW).to_string(),
        ),
    };
    let (ids, number) = (
        r#"'[{"id":"00000000000000000000000000000001"}]'"#.to_owned(),
        "64".to_owned(),
    );
    let shares = r#"'[{"endpoint_id":"00000000000000000000000000000001","most":16}]'"#.to_owned();
    let early = if backend == Backend::Postgres {
        "timestamptz 'epoch'".to_owned()
    } else {
        "0".to_owned()
    };
    // A filter that fits little, between borders that leave everything open.
    let (first, last) = match backend {
        Backend::Postgres => (
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ),
        Backend::Embedded => (
            "x'00000000000000000000000000000000'",
            "x'ffffffffffffffffffffffffffffffff'",
        ),
    };
    let some_logs = |more: &[&String]| {
        let filter = [
            last, first, "'failed'", "-1", "''", "0", &early, &late, "'fill'", "'etsy'",
        ];
        let all = filter
            .into_iter()
            .chain(more.iter().map(|one| one.as_str()));
        all.map(str::to_owned).collect()
    };
    // One that has logs: of one that has none every index is as good.
    let store = format!("(select store_id from sync_logs where id = {nobody})");
    let stores = r#"'[{"store_id":"00000000000000000000000000000001"}]'"#.to_owned();
    let digests = r#"'[{"digest":"d"}]'"#.to_owned();
    let values: Vec<String> = match name {
        "logs::list::UNFINISHED" | "logs::list::EXHAUSTED" => some_logs(&[&number, &number]),
        "logs::list::UNFINISHED_OF_STORE" => some_logs(&[&number, &number, &store]),
        "logs::list::OF_STORE" => {
            let mut values: Vec<String> = some_logs(&[&number, &number, &store, &late, &early]);
            // What is no success is listed by its own index.
            values[2] = "'success'".into();
            values
        }
        "logs::list::COUNT_UNFINISHED" | "logs::list::COUNT_EXHAUSTED" => some_logs(&[&number]),
        "logs::list::COUNT_UNFINISHED_OF_STORE" => some_logs(&[&number, &store]),
        "logs::list::BORDER_UNFINISHED" | "logs::list::BORDER_EXHAUSTED" => {
            vec![last.into(), number]
        }
        "logs::list::BORDER_UNFINISHED_OF_STORE" => vec![last.into(), number, store],
        "logs::list::BORDER_OF_STORE" => vec![last.into(), number, store, late],
        "logs::search::BY_RECEIPT" | "logs::search::BY_ORDER" => vec![stores, "'name'".into()],
        "logs::search::STORES" => vec![early, nobody, number],
        "logs::attempts::PURGE" => vec![late, number],
        "logs::attempts::PLUGINS" => vec![digests],
        "logs::DUE" => vec![nobody, late, number],
        "logs::HAS_DUE" => vec![nobody, late],
        "stores::PAGE" => vec![early, nobody, late.clone(), late, number],
        "logs::settle::RETRY_FAILED" => vec![nobody, late.clone(), late, number],
        "stores::RECENT" | "logs::INSERT" => vec![ids],
        "jobs::DUE"
        | "outbox::COUNT_DUE"
        | "outbox::purge::PURGE"
        | "deliveries::queue::COUNT_DUE" => {
            vec![late, number]
        }
        "stores::list::ALL_STORES"
        | "stores::list::OF_ORGANIZATION"
        | "stores::list::OF_MARKETPLACE"
        | "stores::list::OF_EXTERNAL_ID" => [
            last, "5000", "51", "'many'", "'etsy'", "'s1'", "'failed'", "1",
        ]
        .map(str::to_owned)
        .to_vec(),
        "stores::list::END_OF_ORGANIZATION" => vec![last.into(), "4999".into(), "'many'".into()],
        "stores::detail::OPEN" | "holds::MARKED" => vec![nobody, number],
        "stores::detail::FAULTS" => vec![nobody, number.clone(), number],
        "stores::detail::DUE_LOGS" => vec![nobody, late, number],
        "stores::detail::RUNS" => vec!["'fill'".into(), nobody, number.clone(), number],
        "stores::detail::PENDING_EVENTS" => vec!["'fill'".into(), nobody, number],
        "holds::PUT_OFF" => vec![late.clone(), late, number],
        "stores::removal::NEXT" => vec![late, nobody],
        "queues::SYNC" | "queues::EVENTS" => vec![late, number],
        "queues::DELIVERIES" => vec![late, number.clone(), number],
        "jobs::WAITING" => vec![late, number.clone(), number.clone(), number],
        "resting::PAGE" => vec![nobody, number],
        "outbox::CLAIM" => vec![late.clone(), late, number],
        "deliveries::queue::QUEUES" => vec![nobody, late, number],
        "deliveries::claim::CLAIM" => vec![shares, late.clone(), late, "'w'".into()],
        _ => operator_plans::values(name, nobody, late)?,
    };
    let mut text = text.to_owned();
    for (index, value) in values.iter().enumerate().rev() {
        text = text.replace(&format!("${}", index + 1), value);
    }
    Ok(text)
}
