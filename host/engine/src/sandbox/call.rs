//! One call: a fresh instance, its budgets, and the meaning of a failure.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Sleep, sleep_until};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;
use wharf_domain::Answer;

use super::callable::{Callable, Guest};
use super::guest::GuestState;
use super::processor::ProcessorTime;
use crate::contract::bindings::adapter_types;
use crate::contract::convert::{self, GuestEvent, Message, ValidateRequest};
use crate::contract::fault::Fault;
use crate::contract::manifest::{self, Manifest};
use crate::contract::text::for_people;

/// The runtime's words for a guest that hands out more than its hostcall fuel. The error has no public type.
const HOSTCALL_FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls";

/// Fuel that no call can burn within its time.
const ALL_FUEL: u64 = u64::MAX / 2;
/// Handles that a component may hold.
const MAX_COMPONENT_HANDLES: usize = 1_000;

impl Callable {
    /// Asks an adapter to judge a receipt.
    pub(crate) async fn validate(&self, request: &ValidateRequest) -> Result<Answer, Fault> {
        let (judged, usage) = self.judge_measured(request).await;
        let judged = judged?;
        let is_down = matches!(judged, Err(adapter_types::Fault::Unavailable(_)));
        Ok(match (convert::answer(judged)?, usage.asked_to_wait) {
            // The contract gives an outage no wait, so the host remembers what the marketplace said.
            (Answer::Unavailable(reason), Some(wait)) if is_down => Answer::Busy(reason, wait),
            (answer, _) => answer,
        })
    }

    /// Asks an adapter and returns its unchecked answer in the contract's own types.
    pub(crate) async fn judge(&self, request: &ValidateRequest) -> Result<Judged, Fault> {
        self.judge_measured(request).await.0
    }

    /// Asks an adapter, and measures.
    pub(crate) async fn judge_measured(
        &self,
        request: &ValidateRequest,
    ) -> (Result<Judged, Fault>, Usage) {
        let Guest::Adapter(pre) = &self.guest else {
            return (Err(Fault::NotFound), Usage::default());
        };
        // Before an instance is made: too large an input costs nothing then.
        if let Err(fault) = self.check_input(request.bytes()) {
            return (Err(fault), Usage::default());
        }
        let judged = self.run_measured(async |store| {
            store.data_mut().is_asked(request);
            // A fresh instance for each call: no state leaks, and a trap poisons nothing.
            let instance = pre.instantiate_async(&mut *store).await?;
            instance
                .wharf_plugin_adapter()
                .call_validate(store, &request.to_guest())
                .await
        });
        judged.await
    }

    /// Asks a shaper for a message.
    pub(crate) async fn shape(&self, event: &GuestEvent) -> Result<Message, Fault> {
        self.shape_measured(event).await.0
    }

    /// Asks a shaper for a message, and measures.
    pub(crate) async fn shape_measured(
        &self,
        event: &GuestEvent,
    ) -> (Result<Message, Fault>, Usage) {
        let Guest::Shaper(pre) = &self.guest else {
            return (Err(Fault::NotFound), Usage::default());
        };
        if let Err(fault) = self.check_input(event.bytes()) {
            return (Err(fault), Usage::default());
        }
        let shaped = self.run_measured(async |store| {
            store.data_mut().is_shown(event);
            let instance = pre.instantiate_async(&mut *store).await?;
            instance
                .wharf_plugin_shaper()
                .call_shape(store, &event.event)
                .await
        });
        let (said, usage) = shaped.await;
        (
            said.and_then(|said| convert::message(said, self.limits.output_bytes)),
            usage,
        )
    }

