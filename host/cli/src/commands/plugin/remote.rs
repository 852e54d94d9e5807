//! The plugins of a running host, by its admin API.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use wharf_egress::{Method, RequestBuilder};

pub(super) use crate::operator::HostArgs;
use crate::operator::Operator;

/// The plugins of a host.
pub(super) struct Remote(Operator);

impl Remote {
    pub(super) fn new(args: &HostArgs) -> anyhow::Result<Self> {
        Operator::new(args).map(Self)
    }

    /// Returns every plugin of the host.
    pub(super) async fn list(&self) -> anyhow::Result<Value> {
        self.0.ask(self.request(Method::GET, "")).await
    }

    /// Returns one plugin with everything that is known about it.
    pub(super) async fn inspect(&self, plugin: &str) -> anyhow::Result<Value> {
        self.0.ask(self.request(Method::GET, &path(plugin))).await
    }

    /// Changes a plugin: `rollback`, `activate` and so on.
    pub(super) async fn change(
        &self,
        plugin: &str,
        what: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        self.0
            .ask(
                self.request(Method::POST, &format!("{}/{what}", path(plugin)))
                    .json(body),
            )
            .await
    }

    /// Sends a component and perhaps its grants.
    pub(super) async fn push(
        &self,
        plugin: &str,
        component: Vec<u8>,
        grants: Option<String>,
    ) -> anyhow::Result<Value> {
        let form = Form::new(component, grants)?;
        let request = self
            .request(Method::POST, &path(plugin))
            .header("content-type", form.content_type());
        self.0.ask(request.body(form.body)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.0.request(method, &format!("/plugins{path}"))
    }
}

fn path(plugin: &str) -> String {
    // Whatever was typed stays a part of the path, slashes and question marks too.
    format!("/{}", utf8_percent_encode(plugin, NON_ALPHANUMERIC))
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A form of one file and perhaps one text (RFC 7578).
struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    fn new(component: Vec<u8>, grants: Option<String>) -> anyhow::Result<Self> {
        // 128 random bits: no component holds this line by chance.
        let boundary = format!("wharf-{:032x}", u128::from_be_bytes(wharf_app::random()));
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"component\"; filename=\"component.wasm\"\r\n\
             Content-Type: application/wasm\r\n\r\n"
        )
        .into_bytes();
        body.extend(component);
        if let Some(grants) = grants {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"grants\"\r\n\r\n"
            );
            body.extend([head.as_bytes(), grants.as_bytes()].concat());
        }
        body.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
        Ok(Self { boundary, body })
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        assert_eq!(path("../x?y"), "/%2E%2E%2Fx%3Fy");
    }
}
