//! The API's description: it is the host's own, and every rule that it states is kept by a running host.

mod document;
mod values;

use std::{fs, io::Read, process::Command};

use anyhow::Result;
use serde_json::{Map, Value, json};
use wharf_tests::{Answer, Backend, Host, Site, on_every_backend, repository, wharf_binary};

use self::{
    document::{ADMIN_TOKEN, operations},
    values::{just_right, right, wrong},
};

fn printed() -> String {
    let output = Command::new(wharf_binary())
        .arg("openapi")
        .env_clear()
        .output()
        .expect("wharf runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_checked_in_document_is_the_programs() {
    let kept =
        fs::read_to_string(repository().join("docs/openapi.json")).expect("docs/openapi.json");
    assert!(
        kept == printed(),
        "docs/openapi.json is old: `cargo run -p wharf -- openapi > docs/openapi.json`"
    );
}

/// Returns true if an answer refuses this field and no other.
fn refuses(answer: &Answer, field: &str) -> bool {
    // A success may be a list, which has no members.
    let body = answer.json();
    let details = body.get("details").unwrap_or(&Value::Null);
    let paths: Vec<_> = details
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|detail| detail["path"].as_str())
        .collect();
    let is_alone = paths == [field]
        || (body
            .get("error")
            .is_some_and(|error| error == "receipt is required")
            && field == "receipt");
    answer.status == 400 && is_alone
}

async fn start(backend: Backend) -> Result<Host> {
    // Nothing is sent and nothing runs: the answers are what counts.
    Site::open(backend)
        .await?
        .host()
        .role("api")
        .env("WHARF_ADMIN_TOKEN", ADMIN_TOKEN)
        .start()
        .await
}

async fn every_documented_rule_is_kept(backend: Backend) -> Result<()> {
    let host = start(backend).await?;
    let (mut rules, operations) = (0, operations());
    assert_eq!(host.get("/openapi.json").await?.text, printed());
    for operation in &operations {
        let query = operation.query();
        let (schema, in_query) = operation
            .body()
            .map_or((&query, true), |schema| (schema, false));
        let Some(properties) = schema["properties"]
            .as_object()
            .filter(|all| !all.is_empty())
        else {
            continue;
        };
        let all: Map<_, _> = properties
            .iter()
            .map(|(name, property)| (name.clone(), right(property)))
            .collect();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let name = operation.name();
        for (field, property) in properties {
            let with = |value: Value| {
                let mut members = all.clone();
                members.insert(field.clone(), value);
                members
            };
            for value in just_right(property) {
                let answer = operation.answer(&host, &with(value.clone())).await?;
                assert_ne!(
                    answer.status, 400,
                    "{name}: {field} {value} is right: {}",
                    answer.text
                );
            }
            for value in wrong(property, in_query) {
                let answer = operation.answer(&host, &with(value.clone())).await?;
                assert!(
                    refuses(&answer, field),
                    "{name}: {field} {value} is wrong: {} {}",
                    answer.status,
                    answer.text
                );
                rules += 1;
            }
            let mut without = all.clone();
            without.remove(field);
            let without = if in_query { without } else { with(Value::Null) };
            let answer = operation.answer(&host, &without).await?;
            let is_required = required.iter().any(|name| name == field);
            assert_eq!(
                refuses(&answer, field),
                is_required,
                "{name} without {field}: {}",
                answer.text
            );
        }
        let mut more = all.clone();
        more.insert("unknown".into(), json!("ignored"));
        assert_ne!(operation.answer(&host, &more).await?.status, 400, "{name}");
    }
    assert!(rules > 250, "{rules} rules were tried");
    Ok(())
}

async fn bodies_are_refused_as_documented(backend: Backend) -> Result<()> {
    let host = start(backend).await?;
    for operation in operations()
        .iter()
        .filter(|operation| operation.body().is_some())
    {
        let json = |body: &str| {
            operation
                .request(&host, "")
                .header("content-type", "application/json")
                .body(body.to_owned())
        };
        for (request, status) in [
            (json("{"), 400),
            (json("[]"), 400),
            (json(&" ".repeat(1024 * 1024 + 1)), 413),
            (
                operation
                    .request(&host, "")
                    .header("content-type", "text/plain")
                    .body("{}"),
                415,
            ),
        ] {
            let answer = Answer::to(request).await?;
            assert_eq!(
                answer.status,
                status,
                "{}: {}",
                operation.name(),
                answer.text
            );
            let told = operation.resolved(&operation.said["responses"][status.to_string()]);
            let words = told["description"].as_str().expect("it is documented");
            assert!(
                words.contains(answer.get("error").as_str().expect("an error")),
                "{}: {words}",
                operation.name()
            );
        }
    }
    Ok(())
}

/// A file of the page as a browser sees it.
async fn unpacked(host: &Host, path: &str) -> Result<String> {
    let response = host.request("GET", path).send().await?;
    let is_packed = response
        .headers()
        .get("content-encoding")
        .is_some_and(|encoding| encoding == "gzip");
    let (bytes, mut text) = (response.bytes().await?, String::new());
    match is_packed {
        true => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text)?,
        false => (&bytes[..]).read_to_string(&mut text)?,
    };
    Ok(text)
}

async fn the_page_asks_nobody_else(backend: Backend) -> Result<()> {
    let host = start(backend).await?;
    assert_eq!(host.get("/docs").await?.header("location"), "/docs/");
    let head = Answer::to(host.request("HEAD", "/docs/")).await?;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, "text/html")
    );
    let is_elsewhere = |text: &str| {
        ["http:", "https:", "=\"//"]
            .iter()
            .any(|scheme| text.contains(scheme))
    };
    let policy = head.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'") && !is_elsewhere(policy),
        "{policy}"
    );
    let page = unpacked(&host, "/docs/").await?;
    assert!(!is_elsewhere(&page), "{page}");
    let files: Vec<_> = page
        .split(['"', '\''])
        .filter(|word| word.starts_with("./"))
        .collect();
    assert!(files.len() >= 4, "{page}");
    for file in files {
        let answer = Answer::to(host.request("HEAD", &format!("/docs/{}", &file[2..]))).await?;
        assert_eq!(answer.status, 200, "{file}");
    }
    let starter = unpacked(&host, "/docs/swagger-initializer.js").await?;
    assert!(
        starter.contains("/openapi.json") && !is_elsewhere(&starter),
        "{starter}"
    );
    for path in [
        "/docs/nothing.js",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/docs/%ff",
        "/docs/%00",
    ] {
        let missing = host.get(path).await?;
        assert_eq!(
            (missing.status, missing.get("error")),
            (404, json!("Not found")),
            "{path}"
        );
    }
    Ok(())
}

on_every_backend!(
    every_documented_rule_is_kept,
    bodies_are_refused_as_documented,
    the_page_asks_nobody_else
);
