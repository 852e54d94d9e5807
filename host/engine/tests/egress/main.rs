//! Outbound HTTP of a real adapter: what was granted goes out with its credential, everything else stays inside.

mod recorded;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{ask, component, request, settings};
use upstream::{Upstream, accepted, grants, json};
use wharf_domain::{AccessToken, Answer, OrganizationId};
use wharf_engine::{Engine, Fault, OperationError, PluginState, Resolver, Stage};

async fn engine_with(grants: &str, resolver: Option<Arc<dyn Resolver>>) -> Engine {
    let mut settings = settings();
    if let Some(resolver) = resolver {
        settings.resolver = resolver;
    }
    let engine = Engine::start(settings).expect("an engine");
    let uploaded = engine
        .upload(
            "remote",
            component("http-marketplace"),
            Some(grants),
            "test",
        )
        .await;
    uploaded.unwrap_or_else(|error| panic!("{error}"));
    engine
}

async fn ask_with_token(engine: &Engine) -> Result<Answer, Fault> {
    let mut request = request("order-101");
    request.access_token = AccessToken::parse("s3cret-token").ok();
    let organization = OrganizationId::parse("org").expect("an organization");
    engine
        .validate("remote", &organization, request)
        .await
        .result
}

#[tokio::test]
async fn a_granted_request_goes_out_with_its_credential() {
    let upstream = Upstream::answering(accepted()).await;
    let engine = engine_with(&upstream.grants(), None).await;
    let Ok(Answer::Accepted(order)) = ask_with_token(&engine).await else {
        panic!("an order")
    };
    assert_eq!(
        (order.id.as_str(), order.amount.to_string().as_str()),
        ("o-1", "10.10")
    );
    let [heard] = &upstream.heard()[..] else {
        panic!("one request")
    };
    assert!(
        heard.starts_with("POST /mock/etsy/validate HTTP/1.1"),
        "{heard}"
    );
    assert!(
        heard
            .to_lowercase()
            .contains("authorization: bearer s3cret-token"),
        "{heard}"
    );
    assert!(
        heard.ends_with(r#"{"receipt":"order-101","currency":"EUR"}"#),
        "{heard}"
    );
    let report = format!("{:?}", engine.plugins());
    assert!(!report.contains("s3cret"), "no secret in a report");
}

#[tokio::test]
async fn a_plugin_without_its_grants_waits_for_approval() {
    let engine = support::engine();
    let OperationError::Refused(refusal) = engine
        .upload("remote", component("http-marketplace"), None, "test")
        .await
        .expect_err("nothing is granted")
    else {
        panic!("a refusal")
    };
    assert_eq!(refusal.stage, Stage::Approve);
    assert!(
        refusal.cause.contains("the credential marketplace"),
        "{refusal}"
    );
    assert!(matches!(
        engine.plugins()[0].state,
        PluginState::NeedsApproval { .. }
    ));
    let only_config = "[config]\nbase_url = 'https://api.example.com'\nmarketplace = 'etsy'";
    let error = engine
        .upload(
            "remote",
            component("http-marketplace"),
            Some(only_config),
            "test",
        )
        .await;
    assert!(
        error
            .expect_err("no origin")
            .to_string()
            .contains("the origin https://api.example.com")
    );
    let missing = "[config]\n[credentials.marketplace]\nscheme = 'bearer'\ntoken = { env = 'WHARF_PLUGIN_NO_SUCH_VARIABLE' }";
    let error = engine
        .upload(
            "remote",
            component("http-marketplace"),
            Some(missing),
            "test",
        )
        .await;
    assert!(
        error
            .expect_err("no secret")
            .to_string()
            .contains("WHARF_PLUGIN_NO_SUCH_VARIABLE")
    );
}

#[tokio::test]
async fn addresses_are_refused_in_every_spelling_and_never_connected() {
    let upstream = Upstream::answering(accepted()).await;
    let port = upstream.address.port();
    let state = tempfile::tempdir().expect("a folder");
    let mut settings = settings();
    // Compiled once for all of them.
    settings.state_dir = Some(state.path().into());
    let engine = Engine::start(settings).expect("an engine");
    let spellings = [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "127.1",
        "[::ffff:127.0.0.1]",
        "0",
    ];
    let inner = [
        "169.254.169.254",
        "10.0.0.1",
        "[fd00::1]",
        "[64:ff9b::a9fe:a9fe]",
    ];
    for host in spellings.into_iter().chain(inner) {
        let grants = grants(&format!("http://{host}:{port}"), "", "");
        engine
            .upload(
                "remote",
                component("http-marketplace"),
                Some(&grants),
                "test",
            )
            .await
            .expect("granted");
        let answer = ask_with_token(&engine).await;
        assert!(
            matches!(answer, Ok(Answer::Unavailable(_))),
            "{host}: {answer:?}"
        );
    }
    assert_eq!(
        upstream.heard(),
        Vec::<String>::new(),
        "nobody was connected"
    );
}

/// A name service that first says what is allowed, and then leads inside.
struct Flipping {
    asked: AtomicUsize,
}

impl Resolver for Flipping {
    fn resolve(&self, _: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let addresses = match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => vec![[127, 0, 0, 1].into()],
            1 => vec![[127, 0, 0, 2].into()],
            // One that is allowed does not make up for one that is not.
            _ => vec![[127, 0, 0, 1].into(), [127, 0, 0, 2].into()],
        };
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

#[tokio::test]
async fn a_name_that_flips_to_an_inner_address_is_not_followed() {
    let allowed = Upstream::answering(accepted()).await;
    let inner =
        Upstream::answering_at(&format!("127.0.0.2:{}", allowed.address.port()), accepted()).await;
    let resolver = Arc::new(Flipping {
        asked: AtomicUsize::new(0),
    });
    let origin = format!("http://flip.example:{}", allowed.address.port());
    let engine = engine_with(
        &grants(&origin, "private_networks = ['127.0.0.1/32']", ""),
        Some(resolver.clone()),
    )
    .await;
    assert!(
        matches!(ask_with_token(&engine).await, Ok(Answer::Accepted(_))),
        "at first it leads where it may"
    );
    for _ in 0..2 {
        assert!(matches!(
            ask_with_token(&engine).await,
            Ok(Answer::Unavailable(_))
        ));
    }
    assert_eq!(
        resolver.asked.load(Ordering::SeqCst),
        3,
        "asked anew for every connection"
    );
    assert_eq!((allowed.heard().len(), inner.heard().len()), (1, 0));
}

/// A credential goes where its grant says, though the plugin may ask elsewhere, too.
#[tokio::test]
async fn a_credential_is_sent_to_its_own_origins_alone() {
    let (theirs, other) = (
        Upstream::answering(accepted()).await,
        Upstream::answering(accepted()).await,
    );
    for (asked, of_credential, is_sent) in [(&theirs, &theirs, true), (&other, &theirs, false)] {
        let grants = asked.grants().replace(
            "scheme =",
            &format!("origins = ['http://{}']\nscheme =", of_credential.address),
        );
        let engine = engine_with(&grants, None).await;
        assert!(matches!(
            ask_with_token(&engine).await,
            Ok(Answer::Accepted(_))
        ));
        let [heard] = &asked.heard()[..] else {
            panic!("one request")
        };
        assert_eq!(heard.contains("s3cret-token"), is_sent, "{heard}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_floods_are_cut() {
    let target = Upstream::answering(accepted()).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        target.address
    );
    let endless = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{}",
        "x".repeat(100_000)
    );
    let metadata = "HTTP/1.1 307 Elsewhere\r\nlocation: http://169.254.169.254/latest/meta-data/\r\ncontent-length: 0\r\n\r\n";
    for answer in [
        redirect,
        metadata.into(),
        endless,
        "garbage\r\n\r\n".into(),
        json("500 Oops", "{}"),
        json("200 OK", "not json"),
    ] {
        let upstream = Upstream::answering(answer.clone()).await;
        let limits = "http_body_bytes = 50000";
        let grants = upstream
            .grants()
            .replace("[limits]\n", &format!("[limits]\n{limits}\n"));
        let engine = engine_with(&grants, None).await;
        let said = ask_with_token(&engine).await;
        assert!(
            matches!(said, Ok(Answer::Unavailable(_))),
            "{:.40}: {said:?}",
            answer
        );
        assert_eq!(upstream.heard().len(), 1);
    }
    assert_eq!(
        target.heard(),
        Vec::<String>::new(),
        "the redirect's target was never asked"
    );
}

#[tokio::test]
async fn a_silent_upstream_is_upstreams_fault() {
    let upstream = Upstream::answering("").await;
    let grants = upstream
        .grants()
        .replace("[limits]\n", "[limits]\nhttp_timeout_ms = 100\n");
    let engine = engine_with(&grants, None).await;
    assert!(
        matches!(ask_with_token(&engine).await, Ok(Answer::Unavailable(_))),
        "the guest was told"
    );
    let grants = upstream
        .grants()
        .replace("[limits]\n", "[limits]\nwall_ms = 200\n");
    let engine = engine_with(&grants, None).await;
    assert_eq!(ask_with_token(&engine).await, Err(Fault::UpstreamTooSlow));
}

/// The status line decides for guests as it does for webhooks.
#[tokio::test]
async fn odd_lines_in_a_head_are_passed_over() {
    let cookies: String = (0..1_000)
        .map(|n| format!("set-cookie: c{n}=1\r\n"))
        .collect();
    for lines in [
        "set-cookie: a=b;\r\n\tpath=/\r\n",
        "x-a : one\r\n",
        "set-cookie: a=b\u{1}c\r\n",
        "nonsense\r\n",
        &cookies,
    ] {
        let head =
            format!("HTTP/1.1 429 Slow\r\n{lines}retry-after: 2.0\r\ncontent-length: 0\r\n\r\n");
        let upstream = Upstream::answering(head).await;
        let engine = engine_with(&upstream.grants(), None).await;
        let said = ask_with_token(&engine).await;
        let limited = Answer::RateLimited(Some(Duration::from_secs(2)));
        assert_eq!(said, Ok(limited), "{lines:.40}");
    }
}

/// An outage with an end: the contract gives it no wait, so the host reads the header by itself.
#[tokio::test]
async fn a_marketplace_that_is_down_says_for_how_long() {
    for (head, wait) in [
        ("retry-after: 7200", Some(7_200)),
        (
            "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sunday, 06-Nov-94 08:59:37 GMT",
            Some(600),
        ),
        ("retry-after: soon", None),
        ("x-nothing: said", None),
    ] {
        let head = format!("HTTP/1.1 503 Down\r\n{head}\r\ncontent-length: 0\r\n\r\n");
        let upstream = Upstream::answering(&*head).await;
        let engine = engine_with(&upstream.grants(), None).await;
        let said = ask_with_token(&engine).await.expect("an answer");
        let told = match &said {
            Answer::Busy(_, wait) => Some(wait.as_secs()),
            Answer::Unavailable(_) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, wait, "{head}");
    }
}

#[tokio::test]
async fn requests_are_counted_and_rate_limits_told() {
    let upstream =
        Upstream::answering("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n")
            .await;
    let engine = engine_with(&upstream.grants(), None).await;
    assert_eq!(
        ask_with_token(&engine).await,
        Ok(Answer::RateLimited(Some(Duration::from_secs(7))))
    );
    // The store's token is a part of the call; without one the credential cannot be added and nothing goes out.
    let before = upstream.heard().len();
    let Ok(Answer::Unavailable(why)) = ask(&engine, "remote", "order-101").await.result else {
        panic!("it could not be asked")
    };
    // Nobody is down: the guest was told what is missing.
    assert!(
        why.starts_with("misconfigured: ") && why.contains("access token"),
        "{why}"
    );
    assert_eq!(upstream.heard().len(), before);
}
