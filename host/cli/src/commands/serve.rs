//! `wharf serve`, and the roles that `wharf worker` and `wharf scheduler` run.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use wharf_api::{AllowedHosts, ApiSettings, ServerSettings};
use wharf_app::{CallbackScheduler, CallbackWorker, PluginAudit, SyncScheduler, SyncWorker};

use crate::{
    admin_token::AdminTokenArgs,
    logging::Style,
    mock_credentials, output,
    settings::{
        Addresses, ListenArgs, Migrate, SettingError, Settings, admin_token_help, database_help,
        encryption_key_help, service_help,
    },
    shutdown::{self, Shutdown},
    wiring::{self, Host, Schema},
};

/// `wharf serve`.
#[derive(Args)]
#[command(after_help = concat!("\
Examples:
  wharf serve
  PORT=8080 HOST=0.0.0.0 API_AUTH=required wharf serve
  wharf serve --role api --role sync-scheduler", database_help!(), encryption_key_help!(), service_help!(),
  admin_token_help!(), "
  MOCK_<MARKETPLACE>_USER, MOCK_<MARKETPLACE>_PASS
          Basic credentials of POST /mock/<marketplace>/validate; a dash in the name is an underscore"))]
pub(crate) struct ServeArgs {
    /// A part to run; may be repeated. Default: all
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    /// The care of the schema at the start
    #[arg(
        long,
        env = "MIGRATE",
        value_name = "MIGRATE",
        default_value = "auto",
        help_heading = "Database"
    )]
    migrate: Migrate,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    admin_token: AdminTokenArgs,
}

impl ServeArgs {
    fn roles(&self) -> &[Role] {
        if self.roles.is_empty() {
            Role::value_variants()
        } else {
            &self.roles
        }
    }

    /// Tells what clap could not judge.
    pub(crate) fn check(&self, wrong: &mut Vec<SettingError>) {
        self.settings.check(wrong);
        wrong.extend(self.admin_token.check().err());
        if self.roles().contains(&Role::Api) {
            wrong.extend(self.listen.check_auth().err());
        }
        wrong.extend(mock_credentials::from_environment().err());
    }
}

/// A part of the service that can run in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Answers HTTP.
    Api,
    /// Asks marketplaces again about logs that are due.
    SyncWorker,
    /// Finds stores with due logs.
    SyncScheduler,
    /// Sends webhooks.
    CallbackWorker,
    /// Finds webhooks that are due.
    CallbackScheduler,
}

