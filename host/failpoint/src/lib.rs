//! Named places where a fault test kills this process, as a power cut would, or pauses it. Release builds contain none
//! of it. `tests/tests/crash.rs` kills at each place of `host/app`, `host/engine/tests/crash.rs` at each of the
//! engine's.

/// Passes the place `name`. In a debug build started with `WHARF_FAILPOINT=name:N` the process ends itself by SIGKILL
/// at the N-th passage; with `WHARF_FAILPOINT=name:N:stop` it pauses itself by SIGSTOP and goes on after SIGCONT.
#[cfg(debug_assertions)]
pub fn pass(name: &'static str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        name: String,
        passages_left: AtomicU64,
        signal: Signal,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("WHARF_FAILPOINT").ok()?;
        let mut parts = text.split(':');
        let name = parts.next()?.to_owned();
        let passages_left = AtomicU64::new(parts.next()?.parse().ok()?);
        let signal = if parts.next() == Some("stop") {
            Signal::STOP
        } else {
            Signal::KILL
        };
        Some(Armed {
            name,
            passages_left,
            signal,
        })
    });

    let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else {
        return;
    };
    // Wraps below zero afterwards: of all passages the N-th alone meets the 1.
    if armed.passages_left.fetch_sub(1, Ordering::SeqCst) == 1 {
        // Cannot fail: the process exists and is ours.
        let _ = kill_process(getpid(), armed.signal);
        // SIGSTOP may reach another thread first; this one must not get past the place meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub const fn pass(_name: &'static str) {}
