//! Traces, as a collector gets them: one from the import or the sync run through the call of the plugin to the delivery.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Collector, Host, HostBuilder, Ledger, PATIENCE, Receiver, Shop, Site, Span,
    eventually, on_every_backend,
};

/// No scheduler of syncs: the tests say when one runs.
const ROLES: [&str; 4] = [
    "api",
    "sync-worker",
    "callback-worker",
    "callback-scheduler",
];
/// The spans of a sync run and its events, one receipt and one endpoint of `sync.completed` given.
const RUN: [&str; 6] = [
    "deliver",
    "fan out",
    "fan out",
    "plugin shape",
    "plugin validate",
    "sync",
];

/// Exports what was collected every 100 ms.
fn traced(host: HostBuilder, collector: &Collector) -> HostBuilder {
    host.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

fn roles(site: &Arc<Site>) -> HostBuilder {
    ROLES
        .into_iter()
        .fold(site.host(), |host, role| host.role(role))
}

async fn endpoint(host: &Host, url: &str) -> Result<String> {
    let body = json!({"organizationId": "org-1", "event": "sync.completed", "targetUrl": url});
    let answer = host.post("/webhooks/register", &body).await?;
    answer
        .get("secret")
        .as_str()
        .map(str::to_owned)
        .with_context(|| answer.text)
}

/// A store with an order, so that runs end as completed, and a refused receipt to ask about again.
async fn shop(host: &Host) -> Result<Shop> {
    let shop = Shop::open(host, "org-1", "etsy").await?;
    for receipt in ["order-101", "order-102"] {
        shop.import(host, receipt).await?;
    }
    Ok(shop)
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans
        .iter()
        .find(|span| span.name == name)
        .expect("it was waited for")
}

/// `00-<trace>-<span>-01` as trace and span.
fn parts(traceparent: &str) -> Result<(String, String)> {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let ["00", trace, span, "01"] = parts[..] else {
        anyhow::bail!("no traceparent: {traceparent:?}")
    };
    ensure!(trace.len() == 32 && span.len() == 16, "{traceparent}");
    Ok((trace.to_owned(), span.to_owned()))
}

/// The run's own spans hang together as they caused each other.
fn check_run(spans: &[Span], delivering_span: &str) {
    let sync = one(spans, "sync");
    assert_eq!(sync.parent_id, "", "a run begins a trace");
    assert_eq!(sync.attributes["outcome"], "finished");
    for child in ["plugin validate", "fan out", "deliver"] {
        assert_eq!(one(spans, child).parent_id, sync.span_id, "{child}");
    }
    let validate = one(spans, "plugin validate");
    assert_eq!(
        (
            &*validate.attributes["plugin.name"],
            &*validate.attributes["outcome"]
        ),
        ("etsy", "answered")
    );
    assert_eq!(validate.attributes["plugin.digest"].len(), 64);
    let shape = one(spans, "plugin shape");
    assert_eq!(shape.attributes["plugin.name"], "standard-payload");
    let fan_outs: Vec<&str> = spans
        .iter()
        .filter(|span| span.name == "fan out")
        .map(|span| &*span.span_id)
        .collect();
    assert!(fan_outs.contains(&&*shape.parent_id));
    let deliver = one(spans, "deliver");
    assert_eq!(
        deliver.span_id, delivering_span,
        "the receiver continues from the attempt"
    );
    assert_eq!(deliver.attributes["http.response.status_code"], "200");
    let of_request = |name| &*one(spans, name).attributes["request.id"];
    assert!(!of_request("sync").is_empty());
    assert_eq!(of_request("fan out"), of_request("sync"));
    assert_eq!(of_request("deliver"), of_request("sync"));
    assert_eq!((deliver.kind, deliver.failed), (3, false));
    assert!(spans.iter().all(|span| span.service == "wharf"));
}

async fn one_trace_goes_from_the_cause_to_the_delivery(backend: Backend) -> Result<()> {
    let (site, collector, receiver) = (
        Site::open(backend).await?,
        Collector::start().await?,
        Receiver::start().await?,
    );
    let host = traced(roles(&site), &collector)
        .env("WEBHOOK_SECRET", "the seed's secret")
        .start()
        .await?;
    let secret = endpoint(&host, receiver.url()).await?;
    let shop = shop(&host).await?;

    // An import in its client's trace.
    let theirs = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let request = host
        .request("POST", "/orders/import")
        .header("x-request-id", "import-104")
        .header("traceparent", format!("00-{}-{}-01", theirs.0, theirs.1));
    let answer =
        Answer::to(request.json(&json!({"syncToken": shop.sync_token, "receipt": "order-104"})))
            .await?;
    assert_eq!(answer.get("error"), json!("invalid_receipt"));
    let spans = collector
        .trace(
            theirs.0,
            &["POST /orders/import", "commit", "import", "plugin validate"],
        )
        .await?;
    let [request, commit, import, call] = &spans[..] else {
        anyhow::bail!("{spans:?}")
    };
    assert_eq!((&*request.parent_id, request.kind), (theirs.1, 2));
    assert_eq!(request.attributes["http.response.status_code"], "200");
    assert_eq!(import.parent_id, request.span_id);
    assert_eq!(
        (&import.span_id, &import.span_id),
        (&commit.parent_id, &call.parent_id)
    );
    assert_eq!(import.attributes["store.id"], shop.store_id);
    assert_eq!(request.attributes["request.id"], "import-104");
    assert_eq!(import.attributes["request.id"], "import-104");

    // A sync run, its calls, its events and their delivery.
    shop.request_sync(&host).await?;
    let webhook = receiver.wait_for_event("sync.completed").await?;
    let (trace, span) = parts(webhook.header("traceparent"))?;
    let names = [
        "deliver",
        "fan out",
        "fan out",
        "plugin shape",
        "plugin validate",
        "plugin validate",
        "sync",
    ];
    check_run(&collector.trace(&trace, &names).await?, &span);

    // Each of these asks the database, and is answered with one line in the log, as without traces.
    let answered = || {
        host.log()
            .iter()
            // By path: the line of an earlier request may come later than its answer.
            .filter(|line| line.field("span")["path"] == "/stores/sync-status")
            .filter(|line| line.message() == "answered")
            .count()
    };
    let before = answered();
    for _ in 0..20 {
        shop.status(&host).await?;
    }
    let all = || async { (answered() == before + 20).then_some(()) };
    eventually("20 lines", PATIENCE, all)
        .await
        .with_context(|| format!("{} of 20", answered() - before))?;
    let logged = host.logged();
    assert!(
        !logged.contains("traceparent") && !logged.contains(&trace),
        "the log is the same with traces: {logged}"
    );
    for hidden in [
        &*shop.sync_token,
        &secret,
        "token-abc",
        "the seed's secret",
        "order-10",
        receiver.url(),
    ] {
        assert!(!collector.has_seen(hidden), "{hidden} left in a trace");
    }
    Ok(())
}

/// A retry is one more attempt in the same trace, and says that the one before failed.
async fn retries_stay_in_their_trace(backend: Backend) -> Result<()> {
    let (site, collector, receiver) = (
        Site::open(backend).await?,
        Collector::start().await?,
        Receiver::start().await?,
    );
    receiver.answer_status(500);
    let host = traced(roles(&site), &collector)
        .env("WEBHOOK_RETRY", "200ms")
        .start()
        .await?;
    endpoint(&host, receiver.url()).await?;
    let shop = shop(&host).await?;
    shop.request_sync(&host).await?;
    let webhooks = receiver.wait_for(2).await?;
    let [(trace, first), (again, second)] = [
        parts(webhooks[0].header("traceparent"))?,
        parts(webhooks[1].header("traceparent"))?,
    ];
    assert_eq!(trace, again);
    assert_ne!(first, second);
    let mut names = RUN.to_vec();
    names.insert(0, "deliver");
    let spans = collector.trace(&trace, &names).await?;
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "deliver").collect();
    assert!(
        attempts
            .iter()
            .all(|span| span.failed && span.attributes["http.response.status_code"] == "500")
    );
    let mut numbers: Vec<&str> = attempts
        .iter()
        .map(|span| &*span.attributes["attempt"])
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["1", "2"]);
    Ok(())
}

