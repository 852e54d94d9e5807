//! Misdeeds of hostile guests. Each function is one way to hurt a host; none of them returns before it was stopped,
//! unless its documentation says so.

mod stamp;

pub use stamp::{at_describe, at_text};

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use wharf_plugin_sdk::log;

/// Uses the processor without end.
pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Calls the host without end. The host's own time must count too.
pub fn spin_in_host_calls() -> ! {
    loop {
        log::debug("");
    }
}

/// Sleeps inside one host call for an hour: interrupting guest code does not help.
pub fn sleep() {
    #[allow(clippy::disallowed_methods, reason = "the misdeed itself")]
    std::thread::sleep(Duration::from_secs(3_600));
}

/// Sleeps for half a second, then returns: slow, but within every limit on a call.
pub fn nap() {
    #[allow(clippy::disallowed_methods, reason = "the misdeed itself")]
    std::thread::sleep(Duration::from_millis(500));
}

/// Takes 48 MiB of memory and sleeps on it for an hour.
pub fn hoard() {
    let hoard = black_box(vec![1_u8; 48 << 20]);
    sleep();
    drop(black_box(hoard));
}

/// Executes `unreachable`.
pub fn trap() -> ! {
    std::process::abort()
}

/// Panics, which a guest built with `panic = "abort"` ends as a trap.
pub fn panic() -> ! {
    panic!("a hostile guest panics")
}

/// Leaves by `wasi:cli/exit`, as if all were well.
pub fn exit() -> ! {
    std::process::exit(0)
}

/// Recurses without end, a little of the stack at a time.
#[expect(unconditional_recursion, reason = "recursing is the misdeed")]
pub fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    recurse(black_box(depth + 1)) + black_box(frame)[0]
}

/// Takes memory a mebibyte at a time, touches it and never gives it back.
pub fn allocate() -> ! {
    take_memory(1 << 20)
}

/// Takes memory in small pieces.
pub fn allocate_in_pieces() -> ! {
    take_memory(64)
}

fn take_memory(piece: usize) -> ! {
    loop {
        std::mem::forget(black_box(vec![1_u8; piece]));
    }
}

/// Makes handles of host resources and never drops them.
pub fn leak_handles() -> ! {
    loop {
        std::mem::forget(wasip2::clocks::monotonic_clock::subscribe_duration(1));
    }
}

/// Writes one short line to the log, then returns: no misdeed, but it shows where a guest runs.
pub fn write_log_line() {
    log::info("a line");
}

/// Writes 20,000 lines of a kilobyte to the log, then returns.
pub fn flood_log() {
    let line = "x".repeat(1_024);
    (0..20_000).for_each(|_| log::info(&line));
}

/// Writes one log line of 8 MiB, then returns.
pub fn write_giant_log_line() {
    log::info("x".repeat(8 << 20));
}

/// Writes 20 MB to standard output and standard error, then returns.
#[expect(clippy::print_stdout, reason = "printing is the misdeed")]
pub fn flood_output() {
    let line = "x".repeat(1_024);
    (0..10_000).for_each(|_| {
        println!("{line}");
        eprintln!("{line}");
    });
}

/// All that standard input, the arguments and the environment show of the host: empty if they show nothing.
pub fn look_around() -> String {
    let mut seen: Vec<String> = std::env::args().collect();
    seen.extend(std::env::vars().map(|(name, value)| format!("{name}={value}")));
    let mut input = String::new();
    if std::io::stdin()
        .read_line(&mut input)
        .is_ok_and(|bytes| bytes > 0)
    {
        seen.push(input);
    }
    seen.join("\n")
}

/// Random digits: another text each time.
pub fn random_text() -> String {
    format!("{:016x}", wasip2::random::random::get_random_u64())
}

/// The nanoseconds of the clock: another text each time.
pub fn clock_text() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map(|time| time.as_nanos().to_string())
        .unwrap_or_default()
}

/// A text that is no UTF-8, which the component's own types forbid.
#[expect(unsafe_code, reason = "a hostile guest is not bound by Rust's rules")]
pub fn broken_text() -> String {
    // SAFETY: the text is only handed to the host, never looked at here.
    unsafe { String::from_utf8_unchecked(vec![b'a', 0xff, 0xfe]) }
}
