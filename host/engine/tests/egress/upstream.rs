//! A marketplace on loopback that answers what it is told to, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A marketplace on loopback that remembers what it was asked and gives one answer to all.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub(crate) async fn answering(answer: impl Into<String>) -> Self {
        Self::answering_at("127.0.0.1:0", answer).await
    }

    pub(crate) async fn answering_at(address: &str, answer: impl Into<String>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (heard, answer) = (Arc::<Mutex<Vec<String>>>::default(), answer.into());
        let told = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (told, answer) = (told.clone(), answer.clone());
                tokio::spawn(async move {
                    let mut question = Vec::new();
                    while !is_whole(&question) {
                        if stream.read_buf(&mut question).await.unwrap_or(0) == 0 {
                            break;
                        }
                    }
                    told.lock()
                        .expect("no panic")
                        .push(String::from_utf8_lossy(&question).into_owned());
                    if answer.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, heard }
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").clone()
    }

    pub(crate) fn grants(&self) -> String {
        grants(
            &format!("http://{}", self.address),
            "private_networks = ['127.0.0.0/8']",
            "",
        )
    }
}

pub(crate) fn is_whole(question: &[u8]) -> bool {
    let text = String::from_utf8_lossy(question);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse()
            .ok()
    });
    body.len() >= length.unwrap_or(0)
}

pub(crate) fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn accepted() -> String {
    json(
        "200 OK",
        r#"{"status":true,"orderId":"o-1","amount":10.10,"currency":"EUR","importedAtUTC":"2024-01-01T12:00:00.000Z"}"#,
    )
}

/// Grants of one origin, in the form of a grants file.
pub(crate) fn grants(origin: &str, more: &str, limits: &str) -> String {
    format!(
        "origins = ['{origin}']\n{more}\n[config]\nbase_url = '{origin}'\nmarketplace = 'etsy'\nserve_as = 'remote'\n\
         [credentials.marketplace]\nscheme = 'bearer'\ntoken = {{ store = 'access-token' }}\n[limits]\n{limits}\n"
    )
}
