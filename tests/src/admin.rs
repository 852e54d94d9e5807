//! The admin API of a host.

use anyhow::{Result, ensure};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::{Answer, Host};

/// The value of `WHARF_ADMIN_TOKEN` in a [`HostBuilder`](crate::HostBuilder)'s hosts.
pub const ADMIN_TOKEN: &str = "the-token-of-the-tests";

/// The admin API of a host.
#[derive(Clone, Copy, Debug)]
pub struct Admin<'a>(pub(crate) &'a Host);

impl Admin<'_> {
    /// A request to a path below `/admin/plugins`, with the token.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.0
            .request(method, &format!("/admin/plugins{path}"))
            .bearer_auth(ADMIN_TOKEN)
    }

    /// One plugin with everything that is known of it.
    ///
    /// # Errors
    /// If the host does not know it.
    pub async fn plugin(&self, name: &str) -> Result<Value> {
        let answer = Answer::to(self.request("GET", &format!("/{name}"))).await?;
        ensure!(
            answer.status == 200,
            "{name}: {} {}",
            answer.status,
            answer.text
        );
        Ok(answer.json())
    }

    /// Uploads a component, and its grants if any are given.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn push(&self, name: &str, component: &[u8], grants: Option<&str>) -> Result<Answer> {
        const BOUNDARY: &str = "a-boundary-that-stands-in-no-component";
        let part = |part: &str| {
            format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{part}\"\r\n\r\n")
        };
        let mut form = [part("component").as_bytes(), component].concat();
        if let Some(grants) = grants {
            form.extend([part("grants").as_bytes(), grants.as_bytes()].concat());
        }
        form.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let request = self.request("POST", &format!("/{name}"));
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        Answer::to(request.header("content-type", content_type).body(form)).await
    }

    /// Does something with a plugin: `rollback`, `activate` and so on.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn change(&self, name: &str, what: &str, body: Value) -> Result<Value> {
        let answer =
            Answer::to(self.request("POST", &format!("/{name}/{what}")).json(&body)).await?;
        ensure!(
            answer.status == 200,
            "{what} {name} {body}: {} {}",
            answer.status,
            answer.text
        );
        Ok(answer.json())
    }

    /// Goes back to the revision before.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn roll_back(&self, name: &str) -> Result<Value> {
        self.change(name, "rollback", json!({})).await
    }
}