/// The name of a process in PostgreSQL's `application_name`: the roles that it has.
pub(super) fn activity(roles: &[Role]) -> String {
    if Role::value_variants()
        .iter()
        .all(|role| roles.contains(role))
    {
        return "all roles".into();
    }
    let names = roles.iter().filter_map(Role::to_possible_value);
    names
        .map(|name| name.get_name().to_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The parts that run. They end when the token is cancelled, and not before.
type Running = JoinSet<anyhow::Result<()>>;

/// Serves until a signal comes.
pub(crate) async fn run(mut args: ServeArgs, style: Style) -> anyhow::Result<()> {
    let mock_credentials = mock_credentials::from_environment()?;
    args.settings.webhooks.is_open =
        args.roles().contains(&Role::Api) && !args.listen.host.is_loopback();
    let roles = args.roles();
    let deployment = args.settings.database.deployment();
    let delay = match roles.contains(&Role::Api) {
        true => args.listen.shutdown_delay(deployment),
        // Nobody is sent to it, so nobody has to be told.
        false => Duration::ZERO,
    };
    // Before anything is opened, which may take long.
    let shutdown = shutdown::on_signal(delay)?;
    let stop = shutdown.stop.clone();
    let schema = match args.migrate {
        Migrate::Auto => Schema::Migrated,
        Migrate::Check => Schema::Checked,
    };
    let Some(host) = open(&args.settings, schema, roles, &shutdown).await? else {
        return Ok(());
    };
    let mut running = Running::new();
    serve_metrics(&args.settings, &host, &shutdown, &mut running).await?;
    if roles.contains(&Role::Api) {
        let api = ApiSettings {
            mock_credentials,
            // After `open`, which made the folder for the token's file.
            admin_token: args
                .admin_token
                .of_host(deployment, &args.settings.data, style)?,
            auth: args.listen.auth(),
            request_timeout: args.listen.request_timeout,
            draining: shutdown.draining.clone(),
            metrics: args.settings.metrics_addr.is_none(),
            admin: args.listen.admin_addr.is_none(),
            hosts: args.listen.hosts(&args.listen.host),
            clients: args.listen.clients.limits(),
            ..ApiSettings::default()
        };
        // Before the roles start: a port that is taken ends the process while it has claimed nothing.
        let listener = listen(&args.listen.host.with_port(args.listen.port)).await?;
        serve_admin(&args.listen, &host, &api, &stop, &mut running).await?;
        announce(&listener, style, "wharf")?;
        let server = wharf_api::serve(
            listener,
            wharf_api::router(host.app.clone(), api),
            args.listen.server(&args.settings),
            Some(host.app.clone()),
            stop.clone(),
        );
        spawn(&mut running, server);
    }
    start(roles, &host, &stop, &mut running);
    let result = until_stopped(running, &stop, args.settings.shutdown_grace).await;
    host.close().await;
    result
}

/// Runs roles that do not listen until a signal comes. The schema is somebody else's to bring up to date.
pub(crate) async fn serve_roles(roles: &[Role], settings: &Settings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal(Duration::ZERO)?;
    let stop = shutdown.stop.clone();
    let Some(host) = open(settings, Schema::Checked, roles, &shutdown).await? else {
        return Ok(());
    };
    let mut running = Running::new();
    serve_metrics(settings, &host, &shutdown, &mut running).await?;
    start(roles, &host, &stop, &mut running);
    let result = until_stopped(running, &stop, settings.shutdown_grace).await;
    host.close().await;
    result
}

/// Opens the host's parts. `None` if a signal comes meanwhile: a database that does not answer keeps nobody from stopping.
async fn open(
    settings: &Settings,
    schema: Schema,
    roles: &[Role],
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Host>> {
    let activity = activity(roles);
    tokio::select! {
        () = shutdown.draining.cancelled() => Ok(None),
        opened = wiring::open(settings, schema, &activity) => opened.map(Some),
    }
}

/// Serves the admin API where the setting says.
async fn serve_admin(
    args: &ListenArgs,
    host: &Host,
    api: &ApiSettings,
    stop: &CancellationToken,
    running: &mut Running,
) -> anyhow::Result<()> {
    let Some(addresses) = &args.admin_addr else {
        return Ok(());
    };
    let listener = listen(addresses).await.context("ADMIN_ADDR")?;
    tracing::info!(adminAddress = %listener.local_addr()?, "the admin API is served");
    let api = ApiSettings {
        hosts: args.hosts(addresses),
        ..api.clone()
    };
    let server = wharf_api::serve(
        listener,
        wharf_api::admin_router(host.app.clone(), api),
        args.admin_server(),
        None,
        stop.clone(),
    );
    spawn(running, server);
    Ok(())
}

/// A scraper or two and some health checks.
const METRICS_SERVER: ServerSettings = ServerSettings {
    request_timeout: Duration::from_secs(10),
    max_connections: 64,
};

/// Serves the figures of this process where the setting says.
async fn serve_metrics(
    settings: &Settings,
    host: &Host,
    shutdown: &Shutdown,
    running: &mut Running,
) -> anyhow::Result<()> {
    let Some(addresses) = &settings.metrics_addr else {
        return Ok(());
    };
    let listener = listen(addresses).await.context("METRICS_ADDR")?;
    tracing::info!(metricsAddress = %listener.local_addr()?, "metrics are served");
    // Scrapers ask for the address of each process, which nobody tells beforehand.
    let hosts = AllowedHosts::new(Vec::new(), addresses.is_loopback());
    let server = wharf_api::serve(
        listener,
        wharf_api::metrics_router(host.app.clone(), hosts, shutdown.draining.clone()),
        METRICS_SERVER,
        None,
        shutdown.stop.clone(),
    );
    spawn(running, server);
    Ok(())
}

fn spawn(running: &mut Running, server: impl Future<Output = ()> + Send + 'static) {
    running.spawn(async {
        server.await;
        Ok(())
    });
}

/// Starts every role but the API.
fn start(roles: &[Role], host: &Host, stop: &CancellationToken, running: &mut Running) {
    for role in Role::value_variants()
        .iter()
        // In this order, so that a role that was named twice runs once.
        .filter(|role| roles.contains(role))
    {
        let (app, stop) = (host.app.clone(), stop.clone());
        running.spawn(async move {
            match role {
                // It is served already. A part that ends early stops the process, so this one waits.
                Role::Api => stop.cancelled().await,
                Role::SyncWorker => SyncWorker::new(&app).run(stop).await,
                Role::SyncScheduler => SyncScheduler::new(&app).run(stop).await,
                Role::CallbackWorker => CallbackWorker::new(&app).run(stop).await,
                Role::CallbackScheduler => CallbackScheduler::new(&app).run(stop).await,
            }
            Ok(())
        });
    }
    let (app, stop) = (host.app.clone(), stop.clone());
    running.spawn(async move {
        // In every role: each process loads plugins of its own, and tells what became of them.
        PluginAudit::new(&app).run(stop).await;
        Ok(())
    });
    tracing::info!(?roles, "running");
}

/// Waits for the signal, and then for what is in flight, at most as long as `grace`. A part that ends by itself takes
/// the others with it: a supervisor restarts a process, but nobody sees a missing part.
async fn until_stopped(
    mut running: Running,
    stop: &CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let result = tokio::select! {
        // The signal first: parts that end because of it are no failure.
        biased;
        () = stop.cancelled() => Ok(()),
        Some(ended) = running.join_next() => Err(match ended {
            Ok(Err(error)) => error.context("the server failed"),
            Ok(Ok(())) => anyhow!("a part of the service ended by itself"),
            Err(panic) => anyhow!(panic).context("a part of the service failed"),
        }),
    };
    // Where a part ended by itself the others do not know yet.
    stop.cancel();
    let drained = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, drained).await.is_err() {
        tracing::warn!(
            "SHUTDOWN_GRACE is over: what is still in flight is left to others, who take it over"
        );
    }
    result
}

/// Listens at the first of these addresses that is free.
pub(crate) async fn listen(addresses: &Addresses) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addresses.all())
        .await
        .with_context(|| format!("cannot listen on {addresses}"))
}

/// Tells where somebody listens: programs read the log, people the line.
pub(crate) fn announce(listener: &TcpListener, style: Style, who: &str) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "listening");
    if style == Style::People {
        output::line(&format!("{who} is listening on http://{address}"));
    }
    Ok(())
}
