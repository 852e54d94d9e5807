//! Receivers of webhooks as they should not be, each with what must become of a delivery to it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{self, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use crate::{PATIENCE, RawServer, eventually, read_request};

/// A receiver, and what must become of a delivery to it.
#[derive(Debug)]
pub struct Animal {
    /// What it does.
    pub name: &'static str,
    /// Where it is.
    pub url: String,
    /// The state of a delivery after one attempt.
    pub state: &'static str,
    /// The status that is logged.
    pub status: Option<i64>,
    /// What the logged error says; empty for none.
    pub error: &'static str,
    /// Seconds until the next attempt.
    pub wait_s: Option<i64>,
    /// Set when the sender has left an animal that never ends by itself.
    was_left: Option<Arc<AtomicBool>>,
    _server: Option<RawServer>,
}

impl Animal {
    /// Waits until the sender has closed its connection, where the animal would never end it.
    ///
    /// # Errors
    /// If the sender holds on.
    pub async fn left_alone(&self) -> Result<()> {
        let Some(left) = &self.was_left else {
            return Ok(());
        };
        let look = || async { left.load(Ordering::SeqCst).then_some(()) };
        eventually(&format!("the sender leaves {}", self.name), PATIENCE, look).await
    }
}

/// A certificate authority of the test's own, and two certificates for `localhost`.
pub struct Certificates {
    authority_file: PathBuf,
    valid: TlsAcceptor,
    expired: TlsAcceptor,
}

impl Certificates {
    /// Makes them, and writes the authority's certificate to a file in this folder.
    ///
    /// # Errors
    /// If they cannot be made or written.
    pub fn write(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority_file = folder.join("authority.pem");
        std::fs::write(&authority_file, authority.pem())?;
        let acceptor = |first_year, last_year| {
            let mut params = CertificateParams::new(["localhost".to_owned()])?;
            params.not_before = date_time_ymd(first_year, 1, 1);
            params.not_after = date_time_ymd(last_year, 1, 1);
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &authority)?;
            let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
            let config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)?;
            Ok::<_, anyhow::Error>(TlsAcceptor::from(Arc::new(config)))
        };
        Ok(Self {
            authority_file,
            valid: acceptor(2020, 2120)?,
            expired: acceptor(2001, 2002)?,
        })
    }

    /// The authority's certificate, for `SSL_CERT_FILE`.
    pub fn authority_file(&self) -> &Path {
        &self.authority_file
    }
}

/// How animals end up.
struct Fate {
    state: &'static str,
    status: Option<i64>,
    error: &'static str,
    wait_s: Option<i64>,
}

const ACCEPTED: Fate = Fate {
    state: "success",
    status: Some(200),
    error: "",
    wait_s: None,
};

