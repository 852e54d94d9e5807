//! The Redis backend, ringing side: one connection for short commands, shared by the ringing task, locks and pings.
//!
//! Keys: a stream per queue (`sync-store-queue`, `callback-queue`) with one consumer group, and a marker
//! `rung:{queue}:{job}` for as long as a job's message waits unread. One script sets the marker and adds the message,
//! so it can be repeated after a lost answer without ringing twice.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{
    Client, FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, Script, ScriptInvocation,
};
use tokio::sync::{mpsc, oneshot};
use wharf_domain::StoreId;

use crate::{Error, MAX_KEPT, Queue, Settings, Tally};

/// The time that one command may take, waiting for a connection included.
const MAX_COMMAND: Duration = Duration::from_secs(1);

/// The time that connecting, with its handshake, may take.
const MAX_CONNECT: Duration = Duration::from_secs(1);

/// The time that sent bytes may stay unacknowledged before the connection counts as dead. A stalled Redis acknowledges
/// them (its kernel does), a vanished network does not.
#[cfg(target_os = "linux")]
const MAX_UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// The time that a marker keeps further rings of its job away, should the message be lost after it was read or trimmed.
/// Longer than a message waits for a live worker; shorter than anybody minds being served by polls.
const MARKER_MS: u64 = 30_000;

/// Rings that may wait for Redis. At 5,000 a second this is most of a second, after which polls are as good.
const MAX_WAITING: usize = 4_096;

/// Rings that go to Redis in one script call.
// Redis serves nobody else while a script runs, so one call is short.
const MAX_RINGS: usize = 256;

/// KEYS: the stream, then a marker per job. ARGV: the markers' life in ms, the stream's length, then the jobs.
static RING: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for i = 2, #KEYS do
           if redis.call('set', KEYS[i], '1', 'nx', 'px', ARGV[1]) then
             redis.call('xadd', KEYS[1], 'maxlen', '~', ARGV[2], '*', 'job', ARGV[i + 1])
           end
         end",
    )
});

enum Message {
    Ring(Queue, String),
    Flush(oneshot::Sender<()>),
}

/// The names of everything that one installation keeps in Redis.
#[derive(Clone, Debug)]
pub(crate) struct Names(Settings);

impl Names {
    pub(crate) fn consumer(&self) -> &str {
        &self.0.consumer
    }

    pub(crate) fn stream(&self, queue: Queue) -> String {
        format!("{}{queue}", self.0.key_prefix)
    }

    pub(crate) fn marker(&self, queue: Queue, job: &str) -> String {
        format!("{}rung:{queue}:{job}", self.0.key_prefix)
    }
}

/// One process's line to Redis.
#[derive(Debug)]
pub(crate) struct Bell {
    client: Client,
    pub(crate) names: Names,
    commands: ConnectionManager,
    inbox: mpsc::Sender<Message>,
}

impl Bell {
    pub(crate) fn connect(url: &str, settings: Settings, tally: Arc<Tally>) -> RedisResult<Self> {
        // Rings are small and must not wait for each other to fill a packet.
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(MAX_UNACKNOWLEDGED);
        let client = Client::open(url.into_connection_info()?.set_tcp_settings(tcp))?;
        let commands = manager(&client, Some(MAX_COMMAND))?;
        let names = Names(settings);
        let (inbox, rings) = mpsc::channel(MAX_WAITING);
        tokio::spawn(carry(rings, commands.clone(), names.clone(), tally));
        Ok(Self {
            client,
            names,
            commands,
            inbox,
        })
    }

    /// A connection for blocking reads. They must not share one: a blocking command holds up all others on it.
    pub(crate) fn reading(&self) -> RedisResult<ConnectionManager> {
        manager(&self.client, None)
    }

    pub(crate) fn ring(&self, queue: Queue, job_id: &str, tally: &Tally) {
        if self
            .inbox
            // Never waits: a stalled Redis must not hold up the request that rings.
            .try_send(Message::Ring(queue, job_id.to_owned()))
            .is_err()
        {
            tally.failed(1);
        }
    }

