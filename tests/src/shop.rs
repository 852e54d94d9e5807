//! A registered store.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Answer, Host};

/// A store that a host knows, by the two ids that it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shop {
    /// Its id, as events name it.
    pub store_id: String,
    /// The token that clients name it by.
    pub sync_token: String,
}

impl Shop {
    /// A registration with all six fields; the external id is `ext-100`, the currency USD.
    pub fn registration(organization: &str, marketplace: &str) -> Value {
        json!({
            "organizationId": organization, "marketplace": marketplace, "externalStoreId": "ext-100",
            "storeName": "My Store", "accessToken": "token-abc", "currency": "USD",
        })
    }

    /// Registers a store of this organization at this marketplace.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn open(host: &Host, organization: &str, marketplace: &str) -> Result<Self> {
        Self::register(host, &Self::registration(organization, marketplace)).await
    }

    /// Registers a store.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn register(host: &Host, registration: &Value) -> Result<Self> {
        let answer = host.post("/stores/register", registration).await?;
        ensure!(
            answer.status == 200,
            "the registration was answered {} {}",
            answer.status,
            answer.text
        );
        let id = |name| {
            answer
                .get(name)
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("no {name}"))
        };
        Ok(Self {
            store_id: id("storeId")?,
            sync_token: id("syncToken")?,
        })
    }

    /// Imports a receipt: the whole answer.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn try_import(&self, host: &Host, receipt: &str) -> Result<Answer> {
        host.post(
            "/orders/import",
            &json!({"syncToken": self.sync_token, "receipt": receipt}),
        )
        .await
    }

    /// Imports a receipt: the body of the answer, which is 200 whatever came of the receipt.
    ///
    /// # Errors
    /// If the answer is another.
    pub async fn import(&self, host: &Host, receipt: &str) -> Result<Value> {
        let answer = self.try_import(host, receipt).await?;
        ensure!(
            answer.status == 200,
            "the import was answered {} {}",
            answer.status,
            answer.text
        );
        Ok(answer.json())
    }

    /// `GET /stores/sync-status`.
    ///
    /// # Errors
    /// If the answer is not 200.
    pub async fn status(&self, host: &Host) -> Result<Value> {
        let answer = host
            .get(&format!(
                "/stores/sync-status?syncToken={}",
                self.sync_token
            ))
            .await?;
        ensure!(
            answer.status == 200,
            "the status was answered {} {}",
            answer.status,
            answer.text
        );
        Ok(answer.json())
    }

    /// `POST /stores/sync`.
    ///
    /// # Errors
    /// If the answer is not 202.
    pub async fn request_sync(&self, host: &Host) -> Result<Value> {
        let answer = host
            .post("/stores/sync", &json!({"syncToken": self.sync_token}))
            .await?;
        ensure!(
            answer.status == 202,
            "the request was answered {} {}",
            answer.status,
            answer.text
        );
        Ok(answer.json())
    }
}
