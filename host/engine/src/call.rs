//! One call: a fresh instance, its budgets, and what a failure means.

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;
use wharf_domain::{Answer, Event};

use crate::bindings::adapter_types;
use crate::convert::{self, Message, ValidateRequest, for_people};
use crate::guest::GuestState;
use crate::processor::ProcessorTime;
use crate::revision::{Callable, Guest};
use crate::{Fault, Manifest};

/// What the runtime says when a guest hands out more than its hostcall fuel; the error has no public type.
const HOSTCALL_FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls";

impl Callable {
    /// Asks an adapter to judge a receipt.
    pub(crate) async fn validate(&self, request: &ValidateRequest) -> Result<Answer, Fault> {
        convert::answer(self.judge(request).await?)
    }

    /// The same in the contract's own words.
    pub(crate) async fn judge(&self, request: &ValidateRequest) -> Result<Judged, Fault> {
        self.judge_measured(request).await.0
    }

    pub(crate) async fn judge_measured(
        &self,
        request: &ValidateRequest,
    ) -> (Result<Judged, Fault>, Usage) {
        let Guest::Adapter(pre) = &self.guest else {
            return (Err(Fault::NotFound), Usage::default());
        };
        if let Err(fault) = self.check_input(request.bytes()) {
            return (Err(fault), Usage::default());
        }
        let judged = self.run_measured(async |store| {
            store
                .data_mut()
                .requests
                .access_token
                .clone_from(&request.access_token);
            let instance = pre.instantiate_async(&mut *store).await?;
            instance
                .wharf_plugin_adapter()
                .call_validate(store, &request.to_guest())
                .await
        });
        judged.await
    }

    /// Asks a shaper for a message.
    pub(crate) async fn shape(&self, event: &Event) -> Result<Message, Fault> {
        self.shape_measured(event).await.0
    }

    pub(crate) async fn shape_measured(&self, event: &Event) -> (Result<Message, Fault>, Usage) {
        let Guest::Shaper(pre) = &self.guest else {
            return (Err(Fault::NotFound), Usage::default());
        };
        if let Err(fault) = self.check_input(convert::event_bytes(event)) {
            return (Err(fault), Usage::default());
        }
        let shaped = self.run_measured(async |store| {
            let instance = pre.instantiate_async(&mut *store).await?;
            instance
                .wharf_plugin_shaper()
                .call_shape(store, &convert::event_to_guest(event))
                .await
        });
        let (said, usage) = shaped.await;
        (
            said.and_then(|said| convert::message(said, self.limits.output_bytes)),
            usage,
        )
    }

    /// Asks what it is. The very first call of a revision, so it proves that it can be instantiated at all.
    pub(crate) async fn describe(&self) -> Result<Manifest, Fault> {
        match &self.guest {
            Guest::Adapter(pre) => {
                let said = self
                    .run(async |store| {
                        let instance = pre.instantiate_async(&mut *store).await?;
                        instance.wharf_plugin_adapter().call_describe(store).await
                    })
                    .await?;
                convert::adapter_manifest(said).map(Manifest::Adapter)
            }
            Guest::Shaper(pre) => {
                let said = self
                    .run(async |store| {
                        let instance = pre.instantiate_async(&mut *store).await?;
                        instance.wharf_plugin_shaper().call_describe(store).await
                    })
                    .await?;
                convert::shaper_manifest(said).map(Manifest::Shaper)
            }
        }
    }

    /// Makes an instance and drops it again.
    pub(crate) async fn instantiate(&self) -> Result<(), Fault> {
        self.run(async |store| match &self.guest {
            Guest::Adapter(pre) => pre.instantiate_async(store).await.map(drop),
            Guest::Shaper(pre) => pre.instantiate_async(store).await.map(drop),
        })
        .await
    }

    fn check_input(&self, bytes: usize) -> Result<(), Fault> {
        let limit = self.limits.input_bytes;
        if bytes > limit {
            Err(Fault::InputTooLarge { bytes, limit })
        } else {
            Ok(())
        }
    }

    async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut Store<GuestState>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        self.run_measured(work).await.0
    }

    async fn run_measured<T>(
        &self,
        work: impl AsyncFnOnce(&mut Store<GuestState>) -> wasmtime::Result<T>,
    ) -> (Result<T, Fault>, Usage) {
        let processor = ProcessorTime::default();
        let mut store = self.store(processor.clone());
        let ended = {
            let mut call = std::pin::pin!(work(&mut store));
            let measured = std::future::poll_fn(|context| {
                processor.resume();
                call.as_mut().poll(context)
            });
            tokio::time::timeout(self.limits.wall, measured).await
        };
        let last_words = store.data_mut().finish_log();
        let usage = Usage {
            memory_bytes: store.data().memory.peak(),
            fuel: self
                .metering
                .counts_fuel()
                .then(|| ALL_FUEL.saturating_sub(store.get_fuel().unwrap_or(ALL_FUEL))),
        };
        let result = match ended {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(error)) => Err(fault(&error, store.data(), last_words)),
            // Time on the processor has its own limit: what ran out here was patience, and whoever was asked is to blame.
            Err(_) if store.data().requests.any() => Err(Fault::UpstreamTooSlow),
            Err(_) => Err(Fault::OutOfTime),
        };
        (result, usage)
    }

    fn store(&self, processor: ProcessorTime) -> Store<GuestState> {
        let mut store = Store::new(self.guest.engine(), self.state());
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.limits.output_bytes);
        store.set_max_component_handles(MAX_COMPONENT_HANDLES);
        if self.metering.counts_fuel() {
            store.set_fuel(ALL_FUEL).expect("this engine counts fuel");
        }
        let most = self.limits.cpu;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            Ok(if processor.is_spent(most) {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        store
    }
}

/// More than any call can burn within its time.
const ALL_FUEL: u64 = u64::MAX / 2;

/// What a call used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The most memory, in bytes.
    pub(crate) memory_bytes: usize,
    /// Units of work, where they are counted.
    pub(crate) fuel: Option<u64>,
}

/// What an adapter says of a receipt.
pub(crate) type Judged = Result<adapter_types::Verdict, adapter_types::Fault>;

/// Handles that a component may hold towards others.
const MAX_COMPONENT_HANDLES: usize = 1_000;

fn fault(error: &wasmtime::Error, state: &GuestState, last_words: Option<String>) -> Fault {
    if error.is::<PoolConcurrencyLimitError>() {
        return Fault::Overloaded;
    }
    // A guest that was refused memory aborts like any other: the limiter knows better than the trap.
    if state.memory.refused() {
        return Fault::OutOfMemory;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => return Fault::OutOfCpu,
        Some(Trap::StackOverflow) => return Fault::OutOfStack,
        _ => {}
    }
    let cause = error.root_cause().to_string();
    if cause.contains(HOSTCALL_FUEL_EXHAUSTED) {
        return Fault::OutputTooLarge;
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Fault::Trapped(format!("it exited with status {}", exit.0));
    }
    let cause = for_people(&cause);
    Fault::Trapped(last_words.map_or(cause.clone(), |words| format!("{cause}; it said: {words}")))
}
