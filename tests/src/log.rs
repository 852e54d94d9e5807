//! The log of a host.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio_util::task::TaskTracker;

/// One line that a host wrote.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// The line as it came.
    pub text: String,
    /// The line as JSON; `null` if it is none.
    pub json: Value,
}

impl LogLine {
    /// Its message, empty if it has none.
    pub fn message(&self) -> &str {
        self.field("message").as_str().unwrap_or_default()
    }

    /// A field of the event, `null` if it has none of this name.
    pub fn field(&self, name: &str) -> &Value {
        match &self.json["fields"][name] {
            Value::Null => &self.json[name],
            value => value,
        }
    }

    pub(crate) fn address(&self) -> Option<String> {
        let address = self.field("address").as_str()?;
        (self.message() == "listening").then(|| address.to_owned())
    }
}

/// The lines of both outputs, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<LogLine>>>,
    readers: TaskTracker,
}

impl Log {
    pub(crate) fn lines(&self) -> MutexGuard<'_, Vec<LogLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn follow(&self, output: impl AsyncRead + Send + Unpin + 'static) {
        let log = self.clone();
        self.readers.spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(text)) = lines.next_line().await {
                let json = serde_json::from_str(&text).unwrap_or_default();
                log.lines().push(LogLine { text, json });
            }
        });
    }

    /// Waits until all that a process which has ended said is read: its last lines are still in the pipe then.
    pub(crate) async fn complete(&self) {
        // A child that it left behind holds the pipe as well, for however long it lives.
        const MOST: Duration = Duration::from_secs(5);
        self.readers.close();
        let _ = tokio::time::timeout(MOST, self.readers.wait()).await;
    }
}
