//! `wharf plugin new`: a plugin outside this repository. Nothing is fetched: the SDK and the contract are in this
//! program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use toml::{Table, Value};

use crate::{output, usage::UsageError};

/// `wharf plugin new`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  wharf plugin new corner                    an adapter for the marketplace `corner`, in ./corner
  wharf plugin new corner --http             an adapter that asks its marketplace over HTTP
  wharf plugin new audit-log --kind shaper --path ~/src/audit-log")]
pub(super) struct NewArgs {
    /// The plugin's name and the name that it serves: a-z, 0-9 and `-`
    name: String,
    /// The kind of plugin
    #[arg(long, default_value = "adapter")]
    kind: Kind,
    /// An adapter that asks its marketplace over HTTP, with grants and vectors
    #[arg(long)]
    http: bool,
    /// The folder to make [default: the name]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Serves a marketplace
    Adapter,
    /// Shapes webhook payloads
    Shaper,
}

/// The kind of plugin that is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Template {
    Adapter,
    HttpAdapter,
    Shaper,
}

impl NewArgs {
    fn template(&self) -> Result<Template, UsageError> {
        match (self.kind, self.http) {
            (Kind::Adapter, false) => Ok(Template::Adapter),
            (Kind::Adapter, true) => Ok(Template::HttpAdapter),
            (Kind::Shaper, false) => Ok(Template::Shaper),
            (Kind::Shaper, true) => {
                Err(UsageError::new("a shaper has no network: leave out --http"))
            }
        }
    }
}

/// Characters of a name, as the contract has it.
const MAX_NAME: usize = 64;

/// Includes the SDK of this repository. A test compares the list with the folder.
macro_rules! sdk {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../../../../../plugins/sdk/", $file)))),*]
    };
}
const SDK: &[(&str, &str)] = sdk![
    "README.md",
    "src/adapter.rs",
    "src/bindings.rs",
    "src/check.rs",
    "src/config.rs",
    "src/decimal.rs",
    "src/http.rs",
    "src/http/encode.rs",
    "src/http/wasi.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/retry_after.rs",
    "src/rfc3339.rs",
    "src/shaper.rs",
    "src/testing.rs",
    "wit/plugin.wit",
];
const SDK_MANIFEST: &str = include_str!("../../../../../plugins/sdk/Cargo.toml");
const WORKSPACE_MANIFEST: &str = include_str!("../../../../../Cargo.toml");

