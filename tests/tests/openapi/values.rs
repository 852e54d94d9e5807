//! Right and wrong values, made from a schema's own words.

use serde_json::{Value, json};

use super::document::NOWHERE;

/// A value that the schema allows, from its own words.
pub(crate) fn right(schema: &Value) -> Value {
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

pub(crate) fn kind(schema: &Value) -> &str {
    schema["type"]
        .as_str()
        .or_else(|| schema["type"][0].as_str())
        .expect("a type")
}

/// Values at the edges that the schema still allows.
pub(crate) fn just_right(schema: &Value) -> Vec<Value> {
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
pub(crate) fn wrong(schema: &Value, in_query: bool) -> Vec<Value> {
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
        values.push(json!(format!(
            "{text}{}",
            "a".repeat(usize::try_from(most).expect("a length") + 1 - text.len())
        )));
    }
    if let Some(least) = schema["minimum"].as_i64() {
        values.push(json!(least - 1));
    }
    if let Some(most) = schema["maximum"].as_i64() {
        values.push(json!(most + 1));
    }
    values
}
