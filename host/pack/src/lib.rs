//! Packing: adds version, licence, description and conformance vectors to a component, as custom sections at its end.
//!
//! The first three have the names of the WebAssembly tool conventions, so `wasm-tools metadata show` reads them. This
//! is a crate of its own, so that `xtask` packs plugins as `wharf plugin pack` does without building the sandbox. It
//! does not check that the component is a plugin and that its vectors make sense: the engine does.

mod inline;

use std::{fs, io, path::Path};

use wasm_encoder::{CustomSection, Section};

/// The custom section that holds vectors.
pub const CONFORMANCE_SECTION: &str = "wharf:conformance";

/// The facts that are packed into a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackFacts {
    /// A semantic version.
    pub version: Option<String>,
    /// An SPDX expression.
    pub licenses: Option<String>,
    /// One line for people.
    pub description: Option<String>,
    /// Files of vectors, each `{"cases": [...]}`.
    pub vectors: Vec<String>,
}

/// Adds the facts to a component. Sections that it already has stay.
pub fn pack(component: &[u8], facts: &PackFacts) -> Vec<u8> {
    let texts = [
        ("version", &facts.version),
        ("licenses", &facts.licenses),
        ("description", &facts.description),
    ];
    let named = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, text.as_deref()?)));
    let vectors = facts
        .vectors
        .iter()
        // A section for each file. The engine reads all of them as one list.
        .map(|text| (CONFORMANCE_SECTION, text.as_str()));
    // Appended: a custom section at the end moves nothing that is there, so the code stays as it was built.
    let mut packed = component.to_vec();
    for (name, text) in named.chain(vectors) {
        CustomSection {
            name: name.into(),
            data: text.as_bytes().into(),
        }
        .append_to(&mut packed);
    }
    packed
}

/// Reads a folder's files of vectors, `*.json`, in the order of their names. A response that names a `file`, such as
/// `responses/order.json`, gets that file of the folder as its body.
///
/// # Errors
/// If the folder or a file cannot be read; the error names it.
#[allow(
    clippy::disallowed_methods,
    reason = "called by authors' tools, which wait for it"
)]
pub fn vectors(dir: &Path) -> io::Result<Vec<String>> {
    let named = |path: &Path, error: io::Error| {
        // The error of the system names no file, and authors have many.
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let entries = fs::read_dir(dir).map_err(|error| named(dir, error))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "json")
    });
    // Folders have no order, and the same vectors must make the same component.
    files.sort_unstable();
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).map_err(|error| named(file, error))?;
            inline::files(text, dir).map_err(|error| named(file, error))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn facts_and_vectors_become_sections() {
        let facts = PackFacts {
            version: Some("1.2.3".into()),
            vectors: vec![r#"{"cases":[1]}"#.into(), r#"{"cases":[2]}"#.into()],
            ..PackFacts::default()
        };
        let packed = pack(b"wasm", &facts);
        let expected = b"wasm\0\x0d\x07version1.2.3\0\x1f\x11wharf:conformance{\"cases\":[1]}\0\x1f\x11wharf:conformance{\"cases\":[2]}";
        assert_eq!(packed, expected);
    }

    #[test]
    fn vectors_are_read_in_order_and_a_missing_folder_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        for (file, text) in [("b.json", "2"), ("a.json", "1"), ("notes.txt", "3")] {
            fs::write(dir.path().join(file), text).expect("written");
        }
        assert_eq!(vectors(dir.path()).expect("vectors"), ["1", "2"]);
        let error = vectors(&dir.path().join("nowhere")).expect_err("no folder");
        assert!(error.to_string().contains("nowhere"), "{error}");
    }

    #[test]
    fn files_of_responses_become_bodies() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("responses")).expect("made");
        let order = "{\"amount\": 10.10}\n";
        fs::write(dir.path().join("responses/order.json"), order).expect("written");
        let cases = |file: &str| {
            format!(
                r#"{{"cases":[{{"name":"a","exchanges":[{{"request":{{"url":"u"}},"response":{{"status":200,"file":"{file}"}}}}],
                "n":10.10}},{{"name":"b"}}]}}"#
            )
        };
        fs::write(dir.path().join("a.json"), cases("responses/order.json")).expect("written");
        let packed = vectors(dir.path()).expect("vectors").concat();
        assert!(
            packed.contains(r#""body":"{\"amount\": 10.10}\n""#),
            "{packed}"
        );
        assert!(
            packed.contains(r#""n":10.10"#) && !packed.contains("file"),
            "{packed}"
        );
        for elsewhere in ["responses/none.json", "../order.json", "/etc/hostname"] {
            fs::write(dir.path().join("a.json"), cases(elsewhere)).expect("written");
            let error = vectors(dir.path()).expect_err(elsewhere).to_string();
            assert!(error.contains(elsewhere), "{error}");
        }
    }
}
