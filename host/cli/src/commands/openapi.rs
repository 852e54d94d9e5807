//! `wharf openapi`: print the description of the API.

use clap::Args;

use crate::output;

/// `wharf openapi`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf openapi > docs/openapi.json
  wharf openapi | jq '.paths | keys'

A running host serves the same at /openapi.json, and a page to try it at /docs.")]
pub(crate) struct OpenApiArgs {}

/// Prints what `GET /openapi.json` answers.
pub(crate) fn run() {
    output::line(wharf_api::openapi().trim_end());
}