/// The zoo. Redirects point to `trap`; failures wait for `wait_s` seconds unless the receiver asks for more.
///
/// # Errors
/// If a server cannot be started.
pub async fn all(
    trap: &RawServer,
    certificates: &Certificates,
    wait_s: i64,
) -> Result<Vec<Animal>> {
    let retry = |status, error| Fate {
        state: "pending",
        status,
        error,
        wait_s: Some(wait_s),
    };
    let timeout = || retry(None, "no answer within 2s");
    let told = |status, error, asked: i64| Fate {
        wait_s: Some(asked),
        ..retry(Some(status), error)
    };
    let trap = trap.address();
    let in_three_hours = jiff::Timestamp::now() + Duration::from_secs(3 * 3600);
    let date = in_three_hours
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let says = |head: &str| answer(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"));
    let zoo = [
        answering(
            "slow-headers",
            timeout(),
            "HTTP/1.1 200 OK\r\nx-slow: ",
            Then::Drip,
        )
        .await?,
        answering("silent", timeout(), "", Then::Nothing).await?,
        answering(
            "continues-for-ever",
            timeout(),
            "",
            Then::Repeat("HTTP/1.1 100 Continue\r\n\r\n"),
        )
        .await?,
        answering(
            "endless-body",
            ACCEPTED,
            "HTTP/1.1 200 OK\r\n\r\n",
            Then::Flood,
        )
        .await?,
        answering(
            "endless-body-of-a-failure",
            retry(Some(500), "500"),
            "HTTP/1.1 500 No\r\n\r\n",
            Then::Flood,
        )
        .await?,
        answering(
            "a-byte-a-second",
            ACCEPTED,
            "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
            Then::Drip,
        )
        .await?,
        answering(
            "a-byte-a-second-of-a-failure",
            retry(Some(502), "502"),
            "HTTP/1.1 502 No\r\ncontent-length: 99\r\n\r\n",
            Then::Drip,
        )
        .await?,
        answering(
            "endless-headers",
            retry(None, "message head"),
            "HTTP/1.1 200 OK\r\n",
            Then::Repeat("x: y\r\n"),
        )
        .await?,
        answering(
            "gzip-bomb",
            ACCEPTED,
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9999999999\r\n\r\n\x1f",
            Then::Flood,
        )
        .await?,
        simple(
            "moved",
            retry(Some(301), "301"),
            says(&format!("301 Moved\r\nlocation: http://{trap}/")),
        )
        .await?,
        simple(
            "found",
            retry(Some(302), "302"),
            says(&format!("302 Found\r\nlocation: http://{trap}/")),
        )
        .await?,
        simple(
            "to-the-metadata-address",
            retry(Some(307), "307"),
            says("307 Redirect\r\nlocation: http://169.254.169.254/latest/meta-data/"),
        )
        .await?,
        simple(
            "gone",
            Fate {
                state: "failed",
                status: Some(410),
                error: "410",
                wait_s: None,
            },
            says("410 Gone"),
        )
        .await?,
        simple(
            "later-in-seconds",
            told(429, "429", 7_200),
            says("429 Later\r\nretry-after: 7200"),
        )
        .await?,
        simple(
            "later-at-a-date",
            told(503, "503", 10_800),
            says(&format!("503 Later\r\nretry-after: {date}")),
        )
        .await?,
        simple(
            "later-sooner",
            told(503, "503", wait_s),
            says("503 Later\r\nretry-after: 1"),
        )
        .await?,
        simple(
            "much-later",
            told(503, "503", 86_400),
            says("503 Later\r\nretry-after: 99999999999"),
        )
        .await?,
        simple(
            "later-in-nonsense",
            told(429, "429", wait_s),
            says("429 Later\r\nretry-after: soon, perhaps"),
        )
        .await?,
        simple(
            "half-close",
            retry(None, "connection closed"),
            answer(String::new()),
        )
        .await?,
        simple(
            "cut-short",
            ACCEPTED,
            answer("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfive".into()),
        )
        .await?,
        simple(
            "says-too-much",
            ACCEPTED,
            answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nmany more".into()),
        )
        .await?,
        simple(
            "two-lengths",
            retry(None, "invalid content-length"),
            answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc".into()),
        )
        .await?,
        simple(
            "no-http",
            retry(None, "invalid HTTP"),
            answer("SSH-2.0-OpenSSH_9.2p1\r\n".into()),
        )
        .await?,
        simple(
            "nul-in-the-answer",
            ACCEPTED,
            answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na\0b".into()),
        )
        .await?,
        reset(retry(None, "reset")).await?,
        nobody(retry(None, "refused")).await?,
        tls("tls", ACCEPTED, certificates.valid.clone()).await?,
        tls(
            "tls-expired",
            retry(None, "expired"),
            certificates.expired.clone(),
        )
        .await?,
    ];
    Ok(zoo.into())
}

fn animal(name: &'static str, fate: Fate, url: String, server: Option<RawServer>) -> Animal {
    let Fate {
        state,
        status,
        error,
        wait_s,
    } = fate;
    Animal {
        name,
        url,
        state,
        status,
        error,
        wait_s,
        was_left: None,
        _server: server,
    }
}

fn answer(text: String) -> Arc<str> {
    text.into()
}

/// Answers with these bytes, and no more will come.
async fn simple(name: &'static str, fate: Fate, answer: Arc<str>) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", move |mut stream| {
        let answer = answer.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            until_left(&mut stream).await
        }
    })
    .await?;
    Ok(animal(
        name,
        fate,
        format!("http://{}/", server.address()),
        Some(server),
    ))
}

/// What comes after the beginning of an answer, for ever.
#[derive(Clone, Copy)]
enum Then {
    Nothing,
    /// One byte a second.
    Drip,
    /// As much as the connection takes.
    Flood,
    /// The same, with these words.
    Repeat(&'static str),
}

async fn answering(
    name: &'static str,
    fate: Fate,
    head: &'static str,
    then: Then,
) -> Result<Animal> {
    let was_left = Arc::new(AtomicBool::new(false));
    let left = was_left.clone();
    let server = RawServer::start("127.0.0.1", move |mut stream| {
        let left = left.clone();
        async move {
            read_request(&mut stream).await?;
            stream.write_all(head.as_bytes()).await?;
            // It ends when nobody reads any more.
            let _ = go_on(&mut stream, then).await;
            left.store(true, Ordering::SeqCst);
            Ok(())
        }
    })
    .await?;
    let animal = animal(
        name,
        fate,
        format!("http://{}/", server.address()),
        Some(server),
    );
    Ok(Animal {
        was_left: Some(was_left),
        ..animal
    })
}

async fn go_on(stream: &mut TcpStream, then: Then) -> io::Result<()> {
    let flood = [0; 64 * 1024];
    loop {
        match then {
            Then::Nothing => return until_left(stream).await,
            Then::Drip => {
                stream.write_all(b"x").await?;
                #[allow(clippy::disallowed_methods, reason = "slowness is what it is for")]
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Then::Flood => stream.write_all(&flood).await?,
            Then::Repeat(words) => stream.write_all(words.repeat(1_000).as_bytes()).await?,
        }
    }
}

async fn until_left(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).await.map(drop)
}

async fn reset(fate: Fate) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", |mut stream| async move {
        read_request(&mut stream).await?;
        // Closing sends a reset instead of an end.
        stream.set_zero_linger()
    })
    .await?;
    Ok(animal(
        "reset",
        fate,
        format!("http://{}/", server.address()),
        Some(server),
    ))
}

/// A port where nobody listens.
async fn nobody(fate: Fate) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", |_| async { Ok(()) }).await?;
    Ok(animal(
        "nobody",
        fate,
        format!("http://{}/", server.address()),
        None,
    ))
}

async fn tls(name: &'static str, fate: Fate, acceptor: TlsAcceptor) -> Result<Animal> {
    let server = RawServer::start("127.0.0.1", move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            read_request(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await?;
            stream.shutdown().await
        }
    })
    .await?;
    let port = server.address().port();
    Ok(animal(
        name,
        fate,
        format!("https://localhost:{port}/"),
        Some(server),
    ))
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Certificates")
            .field("authority_file", &self.authority_file)
            .finish_non_exhaustive()
    }
}
