//! The form of an upload: a component and perhaps its grants.

use axum::{
    extract::{Multipart, multipart::MultipartError},
    http::StatusCode,
};
use utoipa::ToSchema;
use wharf_app::UploadedGrants;

use crate::error::{ApiError, Detail};

/// A plugin to be uploaded.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; `Upload` reads it")]
pub(super) struct PluginForm {
    /// The component, at most 32 MiB.
    #[schema(value_type = String, format = Binary)]
    component: Vec<u8>,
    /// The text of its grants (TOML). Without this part it keeps those that its predecessor has; empty, it has none.
    grants: Option<String>,
}

/// An uploaded component with its grants.
pub(super) struct Upload {
    pub(super) component: Vec<u8>,
    pub(super) grants: UploadedGrants,
}

impl Upload {
    /// Reads the form. The router bounds its size.
    pub(super) async fn read(mut form: Multipart) -> Result<Self, ApiError> {
        let (mut component, mut grants) = (None, UploadedGrants::AsBefore);
        // Kept in memory as a whole, which only somebody with the admin token can cause.
        while let Some(part) = form.next_field().await.map_err(refused)? {
            match part.name() {
                Some("component") => component = Some(part.bytes().await.map_err(refused)?.into()),
                Some("grants") => {
                    grants =
                        UploadedGrants::Text(text(part.bytes().await.map_err(refused)?.into())?)
                }
                _ => drop(part.bytes().await.map_err(refused)?),
            }
        }
        let component = component.ok_or_else(|| invalid("component", "is required"))?;
        Ok(Self { component, grants })
    }
}

fn text(bytes: Vec<u8>) -> Result<String, ApiError> {
    String::from_utf8(bytes).map_err(|_| invalid("grants", "must be UTF-8"))
}

fn invalid(path: &'static str, message: &str) -> ApiError {
    ApiError::Validation(vec![Detail {
        path,
        message: message.into(),
    }])
}

fn refused(error: MultipartError) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::UploadTooLarge,
        _ => ApiError::Malformed("the body is not a valid multipart form"),
    }
}