    pub(crate) async fn flush(&self, max: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let passage =
            async { self.inbox.send(Message::Flush(done)).await.is_ok() && flushed.await.is_ok() };
        tokio::time::timeout(max, passage).await.unwrap_or(false)
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let ping = || async {
            redis::cmd("PING")
                .exec_async(&mut self.commands.clone())
                .await
        };
        bounded(ping).await.map_err(Error::Unavailable)
    }

    /// Runs a script that may be repeated.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, Error> {
        let invoke = || async { call.invoke_async(&mut self.commands.clone()).await };
        bounded(invoke).await.map_err(Error::Unavailable)
    }

    pub(crate) fn lock_key(&self, store: StoreId) -> String {
        format!("{}lock:sync-store:{store}", self.names.0.key_prefix)
    }
}

/// A connection that is made on first use and made again after it breaks. It tries once for each command that finds
/// it broken, so that commands fail fast while Redis is away.
fn manager(client: &Client, response_timeout: Option<Duration>) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        // Retrying belongs to the caller, who knows how long it may take.
        .set_number_of_retries(0)
        .set_connection_timeout(Some(MAX_CONNECT))
        .set_response_timeout(response_timeout);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// Tries once more if the connection turned out to be gone, which the first command after a restart always finds.
async fn bounded<T, F: Future<Output = RedisResult<T>>>(command: impl Fn() -> F) -> RedisResult<T> {
    let tries = async {
        match command().await {
            // The script may have run before the connection broke; running it twice changes nothing.
            Err(error) if error.is_connection_dropped() => command().await,
            result => result,
        }
    };
    tokio::time::timeout(MAX_COMMAND, tries)
        .await
        .unwrap_or_else(|elapsed| Err(timed_out(elapsed)))
}

pub(crate) fn timed_out(elapsed: tokio::time::error::Elapsed) -> RedisError {
    std::io::Error::from(elapsed).into()
}

/// Takes rings to Redis in batches until the last doorbell is gone.
async fn carry(
    mut rings: mpsc::Receiver<Message>,
    link: ConnectionManager,
    names: Names,
    tally: Arc<Tally>,
) {
    let mut contact = Contact::default();
    // The first command connects. Doing that now shows in the log at start whether Redis is there.
    let greeting =
        bounded(|| async { redis::cmd("PING").exec_async(&mut link.clone()).await }).await;
    contact.note("ringing", &greeting, &tally);
    let mut batch = Vec::new();
    while rings.recv_many(&mut batch, MAX_RINGS).await > 0 {
        for queue in Queue::ALL {
            let jobs: Vec<&str> = batch
                .iter()
                .filter_map(|message| message.job(queue))
                .collect();
            if jobs.is_empty() {
                continue;
            }
            let sent = send(&link, &names, queue, &jobs).await;
            contact.note("ringing", &sent, &tally);
            // Given up and not repeated: a poll finds the work before Redis is back.
            if sent.is_err() {
                tally.failed(jobs.len());
            }
        }
        for message in batch.drain(..) {
            if let Message::Flush(done) = message {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}

impl Message {
    fn job(&self, queue: Queue) -> Option<&str> {
        match self {
            Self::Ring(of, job) if *of == queue => Some(job),
            _ => None,
        }
    }
}

async fn send(
    link: &ConnectionManager,
    names: &Names,
    queue: Queue,
    jobs: &[&str],
) -> RedisResult<()> {
    let mut call = RING.key(names.stream(queue));
    call.arg(MARKER_MS).arg(MAX_KEPT);
    for job in jobs {
        call.key(names.marker(queue, job)).arg(job);
    }
    bounded(|| async { call.invoke_async(&mut link.clone()).await }).await
}

/// The state of the connection by its last command, so that an outage is logged once when it begins and once when it
/// ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Contact {
    #[default]
    Well,
    Lost,
}

impl Contact {
    pub(crate) fn note<T>(
        &mut self,
        activity: &'static str,
        outcome: &RedisResult<T>,
        tally: &Tally,
    ) {
        match (outcome, *self) {
            (Err(error), Self::Well) => {
                *self = Self::Lost;
                tracing::warn!(%error, activity, "redis_lost");
            }
            (Ok(_), Self::Lost) => {
                *self = Self::Well;
                tally.reconnected();
                tracing::info!(activity, "redis_back");
            }
            _ => {}
        }
    }
}