/// Makes the folder with a plugin that builds and passes.
pub(super) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let name = checked_name(&args.name)?;
    let dir = args.path.clone().unwrap_or_else(|| name.into());
    // Never written over: it may be somebody's work.
    if dir.exists() {
        return Err(UsageError::new(format!("{} is there already", dir.display())).into());
    }
    for (file, text) in files(name, args.template()?)? {
        let path = dir.join(file);
        write(&path, &text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let file = name.replace('-', "_");
    output::line(&format!(
        "{dir} is ready:\n  cd {dir}\n  cargo test\n  cargo build --release --target wasm32-wasip2\n  \
         wharf plugin pack target/wasm32-wasip2/release/{file}.wasm --out {name}.wasm\n  wharf plugin check {name}.wasm",
        dir = dir.display()
    ));
    Ok(())
}

/// Checks a name that Cargo, the contract and a host must all take.
fn checked_name(name: &str) -> Result<&str, UsageError> {
    let valid = name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let why = || {
        format!(
            "{name:?} is no name for a plugin: 1 to {MAX_NAME} of a-z, 0-9 and `-`, a letter first"
        )
    };
    if valid {
        Ok(name)
    } else {
        Err(UsageError::new(why()))
    }
}

/// The parts in which templates differ.
struct Parts {
    what: &'static str,
    code: &'static str,
    vectors: &'static str,
    dependencies: String,
    grants_file: String,
    grants: &'static str,
}

impl Template {
    fn parts(self, name: &str) -> anyhow::Result<Parts> {
        let plain = |what, code, vectors| Parts {
            what,
            code,
            vectors,
            dependencies: String::new(),
            grants_file: "grants.example.toml".into(),
            grants: include_str!("template/grants.toml.txt"),
        };
        Ok(match self {
            Self::Adapter => plain(
                "The marketplace",
                include_str!("template/adapter.rs.txt"),
                include_str!("template/adapter-vectors.json"),
            ),
            Self::Shaper => plain(
                "The payload shaper",
                include_str!("template/shaper.rs.txt"),
                include_str!("template/shaper-vectors.json"),
            ),
            Self::HttpAdapter => Parts {
                dependencies: shared_dependencies(&["serde", "serde_json"])?,
                grants_file: format!("{name}.toml"),
                grants: include_str!("template/grants-http.toml.txt"),
                ..plain(
                    "The marketplace",
                    include_str!("template/adapter-http.rs.txt"),
                    include_str!("template/adapter-http-vectors.json"),
                )
            },
        })
    }
}

fn files(name: &str, template: Template) -> anyhow::Result<Vec<(String, String)>> {
    let words: Vec<String> = name
        .split('-')
        .filter(|word| !word.is_empty())
        .map(capitalized)
        .collect();
    let parts = template.parts(name)?;
    let push_grants = match template {
        Template::HttpAdapter => format!(" --grants {name}.toml"),
        Template::Adapter | Template::Shaper => String::new(),
    };
    let filled = |template: &str| {
        template
            .replace("{{name}}", name)
            // Cargo names its artefacts so.
            .replace("{{file}}", &name.replace('-', "_"))
            .replace("{{type}}", &words.concat())
            .replace("{{display}}", &words.join(" "))
            .replace("{{what}}", parts.what)
            .replace("{{dependencies}}", &parts.dependencies)
            .replace("{{grants}}", &push_grants)
            .replace("{{grants_file}}", &parts.grants_file)
    };
    let mut files: Vec<(String, String)> = [
        // The templates end in `.txt`: cargo would take a manifest below `src/` for a package of its own.
        ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
        (
            ".cargo/config.toml",
            include_str!("template/config.toml.txt"),
        ),
        (".gitignore", include_str!("template/gitignore.txt")),
        ("README.md", include_str!("template/README.md.txt")),
        (parts.grants_file.as_str(), parts.grants),
        ("src/lib.rs", parts.code),
        ("conformance/vectors.json", parts.vectors),
    ]
    .map(|(file, template)| (file.to_owned(), filled(template)))
    .to_vec();
    if template == Template::HttpAdapter {
        let order = include_str!("template/order.json");
        files.push(("conformance/responses/order.json".into(), order.into()));
    }
    files.extend(SDK.iter().map(|(file, text)| {
        (
            format!("vendor/wharf-plugin-sdk/{file}"),
            (*text).to_owned(),
        )
    }));
    files.push((
        "vendor/wharf-plugin-sdk/Cargo.toml".into(),
        standalone(SDK_MANIFEST, WORKSPACE_MANIFEST)?,
    ));
    Ok(files)
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(letters)
        .collect()
}

/// Returns lines of a manifest with dependencies as this repository's workspace has them.
fn shared_dependencies(names: &[&str]) -> anyhow::Result<String> {
    let workspace: Table = WORKSPACE_MANIFEST.parse()?;
    let shared = workspace["workspace"]["dependencies"]
        .as_table()
        .context("no shared dependencies")?;
    names
        .iter()
        .map(|name| {
            let value = shared
                .get(*name)
                .with_context(|| format!("the workspace shares no {name}"))?;
            Ok(format!("{name} = {value}\n"))
        })
        .collect()
}

/// Returns a member's manifest with everything that it inherits from its workspace written out.
fn standalone(member: &str, workspace: &str) -> anyhow::Result<String> {
    let (mut member, workspace): (Table, Table) = (member.parse()?, workspace.parse()?);
    // The lints are the workspace's, and those of this repository; an author has others.
    member.remove("lints");
    for part in ["package", "dependencies"] {
        let shared = workspace["workspace"][part]
            .as_table()
            .with_context(|| format!("no shared {part}"))?;
        let own = member[part]
            .as_table_mut()
            .with_context(|| format!("no {part}"))?;
        for (key, value) in own.iter_mut() {
            if value
                .get("workspace")
                .is_some_and(|inherits| *inherits == Value::Boolean(true))
            {
                *value = shared
                    .get(key)
                    .with_context(|| format!("the workspace shares no {key}"))?
                    .clone();
            }
        }
    }
    Ok(toml::to_string(&member)?)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_whole_sdk_is_in_this_program() {
        fn walk(dir: &Path, root: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(dir).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.insert(
                        path.strip_prefix(root)
                            .expect("inside")
                            .display()
                            .to_string(),
                    );
                }
            }
        }
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk");
        let mut found = BTreeSet::new();
        walk(&sdk, &sdk, &mut found);
        let listed = SDK
            .iter()
            .map(|(file, _)| (*file).to_owned())
            .chain(["Cargo.toml".to_owned()])
            .collect();
        assert_eq!(found, listed, "list every file of plugins/sdk in SDK");
    }

    #[test]
    fn the_sdks_manifest_stands_alone() {
        let manifest = standalone(SDK_MANIFEST, WORKSPACE_MANIFEST).expect("a manifest");
        assert!(!manifest.contains("workspace"), "{manifest}");
        assert!(
            manifest.contains("wit-bindgen") && manifest.contains("edition = \"2024\""),
            "{manifest}"
        );
    }

    #[test]
    fn templates_are_filled() {
        for template in [Template::Adapter, Template::HttpAdapter, Template::Shaper] {
            for (file, text) in files("corner-shop", template).expect("files") {
                let of_sdk = file.starts_with("vendor");
                for place in [
                    "{{name}}",
                    "{{file}}",
                    "{{type}}",
                    "{{display}}",
                    "{{what}}",
                    "{{dependencies}}",
                    "{{grants}}",
                    "{{grants_file}}",
                ] {
                    assert!(of_sdk || !text.contains(place), "{file}: {place}");
                }
                if file == "src/lib.rs" {
                    assert!(
                        text.contains("struct CornerShop;") && text.contains("\"Corner Shop\""),
                        "{text}"
                    );
                }
            }
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(
            ["corner", "shop-24", "x"]
                .iter()
                .all(|name| checked_name(name).is_ok())
        );
        for bad in [
            "",
            "Corner",
            "24shop",
            "-x",
            "x-",
            "x_y",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(checked_name(bad).is_err(), "{bad}");
        }
    }
}
