//! The threads that guests run on: the caller's for a moment, then the engine's own. And the ticker that interrupts them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, coop::consume_budget};
use tokio_util::task::AbortOnDropHandle;

use crate::contract::fault::{EngineError, Fault};

/// The interval at which running guests are interrupted: the grain of processor budgets, and the longest that a guest
/// holds its caller's thread.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Ticks after the engine is dropped: one second for guests that still spin.
const TICKS_AFTER_THE_END: u32 = 100;

/// The thread on which a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The caller's. A short call ends there and pays for no way to another thread and back.
    Here,
    /// One of the guests' own: for calls that are known to take long.
    Apart,
}

/// A call that goes on, or how it ended.
type Begun<F> = Result<Pin<Box<F>>, Result<<F as Future>::Output, Fault>>;

/// The guests' runtime and the ticker. Dropping it ends both without waiting, also inside a runtime.
pub(crate) struct Threads {
    // Declared, and so dropped, before the ticker is told to stop.
    runtime: Option<Runtime>,
    _stop_ticker: mpsc::Sender<()>,
}

impl Threads {
    pub(crate) fn start(
        engine: wasmtime::Engine,
        guest_threads: usize,
    ) -> Result<Self, EngineError> {
        let runtime = Builder::new_multi_thread()
            // A runtime without threads would panic.
            .worker_threads(guest_threads.max(1))
            .thread_name("wharf-guest")
            .enable_all()
            .build()
            .map_err(EngineError::Threads)?;
        let (stop_ticker, stopped) = mpsc::channel();
        std::thread::Builder::new()
            .name("wharf-ticker".into())
            .spawn(move || tick(&engine, &stopped))
            .map_err(EngineError::Threads)?;
        Ok(Self {
            runtime: Some(runtime),
            _stop_ticker: stop_ticker,
        })
    }

    /// Starts a task on the guests' threads.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime().spawn(task)
    }

    /// Runs a call, which may hold the caller's thread for a tick at most: one that is interrupted, or waits, is moved
    /// to the guests' threads as it stands and goes on there. Dropping the future ends the call.
    pub(crate) async fn run<T, F>(&self, begin: Begin, call: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        // A call that ends at once waits for nothing: a caller that asks all the time would never let others run.
        consume_budget().await;
        // Boxed, so that it can be moved after it has begun.
        let call = Box::pin(call);
        let goes_on = match begin {
            Begin::Apart => call,
            Begin::Here => match self.begin(call) {
                Ok(goes_on) => goes_on,
                Err(ended) => return ended,
            },
        };
        let task = AbortOnDropHandle::new(self.spawn(goes_on));
        task.await.map_err(|error| {
            let why = if error.is_panic() {
                PANICKED
            } else {
                "it is shutting down"
            };
            Fault::Host(why.into())
        })
    }

    /// Polls a call on this thread, once.
    fn begin<F: Future>(&self, mut call: Pin<Box<F>>) -> Begun<F> {
        // What it opens belongs to the runtime on which it goes on.
        let _entered = self.runtime().enter();
        // It wakes nobody: whoever goes on with the call polls it anew, and everything takes the new waker then.
        let mut context = Context::from_waker(Waker::noop());
        // As in a task: a host function that panics ends this call and not its caller.
        let polled = catch_unwind(AssertUnwindSafe(move || {
            match call.as_mut().poll(&mut context) {
                Poll::Ready(said) => Err(Ok(said)),
                Poll::Pending => Ok(call),
            }
        }));
        polled.unwrap_or_else(|_| Err(Err(Fault::Host(PANICKED.into()))))
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime is there until it is dropped")
    }
}

const PANICKED: &str = "a host function panicked";

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait for guests, and panic inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// On a thread of the operating system's: a runtime's timer would wait behind the very guests that it is to interrupt.
fn tick(engine: &wasmtime::Engine, stopped: &mpsc::Receiver<()>) {
    while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
        engine.increment_epoch();
    }
    // A guest that spins at the end gives its thread back at its next interruption, so there must be some more.
    for _ in 0..TICKS_AFTER_THE_END {
        std::thread::sleep(TICK);
        engine.increment_epoch();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    const BOTH: [Begin; 2] = [Begin::Here, Begin::Apart];

    fn threads() -> Threads {
        Threads::start(wasmtime::Engine::default(), 1).expect("threads")
    }

    fn this_thread() -> Option<String> {
        std::thread::current().name().map(str::to_owned)
    }

    /// Fires when it is dropped.
    struct Dropped(Option<oneshot::Sender<()>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let told = self.0.take().map(|told| told.send(()));
            assert_eq!(told, Some(Ok(())), "the test waits for it");
        }
    }

    #[tokio::test]
    async fn a_call_begins_where_it_should_and_goes_on_apart() {
        let threads = threads();
        let guests = Some("wharf-guest".to_owned());
        for (begin, first) in [(Begin::Here, this_thread()), (Begin::Apart, guests.clone())] {
            let short = threads.run(begin, async { this_thread() }).await;
            assert_eq!(short, Ok(first.clone()), "{begin:?}");
            let waits = async {
                let began_on = this_thread();
                yield_now().await;
                (began_on, this_thread())
            };
            let waited = threads.run(begin, waits).await;
            assert_eq!(waited, Ok((first, guests.clone())), "{begin:?}");
        }
    }

    #[tokio::test]
    async fn a_caller_that_asks_all_the_time_lets_others_run() {
        let threads = threads();
        let other = tokio::spawn(async {});
        // More than a task may do before it must let others run.
        for _ in 0..1_000 {
            assert_eq!(threads.run(Begin::Here, async {}).await, Ok(()));
        }
        assert!(other.is_finished());
    }

    #[test]
    fn what_a_call_opens_belongs_to_the_guests_runtime() {
        // A caller without a runtime: a timer of its own would panic.
        let threads = threads();
        for begin in BOTH {
            let slept = threads.run(begin, async { tokio::time::sleep(TICK).await });
            assert_eq!(futures::executor::block_on(slept), Ok(()), "{begin:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_ends_the_call_and_nobody_else() {
        let threads = threads();
        for begin in BOTH {
            for waits in [false, true] {
                let panics = async move {
                    if waits {
                        yield_now().await;
                    }
                    panic!("a host function panics");
                };
                let ended: Result<(), Fault> = threads.run(begin, panics).await;
                assert_eq!(ended, Err(Fault::Host(PANICKED.into())), "{begin:?}");
            }
        }
        assert_eq!(threads.run(Begin::Here, async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_call_ends_with_its_caller() {
        let threads = threads();
        for begin in BOTH {
            let (told, dropped) = oneshot::channel();
            let held = Dropped(Some(told));
            let call = async move {
                let _held = held;
                pending::<()>().await;
            };
            let mut call = Box::pin(threads.run(begin, call));
            assert!(futures::poll!(&mut call).is_pending());
            drop(call);
            assert_eq!(dropped.await, Ok(()), "{begin:?}");
        }
    }
}
