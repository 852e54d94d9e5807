//! TLS to PostgreSQL and Redis: used where it is asked for, and not believed where the certificate is somebody else's.

use anyhow::{Result, ensure};
use redis::{AsyncCommands, Client, TlsCertificates};
use sqlx::{Connection, PgConnection, Row};
use wharf_tests::{Backend, PATIENCE, Shop, Site, eventually, tls_servers::TlsServers};

#[test]
fn a_host_works_over_tls() -> Result<()> {
    wharf_tests::run(async {
        let servers = TlsServers::start().await?;
        let site = Site::open(Backend::Postgres).await?;
        let authority = servers.authority_file().display().to_string();
        let verified = format!("sslmode=verify-full&sslrootcert={authority}");
        let host = site
            .host()
            .env(
                "DATABASE_URL",
                &servers.database_url("localhost", &verified),
            )
            .env("REDIS_URL", &servers.redis_url())
            .env("SSL_CERT_FILE", &authority)
            .start()
            .await?;
        let shop = Shop::open(&host, "org", "etsy").await?;
        ensure!(shop.import(&host, "order-101").await?["success"] == true);
        shop.request_sync(&host).await?;

        // A listener makes the stream.
        let root_cert = Some(std::fs::read(&authority)?);
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert,
        };
        let redis = Client::build_with_tls(servers.redis_url(), certificates)?;
        let mut redis = redis.get_multiplexed_async_connection().await?;
        eventually("news go by Redis", PATIENCE, || {
            let mut redis = redis.clone();
            async move {
                let there: bool = redis.exists("sync-store-queue").await.ok()?;
                there.then_some(())
            }
        })
        .await?;
        let clients: String = redis::cmd("CLIENT")
            .arg("LIST")
            .query_async(&mut redis)
            .await?;
        ensure!(clients.lines().count() > 1, "only this test: {clients}");
        ensure!(!host.logged().contains("redis_lost"), "{}", host.logged());

        let mut database =
            PgConnection::connect(&servers.database_url("localhost", "sslmode=disable")).await?;
        let ssl = "select count(*), count(*) filter (where ssl) from pg_stat_ssl join pg_stat_activity using (pid)
            where application_name = 'wharf all roles'";
        let row = sqlx::query(ssl).fetch_one(&mut database).await?;
        let (all, with_tls): (i64, i64) = (row.get(0), row.get(1));
        ensure!(
            all > 0 && all == with_tls,
            "{with_tls} of {all} connections use TLS"
        );
        Ok(())
    })
}

#[test]
fn sslmode_does_what_the_documents_say() -> Result<()> {
    wharf_tests::run(async {
        let servers = TlsServers::start().await?;
        let site = Site::open(Backend::Postgres).await?;
        let authority = format!("sslrootcert={}", servers.authority_file().display());
        let migrate = async |url: String| {
            let command = site.host().command(&["migrate"]).env("DATABASE_URL", &url);
            command.run().await
        };
        for (host, mode, works) in [
            ("localhost", "sslmode=disable", true),
            ("localhost", "sslmode=require", true),
            ("localhost", "sslmode=verify-ca", false),
            ("localhost", "sslmode=verify-full", false),
            (
                "localhost",
                &format!("sslmode=verify-full&{authority}"),
                true,
            ),
            // The certificate is for localhost, not for its address.
            (
                "127.0.0.1",
                &format!("sslmode=verify-full&{authority}"),
                false,
            ),
            ("127.0.0.1", &format!("sslmode=verify-ca&{authority}"), true),
        ] {
            let (status, printed) = migrate(servers.database_url(host, mode)).await?;
            ensure!(status.success() == works, "{host} {mode}: {printed}");
            let place = format!("PostgreSQL at {host}:");
            ensure!(works || printed.contains(&place), "{printed}");
            ensure!(works || printed.contains("certificate"), "{printed}");
        }
        // A server without TLS.
        let plain = format!("{}?sslmode=require", site.database().url());
        let (status, printed) = migrate(plain).await?;
        ensure!(!status.success() && printed.contains("TLS"), "{printed}");
        Ok(())
    })
}

#[test]
fn a_redis_with_a_strange_certificate_is_not_believed() -> Result<()> {
    wharf_tests::run(async {
        let servers = TlsServers::start().await?;
        let site = Site::open(Backend::Postgres).await?;
        let host = site.host().env("REDIS_URL", &servers.redis_url());
        let host = host.start().await?;
        let line = host.logged_message("redis_lost").await?;
        ensure!(line.text.contains("ertificate"), "{}", line.text);
        // As without Redis: work is found by looking.
        let shop = Shop::open(&host, "org", "etsy").await?;
        ensure!(shop.import(&host, "order-101").await?["success"] == true);
        Ok(())
    })
}
