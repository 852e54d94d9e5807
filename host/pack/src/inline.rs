//! Files of responses, put into the vectors that name them: a component carries no files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path},
};

use serde_json::value::{RawValue, to_raw_value};

/// A JSON object whose members stay as they are written: numbers keep their digits.
type Object = BTreeMap<String, Box<RawValue>>;

/// Replaces `file` by `body` in every response of every exchange.
pub(crate) fn files(vectors: String, dir: &Path) -> io::Result<String> {
    // Most vectors name none, and stay byte for byte. What is no JSON at all is refused by the engine, which names it.
    let Ok(mut file) = serde_json::from_str::<Object>(&vectors) else {
        return Ok(vectors);
    };
    if !vectors.contains("\"file\"") {
        return Ok(vectors);
    }
    change(&mut file, "cases", |cases: &mut Vec<Object>| {
        each(cases, |case| {
            change(case, "exchanges", |exchanges: &mut Vec<Object>| {
                each(exchanges, |exchange| {
                    change(exchange, "response", |response: &mut Object| {
                        inline(response, dir)
                    })
                })
            })
        })
    })?;
    Ok(serde_json::to_string(&file)?)
}

fn each(
    objects: &mut [Object],
    change: impl FnMut(&mut Object) -> io::Result<()>,
) -> io::Result<()> {
    objects.iter_mut().try_for_each(change)
}

/// Changes a member, if there is one of this form.
fn change<T: serde::de::DeserializeOwned + serde::Serialize>(
    object: &mut Object,
    member: &str,
    change: impl FnOnce(&mut T) -> io::Result<()>,
) -> io::Result<()> {
    let Some(raw) = object.get_mut(member) else {
        return Ok(());
    };
    // Another form is the engine's to refuse.
    if let Ok(mut value) = serde_json::from_str(raw.get()) {
        change(&mut value)?;
        *raw = to_raw_value(&value)?;
    }
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "called by authors' tools, which wait for it"
)]
fn inline(response: &mut Object, dir: &Path) -> io::Result<()> {
    let Some(file) = response.remove("file") else {
        return Ok(());
    };
    let file: String = serde_json::from_str(file.get())?;
    let named = |why: &dyn std::fmt::Display| io::Error::other(format!("{file}: {why}"));
    // A folder of vectors is copied and packed elsewhere, so it is whole by itself.
    let is_inside = Path::new(&file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Err(named(&"it is no file below the folder of vectors"));
    }
    let body = fs::read_to_string(dir.join(&file)).map_err(|error| named(&error))?;
    response.insert("body".into(), to_raw_value(&body)?);
    Ok(())
}
