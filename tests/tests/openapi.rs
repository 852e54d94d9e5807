//! The API's description: it is the host's own, and every rule that it states is kept by a running host.

use std::{fs, io::Read, process::Command};

use anyhow::{Context, Result};
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};
use wharf_tests::{Answer, Backend, Host, Site, on_every_backend, repository, wharf_binary};

const ADMIN_TOKEN: &str = "the-admin-token-of-the-tests";
/// Names nothing, so that a request that is read without a complaint is answered 404 and changes nothing.
const NOWHERE: &str = "0190a5e4-7b1c-7def-8abc-0123456789ab";

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

/// One route and method, as the document has it.
struct Operation {
    method: String,
    path: String,
    said: Value,
    document: Value,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&printed()).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let item = item.as_object().expect("methods").clone();
        let (path, document) = (path.clone(), document.clone());
        item.into_iter().map(move |(method, said)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            said,
            document: document.clone(),
        })
    };
    paths.iter().flat_map(of_path).collect()
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        value["$ref"].as_str().map_or(value, |path| {
            self.document
                .pointer(&path[1..])
                .expect("a reference to something")
        })
    }

    /// The schema of its JSON body.
    fn body(&self) -> Option<&Value> {
        let schema = &self.said["requestBody"]["content"]["application/json"]["schema"];
        schema.is_object().then(|| self.resolved(schema))
    }

    /// The parameters of its query, as if they were members of a body.
    fn query(&self) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for parameter in self.said["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| one["in"] == "query")
        {
            properties.insert(
                parameter["name"].as_str().expect("a name").to_owned(),
                parameter["schema"].clone(),
            );
            if parameter["required"] == true {
                required.push(parameter["name"].clone());
            }
        }
        json!({"properties": properties, "required": required})
    }

    /// A request to it that names nothing in its path and has this query.
    fn request(&self, host: &Host, query: &str) -> RequestBuilder {
        let path = format!("{}{query}", self.path)
            .replace("{id}", NOWHERE)
            .replace("{marketplace}", "etsy")
            .replace("{plugin}", "nothing");
        let request = host.request(&self.method, &path);
        if self.path.starts_with("/admin") {
            return request.bearer_auth(ADMIN_TOKEN);
        }
        request.basic_auth("etsy_user", Some("etsy_pass"))
    }

    /// Sends these members, and checks that an answer of this status is documented, with its members if it is a refusal.
    async fn answer(&self, host: &Host, members: &Map<String, Value>) -> Result<Answer> {
        let request = match self.body() {
            Some(_) => self.request(host, "").json(members),
            None => self.request(host, &as_query(members)),
        };
        let answer = Answer::to(request).await?;
        let what = format!(
            "{} of {members:?} answers {} {}",
            self.name(),
            answer.status,
            answer.text
        );
        let told = self.resolved(&self.said["responses"][answer.status.to_string()]);
        assert!(told.is_object(), "{what}, which is not documented");
        if answer.status >= 400 {
            assert_eq!(
                told["content"]["application/json"]["schema"]["$ref"],
                "#/components/schemas/Refusal",
                "{what}"
            );
            let error = answer.get("error").as_str().context("an error")?.to_owned();
            let words = told["description"].as_str().expect("a description");
            assert!(
                words.contains(&format!("`{error}`")),
                "{what}, where the document knows only: {words}"
            );
        }
        Ok(answer)
    }
}

fn as_query(members: &Map<String, Value>) -> String {
    let encoded = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned)
    };
    let pairs = members
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(&text(value))));
    format!("?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// A value that the schema allows, from its own words.
fn right(schema: &Value) -> Value {
    let first = |values: &Value| values.get(0).cloned();
    let by_format = match schema["format"].as_str() {
        Some("uuid") => Some(json!(NOWHERE)),
        Some("date-time") => Some(json!("2026-01-31T00:00:00Z")),
        _ => None,
    };
    let by_type = || match kind(schema) {
        "boolean" => json!(true),
        "integer" => schema["minimum"].clone(),
        _ if schema["minLength"] == 64 => json!("0".repeat(64)),
        _ => json!("x"),
    };
    first(&schema["examples"])
        .or_else(|| first(&schema["enum"]))
        .or(by_format)
        .unwrap_or_else(by_type)
}

fn kind(schema: &Value) -> &str {
    schema["type"]
        .as_str()
        .or_else(|| schema["type"][0].as_str())
        .expect("a type")
}

/// Values at the edges that the schema still allows.
fn just_right(schema: &Value) -> Vec<Value> {
    let mut values = vec![right(schema)];
    values.extend(
        ["minimum", "maximum"]
            .iter()
            .filter_map(|edge| schema.get(edge).cloned()),
    );
    if let (Some(most), "^[^\\u0000]*$") = (
        schema["maxLength"].as_u64(),
        schema["pattern"].as_str().unwrap_or_default(),
    ) {
        values.push(json!("ä".repeat(usize::try_from(most).expect("a length"))));
    }
    values
}

/// Values that each break one rule of the schema. In a query, where all is text, a type cannot be wrong.
fn wrong(schema: &Value, in_query: bool) -> Vec<Value> {
    let mut values = Vec::new();
    let kind = kind(schema);
    match kind {
        "string" => values.push(json!("a\u{0}b")),
        "integer" => values.extend([json!(1.5), json!("many"), json!("+5")]),
        _ => values.push(json!("perhaps")),
    }
    if !in_query {
        values.extend([json!({}), json!([right(schema)])]);
        values.push(if kind == "string" {
            json!(5)
        } else {
            json!(right(schema).to_string())
        });
    }
    if schema["minLength"].is_u64() || schema["format"].is_string() || schema["enum"].is_array() {
        values.push(json!(""));
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        let text = right(schema).as_str().expect("a text").to_owned();
        values.push(json!(
            text.clone() + &"a".repeat(usize::try_from(most).expect("a length") + 1 - text.len())
        ));
    }
    if let Some(least) = schema["minimum"].as_i64() {
        values.push(json!(least - 1));
    }
    if let Some(most) = schema["maximum"].as_i64() {
        values.push(json!(most + 1));
    }
    values
}

/// Whether an answer refuses this field and no other.
fn refuses(answer: &Answer, field: &str) -> bool {
    let details = answer.get("details");
    let paths: Vec<_> = details
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|detail| detail["path"].as_str())
        .collect();
    let is_alone =
        paths == [field] || (answer.get("error") == "receipt is required" && field == "receipt");
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