/// Without the variables nothing is collected, stored or told to receivers, whatever clients send.
async fn no_traces_without_being_asked(backend: Backend) -> Result<()> {
    let (site, receiver) = (Site::open(backend).await?, Receiver::start().await?);
    // Compose files and the like make an empty variable of one that is not set.
    let host = roles(&site)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        .start()
        .await?;
    endpoint(&host, receiver.url()).await?;
    let shop = shop(&host).await?;
    let request = host.request("POST", "/stores/sync");
    let request = request.header(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    );
    assert_eq!(
        Answer::to(request.json(&json!({"syncToken": shop.sync_token})))
            .await?
            .status,
        202
    );
    let webhook = receiver.wait_for_event("sync.completed").await?;
    assert!(
        !webhook.headers.contains_key("traceparent"),
        "{:?}",
        webhook.headers
    );
    let ledger = Ledger::open(&site).await?;
    assert_eq!(
        ledger
            .rows("select distinct traceparent from callback_outbox")
            .await?,
        [json!({"traceparent": Value::Null})]
    );
    Ok(())
}

async fn a_wrong_variable_is_named(backend: Backend) -> Result<()> {
    let site = Site::open(backend).await?;
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector of mine"),
    ] {
        let host = site
            .host()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .env(name, value);
        let (status, printed) = host.run().await?;
        assert_eq!(status.code(), Some(2), "{printed}");
        assert!(
            printed.contains(name) && !printed.contains(value),
            "{printed}"
        );
    }
    Ok(())
}

