//! The Redis backend, listening side: each listener reads its stream through a connection of its own.
//!
//! Messages are hints, so the group reads without acknowledgement: what a worker has been handed is forgotten at once.
//! After a read the markers of its jobs are removed before the caller hears of them. Whoever rings later sees no
//! marker and rings again; whoever rang earlier and was silenced by the marker had committed before the caller looks.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::ConnectionManager;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, RedisError, RedisResult, from_redis_value};

use crate::remote::{Bell, Contact, timed_out};
use crate::{MAX_HEARD, Queue, Tally};

/// All workers of an installation are one consumer group: each message goes to one of them.
const GROUP: &str = "workers";

/// Longest blocking read. Between two reads a broken connection or a missing group is noticed.
const MAX_READ: Duration = Duration::from_secs(5);

/// Time beyond its limit until a blocking read's connection is given up. Stalls of a busy Redis end sooner and are sat
/// out, since giving up in the middle of one would throw away the message that ends it.
const READ_GRACE: Duration = Duration::from_secs(10);

/// The time that removing markers may take; they expire by themselves.
const MAX_CLEAR: Duration = Duration::from_millis(500);

/// Pause after a failed read, doubled up to the longest. Redis being back is noticed within the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Reader {
    bell: Arc<Bell>,
    queue: Queue,
    tally: Arc<Tally>,
    link: Option<ConnectionManager>,
    group: Group,
    contact: Contact,
    pause: Duration,
    /// The read that is under way. It outlives a wait that is cancelled or times out, and with it what it hears.
    reading: Option<BoxFuture<'static, RedisResult<Vec<String>>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Unsure,
    Exists,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("queue", &self.queue)
            .field("contact", &self.contact)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(bell: Arc<Bell>, queue: Queue, tally: Arc<Tally>) -> Self {
        let (group, contact) = (Group::Unsure, Contact::Well);
        Self {
            bell,
            queue,
            tally,
            link: None,
            group,
            contact,
            pause: FIRST_PAUSE,
            reading: None,
        }
    }

    /// The next news. The caller gives up after `max`; reads end about then, so that none is left behind to take
    /// messages for a worker that is busy.
    pub(crate) async fn hear(&mut self, max: Duration) -> Vec<String> {
        let started = Instant::now();
        loop {
            let outcome = match &mut self.reading {
                Some(reading) => reading.await,
                None => match self.start(max.saturating_sub(started.elapsed())) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            // Not before it has ended: a wait that is cancelled leaves it here for the next one.
            self.reading = None;
            self.contact.note("listening", &outcome, &self.tally);
            match outcome {
                Ok(jobs) => {
                    // A read that works proves the group; a flush of Redis shows as an error of the next one.
                    (self.group, self.pause) = (Group::Exists, FIRST_PAUSE);
                    if !jobs.is_empty() {
                        return jobs;
                    }
                }
                Err(error) => self.recover(&error).await,
            }
        }
    }

    fn start(&mut self, left: Duration) -> RedisResult<()> {
        let link = match &self.link {
            Some(link) => link.clone(),
            None => self.link.insert(self.bell.reading()?).clone(),
        };
        // At least a millisecond: zero would block for ever.
        let block = left.clamp(Duration::from_millis(1), MAX_READ);
        self.reading =
            Some(read(Arc::clone(&self.bell), link, self.queue, self.group, block).boxed());
        Ok(())
    }

    /// The connection manager reconnects by itself, except from a peer that has gone silent.
    async fn recover(&mut self, error: &RedisError) {
        self.group = Group::Unsure;
        if error.is_timeout() {
            // A peer that is silent may never close the connection, so it is given up from this side.
            self.link = None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(MAX_PAUSE);
        tokio::time::sleep(pause).await;
    }
}

async fn read(
    bell: Arc<Bell>,
    mut link: ConnectionManager,
    queue: Queue,
    group: Group,
    block: Duration,
) -> RedisResult<Vec<String>> {
    let asking = ask(&bell, &mut link, queue, group, block);
    let reply = tokio::time::timeout(block + READ_GRACE, asking)
        .await
        .unwrap_or_else(|elapsed| Err(timed_out(elapsed)))?;
    let entries = reply
        .into_iter()
        .flat_map(|reply| reply.keys)
        .flat_map(|key| key.ids);
    let stream = bell.names.stream(queue);
    let mut clear = redis::pipe();
    let mut jobs = Vec::new();
    for mut entry in entries {
        // The stream holds what waits and no history.
        clear.xdel(&stream, &[&entry.id]).ignore();
        if let Some(job) = entry
            .map
            .remove("job")
            .and_then(|value| from_redis_value::<String>(value).ok())
        {
            clear.del(bell.names.marker(queue, &job)).ignore();
            jobs.push(job);
        }
    }
    if !clear.is_empty() {
        // The news counts more than the tidying, so a failure here is not the caller's concern.
        let _ = tokio::time::timeout(MAX_CLEAR, clear.exec_async(&mut link)).await;
    }
    Ok(jobs)
}

async fn ask(
    bell: &Bell,
    link: &mut ConnectionManager,
    queue: Queue,
    group: Group,
    block: Duration,
) -> RedisResult<Option<StreamReadReply>> {
    let stream = bell.names.stream(queue);
    if group == Group::Unsure {
        make_group(link, &stream).await?;
    }
    let options = StreamReadOptions::default()
        .group(GROUP, bell.names.consumer())
        // Messages are hints: what a worker loses, its poll finds.
        .noack()
        .count(MAX_HEARD)
        .block(usize::try_from(block.as_millis()).unwrap_or(usize::MAX));
    link.xread_options(&[&stream], &[">"], &options).await
}

/// Makes the group, and the stream if need be. It begins at the oldest message, so that rings from before the first
/// listener, or between a flush and now, are heard.
async fn make_group(link: &mut ConnectionManager, stream: &str) -> RedisResult<()> {
    match link.xgroup_create_mkstream(stream, GROUP, "0").await {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        result => result,
    }
}
