//! Packs into a component what its package knows: version, licence, description and conformance vectors, as custom
//! sections at its end. The first three have the names of the WebAssembly tool conventions, so `wasm-tools metadata show`
//! reads them; the vectors are in `wharf:conformance`, as one JSON object `{"cases": [...]}`.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The component with its package's facts (`cargo metadata`) and the vectors in its `conformance/` directory.
pub(crate) fn pack(mut component: Vec<u8>, package: &Value, dir: &Path) -> Result<Vec<u8>> {
    for (section, fact) in [("version", "version"), ("licenses", "license"), ("description", "description")] {
        if let Some(text) = package[fact].as_str() {
            append_section(&mut component, section, text.as_bytes());
        }
    }
    let cases = vectors(&dir.join("conformance"))?;
    if !cases.is_empty() {
        append_section(&mut component, "wharf:conformance", json!({"cases": cases}).to_string().as_bytes());
    }
    Ok(component)
}

/// The cases of all files of a directory, which may be absent, in the order of the files' names.
fn vectors(dir: &Path) -> Result<Vec<Value>> {
    let mut files = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?,
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let place = || file.display().to_string();
        let mut vectors: Value = serde_json::from_slice(&fs::read(&file).with_context(place)?).with_context(place)?;
        cases.append(
            vectors
                .get_mut("cases")
                .and_then(Value::as_array_mut)
                .with_context(|| format!("{}: no list `cases`", file.display()))?,
        );
    }
    Ok(cases)
}

/// Custom sections have the id 0, their size, and then their name with its own size before it.
fn append_section(component: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut section = leb128(name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    component.push(0);
    component.extend(leb128(section.len()));
    component.extend(section);
}

/// The variable-length form of numbers in WebAssembly: seven bits a byte, the lowest first.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        for (number, bytes) in
            [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xac, 2]), (16_384, &[0x80, 0x80, 1])]
        {
            assert_eq!(leb128(number), bytes, "{number}");
        }
    }

    #[test]
    fn facts_and_vectors_become_sections() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("conformance")).expect("made");
        for (file, case) in [("b.json", 2), ("a.json", 1)] {
            let text = json!({"cases": [case]}).to_string();
            fs::write(dir.path().join("conformance").join(file), text).expect("written");
        }
        let packed = pack(b"wasm".to_vec(), &json!({"version": "1.2.3"}), dir.path()).expect("packed");
        assert_eq!(packed, b"wasm\0\x0d\x07version1.2.3\0\x21\x11wharf:conformance{\"cases\":[1,2]}");
        fs::write(dir.path().join("conformance/c.json"), "[]").expect("written");
        let error = pack(Vec::new(), &json!({}), dir.path()).expect_err("no cases");
        assert!(error.to_string().contains("c.json: no list `cases`"));
    }
}