/// Traces are a service: where nobody takes them, work goes on, and the end does not wait for ever.
async fn a_missing_collector_harms_nobody(backend: Backend) -> Result<()> {
    let (site, receiver) = (Site::open(backend).await?, Receiver::start().await?);
    let host = roles(&site).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let mut host = host.env("OTEL_BSP_SCHEDULE_DELAY", "100").start().await?;
    endpoint(&host, receiver.url()).await?;
    shop(&host).await?.request_sync(&host).await?;
    receiver.wait_for_event("sync.completed").await?;
    assert!(host.stop().await?.success(), "{}", host.logged());
    Ok(())
}

on_every_backend!(
    one_trace_goes_from_the_cause_to_the_delivery,
    retries_stay_in_their_trace,
    no_traces_without_being_asked,
    a_wrong_variable_is_named,
    a_missing_collector_harms_nobody,
);

/// The delivery is made by another process, long after the run's has ended: the same trace. And what was collected leaves
/// when a process ends, however long it would else have waited.
#[test]
fn processes_share_a_trace_and_flush_it_at_their_end() -> Result<()> {
    wharf_tests::run(async {
        let (site, collector, receiver) = (
            Site::open(Backend::Postgres).await?,
            Collector::start().await?,
            Receiver::start().await?,
        );
        let patient =
            |host: HostBuilder| traced(host, &collector).env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
        let mut syncing = patient(site.host().role("api").role("sync-worker"))
            .start()
            .await?;
        endpoint(&syncing, receiver.url()).await?;
        shop(&syncing).await?.request_sync(&syncing).await?;
        let ledger = Ledger::open(&site).await?;
        ledger
            .wait_for("select 1 as run from callback_outbox where event = 'sync.completed'")
            .await?;
        assert_eq!(collector.spans(), []);
        assert!(syncing.stop().await?.success(), "{}", syncing.logged());
        let sync = collector
            .spans()
            .into_iter()
            .find(|span| span.name == "sync")
            .context("the run was flushed")?;

        let sending = patient(site.host().command(&["worker", "callback"]))
            .env("OTEL_SERVICE_NAME", "wharf-sender");
        let mut sending = sending.start().await?;
        let webhook = receiver.wait_for_event("sync.completed").await?;
        let (trace, span) = parts(webhook.header("traceparent"))?;
        assert_eq!(trace, sync.trace_id);
        assert!(sending.stop().await?.success(), "{}", sending.logged());
        let spans = collector.trace(&trace, &RUN).await?;
        let deliver = one(&spans, "deliver");
        assert_eq!(
            (&deliver.span_id, &deliver.parent_id, &*deliver.service),
            (&span, &sync.span_id, "wharf-sender")
        );
        Ok(())
    })
}