    /// Asks for the manifest.
    pub(crate) async fn describe(&self) -> Result<Manifest, Fault> {
        match &self.guest {
            Guest::Adapter(pre) => {
                let said = self
                    .run(async |store| {
                        let instance = pre.instantiate_async(&mut *store).await?;
                        instance.wharf_plugin_adapter().call_describe(store).await
                    })
                    .await?;
                manifest::adapter_manifest(said).map(Manifest::Adapter)
            }
            Guest::Shaper(pre) => {
                let said = self
                    .run(async |store| {
                        let instance = pre.instantiate_async(&mut *store).await?;
                        instance.wharf_plugin_shaper().call_describe(store).await
                    })
                    .await?;
                manifest::shaper_manifest(said).map(Manifest::Shaper)
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
        let began = Instant::now();
        let processor = ProcessorTime::begin(began);
        let mut store = self.store(processor.clone());
        let ended = {
            let mut call = pin!(work(&mut store));
            let mut limit = WallLimit::new(began, self.limits.wall);
            // Dropping the future ends the guest wherever it waits.
            poll_fn(|context| {
                // Polled anew means running anew, perhaps on another thread.
                processor.resume();
                let polled = call.as_mut().poll(context);
                if processor.takes_long(&polled) {
                    self.pace.note_long(Instant::now());
                }
                match polled {
                    Poll::Ready(said) => Poll::Ready(Some(said)),
                    Poll::Pending => limit.poll(context).map(|()| None),
                }
            })
            .await
        };
        // Also after a trap: a panic leaves its reason on standard error.
        let last_words = store.data_mut().finish_log();
        let usage = Usage {
            memory_bytes: store.data().memory.peak(),
            fuel: self
                .metering
                .counts_fuel()
                .then(|| ALL_FUEL.saturating_sub(store.get_fuel().unwrap_or(ALL_FUEL))),
            asked_to_wait: store.data().requests.asked_to_wait(),
        };
        let result = match ended {
            // Whatever it answers: want of memory that is ours may have decided the answer.
            _ if store.data().memory.refused_by_host() => Err(Fault::Overloaded),
            Some(Ok(said)) => Ok(said),
            Some(Err(error)) => Err(fault(&error, store.data(), last_words)),
            // Processor time has its own limit, so this guest waited, and whom it asked is to blame.
            None if store.data().requests.any() => Err(Fault::UpstreamTooSlow),
            None => Err(Fault::OutOfTime),
        };
        (result, usage)
    }

    fn store(&self, processor: ProcessorTime) -> Store<GuestState> {
        let mut store = Store::new(self.guest.engine(), GuestState::new(self));
        store.limiter(|state| &mut state.memory);
        // Bounds what the host copies out of the guest before any check can see it.
        store.set_hostcall_fuel(self.limits.output_bytes);
        store.set_max_component_handles(MAX_COMPONENT_HANDLES);
        if self.metering.counts_fuel() {
            store.set_fuel(ALL_FUEL).expect("this engine counts fuel");
        }
        let max = self.limits.cpu;
        // Interrupted at every tick: it yields its thread, or ends if its time is spent.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            Ok(if processor.is_spent(max) {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        store
    }
}

/// The end of a call's time, waiting included. Its timer is made when the call first waits: most calls never do.
struct WallLimit {
    at: Instant,
    timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl WallLimit {
    fn new(began: Instant, wall: Duration) -> Self {
        Self {
            at: began + wall,
            timer: None,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| {
            // Unconstrained: a guest that uses up its task's budget must not put off its own end.
            Box::pin(unconstrained(sleep_until(self.at.into())))
        });
        timer.as_mut().poll(context)
    }
}

/// The cost of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Peak memory, in bytes.
    pub(crate) memory_bytes: usize,
    /// Units of work, where they are counted.
    pub(crate) fuel: Option<u64>,
    /// The wait that the marketplace asked for with its last 503.
    pub(crate) asked_to_wait: Option<Duration>,
}

/// An adapter's answer about a receipt.
pub(crate) type Judged = Result<adapter_types::Verdict, adapter_types::Fault>;

fn fault(error: &wasmtime::Error, state: &GuestState, last_words: Option<String>) -> Fault {
    // The pool is full: the host's shortage, not the guest's fault.
    if error.is::<PoolConcurrencyLimitError>() {
        return Fault::Overloaded;
    }
    // A guest that was refused memory aborts like any other: the limiter knows better than the trap.
    if state.memory.refused() {
        return Fault::OutOfMemory;
    }
    match error.downcast_ref::<Trap>() {
        // Only the epoch callback interrupts, and only when the time is spent.
        Some(Trap::Interrupt) => return Fault::OutOfCpu,
        Some(Trap::StackOverflow) => return Fault::OutOfStack,
        _ => {}
    }
    // The outer errors hold the runtime's backtrace.
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
