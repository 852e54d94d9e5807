//! Rules of the repository that neither rustc nor clippy can hold: which crate may depend on which, the length of files,
//! suites that nobody runs. Banned functions are in `clippy.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use wharf_tests::{repository, wharf_binary};

/// Every file below these folders whose name ends so, without what is built.
fn files(folders: &[&str], ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders
        .iter()
        .map(|folder| repository().join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no file ends in {ending}");
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The direct dependencies of each crate in `host/`, without those for tests alone.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--locked", "--format-version", "1"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let host = repository().join("host");
    let array = |value: &Value| value.as_array().cloned().expect("an array");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    array(&metadata["packages"])
        .iter()
        .filter(|package| {
            Path::new(package["manifest_path"].as_str().expect("a path")).starts_with(&host)
        })
        .map(|package| {
            let all = array(&package["dependencies"]);
            let shipped = all.iter().filter(|dependency| dependency["kind"].is_null());
            (name(package), shipped.map(name).collect())
        })
        .collect()
}

/// The crates of ours that each room may use: the table in ARCHITECTURE.md.
const ROOMS: [(&str, &[&str]); 9] = [
    ("wharf-domain", &[]),
    ("wharf-pack", &[]),
    ("wharf-failpoint", &[]),
    ("wharf-egress", &["wharf-domain"]),
    ("wharf-store", &["wharf-domain"]),
    ("wharf-queue", &["wharf-domain"]),
    (
        "wharf-engine",
        &[
            "wharf-domain",
            "wharf-egress",
            "wharf-failpoint",
            "wharf-pack",
        ],
    ),
    (
        "wharf-app",
        &[
            "wharf-domain",
            "wharf-store",
            "wharf-queue",
            "wharf-egress",
            "wharf-engine",
            "wharf-failpoint",
        ],
    ),
    ("wharf-api", &["wharf-app", "wharf-domain"]),
];

#[test]
fn rooms_use_only_what_the_map_allows() {
    for (package, dependencies) in dependencies() {
        // The program wires everything together.
        if package == "wharf" {
            continue;
        }
        let (_, allowed) = ROOMS
            .iter()
            .find(|(room, _)| *room == package)
            .unwrap_or_else(|| panic!("{package} is not in the map"));
        for dependency in dependencies
            .iter()
            .filter(|name| name.starts_with("wharf-"))
        {
            assert!(
                allowed.contains(&&**dependency),
                "{package} must not use {dependency}"
            );
        }
    }
}

#[test]
fn a_heavy_library_has_one_room() {
    let rooms = dependencies();
    // The program listens and plays a receiver of webhooks; the API itself is one crate's.
    for (library, allowed) in [
        ("sqlx", &["wharf-store"][..]),
        ("redis", &["wharf-queue"]),
        ("wasmtime", &["wharf-engine"]),
        ("reqwest", &["wharf-egress"]),
        ("axum", &["wharf", "wharf-api"]),
        ("clap", &["wharf"]),
        // Libraries have errors of their own.
        ("anyhow", &["wharf"]),
    ] {
        let extensions = format!("{library}-");
        let users: Vec<_> = rooms
            .iter()
            .filter(|(_, names)| {
                names
                    .iter()
                    .any(|name| name == library || name.starts_with(&extensions))
            })
            .map(|(room, _)| room.as_str())
            .collect();
        assert_eq!(users, allowed, "{library}");
    }
    for io in ["tokio", "serde_json", "reqwest", "tracing"] {
        assert!(
            !rooms["wharf-domain"].contains(io),
            "the domain decides and does no {io}"
        );
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |database: &str| -> Vec<String> {
        let files = files(&[&format!("migrations/{database}")], ".sql");
        files
            .iter()
            .map(|path| {
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    let (postgres, sqlite) = (names("postgres"), names("sqlite"));
    assert_eq!(postgres, sqlite);
    // A number is given before it is known which branch comes first, so one may be missing, but none comes twice.
    let numbers: Vec<_> = postgres.iter().map(|name| name.split_once('_')).collect();
    for number in &numbers {
        let number = number.expect("NNNN_title.sql").0;
        assert!(
            number.len() == 4 && number.parse::<u16>().is_ok(),
            "{number}"
        );
    }
    assert!(
        numbers
            .windows(2)
            .all(|pair| pair[0].map(|n| n.0) < pair[1].map(|n| n.0))
    );
}

/// The rule of CONTRIBUTING.md, as far as words can tell: whatever takes something away says so in its name.
#[test]
fn migrations_only_add() {
    for path in files(&["migrations"], ".sql") {
        let (name, text) = (shown(&path), read(&path).to_lowercase());
        for taken in [
            "drop table",
            "drop column",
            "rename ",
            "alter column",
            "set not null",
        ] {
            assert!(
                !text.contains(taken) || name.contains("_contract_"),
                "{name} has a {taken:?}"
            );
        }
        // Without a default, programs that do not know the column could not insert any more.
        for column in text.split("add column").skip(1) {
            let column = column.split([';', ',']).next().unwrap_or_default();
            assert!(
                !column.contains("not null") || column.contains("default"),
                "{name} adds{column}"
            );
        }
    }
}

#[test]
fn files_stay_readable() {
    for path in files(&["host", "plugins", "xtask", "tests", "bench"], ".rs") {
        let lines = read(&path).lines().count();
        assert!(lines <= 400, "{} has {lines} lines", shown(&path));
    }
}

#[test]
fn every_suite_is_run() {
    for manifest in files(
        &["host", "plugins", "xtask", "tests", "bench"],
        "Cargo.toml",
    ) {
        let text = read(&manifest);
        for off in ["autotests = false", "test = false", "harness = false"] {
            assert!(
                !text.contains(off),
                "{} switches tests off",
                shown(&manifest)
            );
        }
    }
    for path in files(&["host", "plugins", "xtask", "tests", "bench"], ".rs") {
        let (name, text) = (shown(&path), read(&path));
        if name == "tests/tests/tidy.rs" {
            continue;
        }
        assert!(!text.contains("#[ignore"), "{name} ignores a test");
        let folder = path.parent().expect("a folder");
        let is_suite = folder.ends_with("tests/tests");
        assert!(
            !is_suite || text.contains("#[test]") || text.contains("on_every_backend!("),
            "{name} tests nothing"
        );
        // A file that no module names is not compiled.
        let is_root = |name: &str| matches!(name, "main.rs" | "lib.rs" | "mod.rs");
        let file = path.file_name().expect("a name").to_string_lossy();
        let siblings: Vec<_> = files(&[&shown(folder)], ".rs")
            .into_iter()
            .filter(|p| p.parent() == Some(folder))
            .collect();
        if !is_root(&file)
            && siblings.iter().any(|p| {
                p.file_name()
                    .is_some_and(|name| is_root(&name.to_string_lossy()))
            })
        {
            let names = [
                format!("mod {};", file.trim_end_matches(".rs")),
                format!("\"{file}\""),
            ];
            let named = siblings
                .iter()
                .any(|sibling| names.iter().any(|name| read(sibling).contains(name)));
            assert!(named, "{name} belongs to no module");
        }
    }
}

/// The names of all settings in `wharf serve --help`. The mock marketplaces' passwords have no flags.
fn settings() -> BTreeSet<String> {
    let output = Command::new(wharf_binary())
        .args(["serve", "--help"])
        .env_clear()
        .output()
        .expect("wharf runs");
    let help = String::from_utf8(output.stdout).expect("text");
    let names = help
        .split("[env: ")
        .skip(1)
        .filter_map(|rest| rest.split(['=', ']']).next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_readme_knows_every_setting() {
    let settings = settings();
    assert!(
        settings.contains("DATABASE_URL") && settings.contains("SYNC_CHUNK_SIZE"),
        "{settings:?}"
    );
    let readme = read(&repository().join("README.md"));
    let firsts = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('|').nth(1));
    let rows: BTreeSet<&str> = firsts
        .flat_map(|first| first.split('`').skip(1).step_by(2))
        .collect();
    let missing: Vec<_> = settings
        .iter()
        .filter(|name| !rows.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "README.md's table of settings lacks {missing:?}"
    );
}
