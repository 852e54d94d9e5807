//! Compiling, with bounds: one component at a time, a few that wait, and a child process that is killed when its time
//! is over. So the limit ends the compiling and not only the waiting for it.

mod child;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use child::{CompileError, CompileLimits, compile_plugin};

use crate::contract::{
    refusal::{Refusal, Stage},
    settings::{Compiler, EngineSettings},
    text::for_people,
};
use crate::sandbox::runtime::Metering;

/// Components that wait while another one is compiled. Each holds up to 32 MiB.
const MAX_WAITING: usize = 8;
/// Bytes of compiled code that are read from a child: the largest component, of 32 MiB, makes some four times as much.
const MAX_CODE_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of a child's complaint that are read.
const MAX_WORDS_BYTES: u64 = 4 * 1024;
/// The signal that ends a process whose processor time is over, the same number on every Unix.
const SIGXCPU: i32 = 24;

/// The compiler's work, one component after the other: large guests take up to 383 MB.
pub(crate) struct CompileQueue {
    settings: EngineSettings,
    metering: Metering,
    /// A permit for each that waits or compiles.
    queue: Arc<Semaphore>,
    /// The permit of the one that compiles. A thread that was given up keeps it until it ends; a child is killed.
    place: Arc<Semaphore>,
}

impl CompileQueue {
    pub(crate) fn new(settings: EngineSettings, metering: Metering) -> Self {
        Self {
            settings,
            metering,
            queue: Arc::new(Semaphore::new(1 + MAX_WAITING)),
            place: Arc::new(Semaphore::new(1)),
        }
    }

    /// Compiles a component that inspection has passed. The bytes that it returns were made by this very program.
    pub(crate) async fn compile(
        &self,
        engine: &wasmtime::Engine,
        bytes: Arc<[u8]>,
    ) -> Result<Vec<u8>, Refusal> {
        let _queued = self.queue.try_acquire().map_err(|_| {
            refuse(
                format!("{MAX_WAITING} other plugins wait for the compiler"),
                "try again in a minute",
            )
            .passing()
        })?;
        // Waiting is outside of the time limit: it is not this component's fault, and the others end within their own.
        let place = self.place.clone().acquire_owned().await;
        let place = place.expect("nobody closes the semaphore");
        match &self.settings.compiler {
            Compiler::InProcess => self.on_a_thread(engine.clone(), bytes, place).await,
            Compiler::Child(program) => self.in_a_child(program, &bytes).await,
        }
    }

    async fn on_a_thread(
        &self,
        engine: wasmtime::Engine,
        bytes: Arc<[u8]>,
        place: OwnedSemaphorePermit,
    ) -> Result<Vec<u8>, Refusal> {
        let compile = tokio::task::spawn_blocking(move || {
            let _place = place;
            engine.precompile_component(&bytes)
        });
        match timeout(self.settings.compile_limit, compile).await {
            Ok(Ok(Ok(code))) => Ok(code),
            Ok(Ok(Err(error))) => Err(invalid(&format!("{error:#}"))),
            Ok(Err(panic)) => Err(crashed(&panic.to_string())),
            Err(_) => Err(self.too_slow()),
        }
    }

    async fn in_a_child(&self, program: &Path, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        // A full process table or the like: our own fault, which passes.
        let ours = |error: io::Error| {
            let cause = format!("the compiler could not be run: {error}");
            refuse(cause, "free some memory and processes of this machine").passing()
        };
        let mut child = self.command(program).spawn().map_err(ours)?;
        let ended = timeout(self.settings.compile_limit, exchange(&mut child, bytes)).await;
        if !matches!(ended, Ok(Ok(_))) {
            // Waits for its end, too: dead before the next one begins. An error means that it is.
            let _ = child.kill().await;
        }
        match ended {
            Err(_) => Err(self.too_slow()),
            Ok(Err(error)) => Err(ours(error)),
            Ok(Ok(ended)) if ended.status.success() => Ok(ended.code),
            Ok(Ok(ended)) => Err(self.failed(ended.status, &ended.words)),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let limits = CompileLimits {
            memory_bytes: self.settings.compile_memory_bytes,
            processor_seconds: processor_seconds(self.settings.compile_limit),
        };
        let mut command = Command::new(program);
        command
            .arg0("wharf")
            .arg("compile-plugin")
            .args(limits.arguments())
            .args(self.metering.counts_fuel().then_some("--fuel"))
            // No secrets: the compiler is asked by strangers.
            .env_clear()
            // The program's allocator takes address space by the GiB otherwise, and that counts against the limit.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Whoever gives up, at the latest the end of the guests' runtime, ends it.
            .kill_on_drop(true);
        command
    }

    fn too_slow(&self) -> Refusal {
        let limit = self.settings.compile_limit.as_secs_f32();
        refuse(
            format!("compiling it took longer than {limit} s"),
            "build it smaller, or have the operator raise PLUGIN_COMPILE_LIMIT",
        )
    }

    fn failed(&self, status: ExitStatus, words: &str) -> Refusal {
        match (status.code(), status.signal()) {
            (_, Some(SIGXCPU)) => self.too_slow(),
            (_, Some(signal)) => refuse(
                format!(
                    "the compiler was ended by signal {signal}: it needs more than {} MiB of memory, or crashes",
                    self.settings.compile_memory_bytes / 1024 / 1024
                ),
                "build it smaller, or have the operator raise PLUGIN_COMPILE_MEMORY",
            ),
            (Some(1), _) => invalid(words.trim_start_matches("error: ")),
            _ => crashed(words),
        }
    }
}

/// The answer of a child that ended.
struct Ended {
    status: ExitStatus,
    code: Vec<u8>,
    words: String,
}

/// Gives the component to the child and takes its code. All pipes at once: a child that waits for one would never end.
async fn exchange(child: &mut Child, bytes: &[u8]) -> io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        let mut stdin = stdin.ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(bytes).await
    };
    let (written, code, words) = tokio::join!(
        write,
        read(stdout, MAX_CODE_BYTES),
        read(stderr, MAX_WORDS_BYTES)
    );
    // A child that ended early tells why by its status.
    drop(written);
    Ok(Ended {
        code: code?,
        words: for_people(String::from_utf8_lossy(&words?).trim()),
        status: child.wait().await?,
    })
}

/// Reads to the end or to a limit. Beyond it the pipe closes, which the child cannot survive well.
async fn read(pipe: Option<impl AsyncRead + Unpin>, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(max_bytes).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Returns the processor time that a child may use within a time: it compiles on all processors.
fn processor_seconds(limit: Duration) -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, |number| number.get() as u64);
    (limit.as_secs_f64().ceil().max(1.0) as u64).saturating_mul(processors)
}

fn refuse(cause: String, fix: &str) -> Refusal {
    Refusal::new(Stage::Compile, cause, fix)
}

fn invalid(why: &str) -> Refusal {
    refuse(for_people(why), "build it again for wasm32-wasip2")
}

fn crashed(why: &str) -> Refusal {
    refuse(
        for_people(&format!("the compiler failed: {why}")),
        "report the component as a bug",
    )
}
