//! The same components without Wharf: an instance from a pool, a call, and nothing else.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use http_body_util::BodyExt;
use tokio::runtime;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store,
    component::{Component, HasSelf, InstancePre, Linker, ResourceTable},
    ensure,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};
use wharf_egress::{
    GuardedClient, Url,
    header::{CONTENT_LENGTH, HOST},
};

use self::bindings::{
    MarketplaceAdapterPre, PayloadShaperPre,
    adapter::{Request, Verdict},
    config, log,
    shaper::Event,
};

/// The time of one exchange: the default limit of an adapter.
const MAX_EXCHANGE: Duration = Duration::from_secs(10);

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated code")]

    pub(super) mod of_adapters {
        wasmtime::component::bindgen!({
            path: "../wit/0.1.0",
            world: "marketplace-adapter",
            exports: { default: async },
        });
    }

    pub(super) mod of_shapers {
        wasmtime::component::bindgen!({
            path: "../wit/0.1.0",
            world: "payload-shaper",
            exports: { default: async },
            with: { "wharf:plugin/log": super::of_adapters::wharf::plugin::log },
        });
    }

    pub(super) use of_adapters::MarketplaceAdapterPre;
    pub(super) use of_adapters::exports::wharf::plugin::adapter;
    pub(super) use of_adapters::wharf::plugin::{config, log};
    pub(super) use of_shapers::PayloadShaperPre;
    pub(super) use of_shapers::exports::wharf::plugin::shaper;
}

/// A component in a wasmtime of its own.
#[derive(Clone)]
pub(super) struct Bare {
    engine: Engine,
    guest: Guest,
    upstream: Option<Upstream>,
}

#[derive(Clone)]
enum Guest {
    Adapter(MarketplaceAdapterPre<State>),
    Shaper(PayloadShaperPre<State>),
}

/// What `http-marketplace` asks: where it is, and the client that Wharf uses as well.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) base_url: String,
    pub(super) client: GuardedClient,
}

/// A context would cost more than the call, and most components never ask for it.
struct State {
    wasi: Option<WasiCtx>,
    table: ResourceTable,
    http: WasiHttpCtx,
    upstream: Hooks,
}

struct Hooks(Option<Upstream>);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| WasiCtx::builder().build());
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.upstream,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Finished,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Finished), Error>> + Send> {
        let client = self.0.as_ref().map(|upstream| upstream.client.clone());
        Box::new(async move { send(client.ok_or(Error::HttpRequestDenied)?, request).await })
    }
}

async fn send(
    client: GuardedClient,
    request: http::Request<WasiBody>,
) -> Result<(http::Response<WasiBody>, Finished), Error> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    parts.headers.remove(HOST);
    parts.headers.remove(CONTENT_LENGTH);
    let sent = client.send(wharf_egress::Request {
        method: parts.method,
        url: Url::parse(&parts.uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?,
        headers: parts.headers,
        body,
        deadline: Instant::now() + MAX_EXCHANGE,
    });
    let answer = sent.await.map_err(|_| Error::HttpProtocolError)?;
    let answer = answer.map(|body| {
        body.map_err(|_| Error::HttpResponseIncomplete)
            .boxed_unsync()
    });
    let finished: Finished = Box::new(std::future::ready(Ok(())));
    Ok((answer, finished))
}

impl log::Host for State {
    fn log(&mut self, _level: log::Level, _message: String) {}
}

impl config::Host for State {
    fn get(&mut self, key: String) -> Option<String> {
        let upstream = self.upstream.0.as_ref()?;
        match key.as_str() {
            "base_url" => Some(upstream.base_url.clone()),
            "marketplace" => Some("etsy".to_owned()),
            _ => None,
        }
    }
}

impl Bare {
    pub(super) fn adapter(component: &[u8], upstream: Option<Upstream>) -> Result<Self> {
        let (engine, component) = prepare(component)?;
        let guest = Guest::Adapter(MarketplaceAdapterPre::new(component)?);
        Ok(Self {
            engine,
            guest,
            upstream,
        })
    }

    pub(super) fn shaper(component: &[u8]) -> Result<Self> {
        let (engine, component) = prepare(component)?;
        let guest = Guest::Shaper(PayloadShaperPre::new(component)?);
        Ok(Self {
            engine,
            guest,
            upstream: None,
        })
    }

    /// One call, with the input that Wharf is asked about.
    pub(super) async fn call(&self) -> anyhow::Result<()> {
        // Its errors are of a type of their own.
        self.ask().await.map_err(|error| anyhow!("{error:#}"))
    }

    async fn ask(&self) -> Result<()> {
        let state = State {
            wasi: None,
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            upstream: Hooks(self.upstream.clone()),
        };
        let mut store = Store::new(&self.engine, state);
        match &self.guest {
            Guest::Adapter(pre) => {
                let adapter = pre.instantiate_async(&mut store).await?;
                let adapter = adapter.wharf_plugin_adapter();
                let verdict = adapter.call_validate(&mut store, &request()).await?;
                let accepted = matches!(verdict, Ok(Verdict::Accepted(_)));
                ensure!(accepted, "the adapter says {verdict:?}");
            }
            Guest::Shaper(pre) => {
                let shaper = pre.instantiate_async(&mut store).await?;
                let shaper = shaper.wharf_plugin_shaper();
                let message = shaper.call_shape(&mut store, &event()).await?;
                ensure!(message.is_ok(), "the shaper says {message:?}");
            }
        }
        Ok(())
    }

    /// Calls a second, with a thread for each processor.
    pub(super) fn on_all_processors(&self, span: Duration) -> anyhow::Result<f64> {
        let threads = thread::available_parallelism().map_or(2, Into::into);
        let running: Vec<_> = (0..threads)
            .map(|_| {
                let bare = self.clone();
                thread::spawn(move || bare.repeatedly(span))
            })
            .collect();
        let mut rate = 0.0;
        for thread in running {
            rate += thread.join().expect("a call does not panic")?;
        }
        Ok(rate)
    }

    fn repeatedly(&self, span: Duration) -> anyhow::Result<f64> {
        let runtime = runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            let began = Instant::now();
            let mut calls = 0u32;
            while began.elapsed() < span {
                for _ in 0..super::BATCH {
                    self.call().await?;
                }
                calls += super::BATCH;
            }
            Ok(f64::from(calls) / began.elapsed().as_secs_f64())
        })
    }
}

fn prepare(component: &[u8]) -> Result<(Engine, InstancePre<State>)> {
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(256 * 1024)
        .table_keep_resident(64 * 1024);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .concurrency_support(false);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::<State>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    let component = Component::from_binary(&engine, component)?;
    let component = linker.instantiate_pre(&component)?;
    Ok((engine, component))
}

fn request() -> Request {
    Request {
        receipt: "order-101".to_owned(),
        currency: "USD".to_owned(),
        external_store_id: "store-1".to_owned(),
        now: "2026-01-01T12:00:00.000Z".to_owned(),
    }
}

fn event() -> Event {
    Event {
        id: "0198c0de-0000-7000-8000-000000000001".to_owned(),
        kind: "sync.completed".to_owned(),
        timestamp: "2026-01-01T12:00:00.000Z".to_owned(),
        organization_id: "bench".to_owned(),
        store_id: "0198c0de-0000-7000-8000-000000000002".to_owned(),
        data: super::DATA.to_owned(),
    }
}
