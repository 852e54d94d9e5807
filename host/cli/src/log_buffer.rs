//! A buffer in front of the log, so that a busy process does not pay a system call for each line.
//!
//! Promise: a line reaches the log within [`MAX_AGE`]; a warning, an error or a line of the program itself at once and
//! everything before it with it; and all of them at every end of the process that is not a kill. A kill may cost the
//! information lines of the last 100 ms.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The most that is held back, in bytes.
// Half of what a pipe takes by default (64 KiB on Linux): a reader that keeps up lets no write wait.
const MAX_BYTES: usize = 32 * 1024;
/// The longest that a line is held back.
const MAX_AGE: Duration = Duration::from_millis(100);

/// Begins the targets of this crate's lines.
const PROGRAM: &str = "wharf::";

/// A log that is written in pieces of several lines.
#[derive(Clone)]
pub(crate) struct LogBuffer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Rung when the first line comes into an empty buffer.
    filled: Condvar,
}

struct State {
    lines: Vec<u8>,
    log: Box<dyn Write + Send>,
}

impl LogBuffer {
    /// Starts a buffer before this log, with a thread that writes what gets old.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(log: impl Write + Send + 'static) -> io::Result<Self> {
        let buffer = Self::new(log);
        let shared = buffer.0.clone();
        // It lasts as long as the process; an end waits for `FlushAtEnd` instead.
        thread::Builder::new()
            .name("wharf-log".into())
            .spawn(move || {
                loop {
                    shared.wait_for_lines();
                    thread::sleep(MAX_AGE);
                    shared.state().write_out();
                }
            })?;
        Ok(buffer)
    }

    fn new(log: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                lines: Vec::with_capacity(MAX_BYTES),
                log: Box::new(log),
            }),
            filled: Condvar::new(),
        }))
    }
}

/// Writes what is held back when it is dropped: in a panic, too.
pub(crate) struct FlushAtEnd(pub(crate) LogBuffer);

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        self.0.0.state().write_out();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a write must not end the log of everybody else.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_lines(&self) {
        let state = self.state();
        let waited = self
            .filled
            .wait_while(state, |state| state.lines.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn push(&self, line: &[u8], urgency: Urgency) {
        let mut state = self.state();
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        if urgency == Urgency::AtOnce || state.lines.len() >= MAX_BYTES {
            state.write_out();
        } else if was_empty {
            self.filled.notify_one();
        }
    }
}

impl State {
    fn write_out(&mut self) {
        // A log that nobody reads any more has nobody to be told.
        let _ = self.log.write_all(&self.lines);
        self.lines.clear();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Soon,
    AtOnce,
}

/// The way of one line into the buffer.
pub(crate) struct Line<'a> {
    shared: &'a Shared,
    urgency: Urgency,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.push(line, self.urgency);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogBuffer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            shared: &self.0,
            urgency: Urgency::AtOnce,
        }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Line<'a> {
        let urgency = match *line.level() {
            // What is wrong is often the last that a process says.
            Level::ERROR | Level::WARN => Urgency::AtOnce,
            // The program's own lines tell of its start and its end. They are few, and somebody waits for them.
            _ if line.target().starts_with(PROGRAM) => Urgency::AtOnce,
            _ => Urgency::Soon,
        };
        Line {
            shared: &self.0,
            urgency,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A log whose pieces can be looked at.
    struct Pieces(mpsc::Sender<String>);

    impl Write for Pieces {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(piece.to_vec()).expect("lines are text");
            self.0.send(text).expect("the test listens");
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logging(buffer: &LogBuffer, work: impl FnOnce()) {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(buffer.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
    }

    #[test]
    fn information_waits_and_what_is_wrong_takes_it_along() {
        let (sender, pieces) = mpsc::channel();
        let buffer = LogBuffer::new(Pieces(sender));
        logging(&buffer, || {
            tracing::info!(target: "other", "one");
            tracing::info!(target: "other", "two");
            assert!(pieces.try_recv().is_err());
            tracing::warn!("three");
        });
        assert_eq!(
            pieces.try_recv().as_deref(),
            Ok(" INFO one\n INFO two\n WARN three\n")
        );
        assert!(pieces.try_recv().is_err());
        logging(&buffer, || tracing::info!("the program's own"));
        assert_eq!(
            pieces.try_recv().as_deref(),
            Ok(" INFO the program's own\n")
        );
    }

    #[test]
    fn a_full_buffer_and_an_end_write() {
        let (sender, pieces) = mpsc::channel();
        let buffer = LogBuffer::new(Pieces(sender));
        let long = "x".repeat(MAX_BYTES / 2);
        logging(&buffer, || {
            tracing::info!(target: "other", "{long}");
            assert!(pieces.try_recv().is_err());
            tracing::info!(target: "other", "{long}");
            assert!(pieces.try_recv().is_ok_and(|piece| piece.len() > MAX_BYTES));
            tracing::info!(target: "other", "last");
        });
        assert!(pieces.try_recv().is_err());
        drop(FlushAtEnd(buffer));
        assert_eq!(pieces.try_recv().as_deref(), Ok(" INFO last\n"));
    }

    #[test]
    fn what_gets_old_is_written_by_itself() {
        let (sender, pieces) = mpsc::channel();
        let buffer = LogBuffer::start(Pieces(sender)).expect("a thread");
        for line in ["first", "second"] {
            logging(&buffer, || tracing::info!(target: "other", "{line}"));
            assert_eq!(pieces.recv(), Ok(format!(" INFO {line}\n")));
        }
    }
}
