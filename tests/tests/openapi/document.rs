//! The operations of the document, and requests made by them.

use anyhow::{Context, Result};
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};
use wharf_tests::{Answer, Host};

use super::printed;

pub(crate) const ADMIN_TOKEN: &str = "the-admin-token-of-the-tests";
/// Names nothing, so that a request that is read without a complaint is answered 404 and changes nothing.
pub(crate) const NOWHERE: &str = "0190a5e4-7b1c-7def-8abc-0123456789ab";

/// One route and method, as the document has it.
pub(crate) struct Operation {
    method: String,
    path: String,
    pub(crate) said: Value,
    document: Value,
}

pub(crate) fn operations() -> Vec<Operation> {
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
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        value["$ref"].as_str().map_or(value, |path| {
            self.document
                .pointer(&path[1..])
                .expect("a reference to something")
        })
    }

    /// The schema of its JSON body.
    pub(crate) fn body(&self) -> Option<&Value> {
        let schema = &self.said["requestBody"]["content"]["application/json"]["schema"];
        schema.is_object().then(|| self.resolved(schema))
    }

    /// The parameters of its query, as if they were members of a body.
    pub(crate) fn query(&self) -> Value {
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
    pub(crate) fn request(&self, host: &Host, query: &str) -> RequestBuilder {
        let path = format!("{}{query}", self.path)
            .replace("{id}", NOWHERE)
            .replace("{logId}", NOWHERE)
            .replace("{marketplace}", "etsy")
            .replace("{plugin}", "nothing");
        let request = host.request(&self.method, &path);
        if self.said["security"][0]["key"].is_array() {
            return request.bearer_auth(ADMIN_TOKEN);
        }
        request.basic_auth("etsy_user", Some("etsy_pass"))
    }

    /// Sends these members, and checks that an answer of this status is documented, with its members if it is a refusal.
    pub(crate) async fn answer(&self, host: &Host, members: &Map<String, Value>) -> Result<Answer> {
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

pub(crate) fn as_query(members: &Map<String, Value>) -> String {
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
