//! The rules of the house that no compiler holds: what may depend on what, where the time is read, how long a file is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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

/// The names below `[dependencies]` of a package's manifest.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = read(manifest);
    let table = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = table.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| Some(line.split_once(['=', '.'])?.0.trim().to_owned()))
        .filter(|name| !name.starts_with('#'))
        .collect()
}

#[test]
fn a_heavy_library_has_one_room() {
    let rooms: BTreeMap<String, BTreeSet<String>> = files(&["host"], "Cargo.toml")
        .iter()
        .map(|manifest| {
            (
                shown(manifest.parent().expect("a folder")),
                dependencies(manifest),
            )
        })
        .collect();
    assert_eq!(rooms.len(), 10, "{:?}", rooms.keys());
    let users = |library: &str| -> Vec<&str> {
        let uses = |dependencies: &BTreeSet<String>| {
            dependencies
                .iter()
                .any(|name| name == library || name.starts_with(&format!("{library}-")))
        };
        rooms
            .iter()
            .filter(|(_, dependencies)| uses(dependencies))
            .map(|(room, _)| room.as_str())
            .collect()
    };
    for (library, room) in [
        ("sqlx", &["host/store"][..]),
        ("redis", &["host/queue"]),
        ("wasmtime", &["host/engine"]),
        ("reqwest", &["host/egress"]),
    ] {
        assert_eq!(users(library), room, "{library}");
    }
    // The program listens and plays a receiver of webhooks; the API itself is one crate's.
    assert_eq!(users("axum"), ["host/api", "host/cli"]);
    assert_eq!(users("clap"), ["host/cli"]);
    assert_eq!(
        users("anyhow"),
        ["host/cli"],
        "libraries have errors of their own"
    );
    let ours = |room: &str| -> Vec<&str> {
        rooms[room]
            .iter()
            .filter_map(|name| name.strip_prefix("wharf-"))
            .collect()
    };
    assert_eq!(ours("host/domain"), [""; 0]);
    for room in ["host/store", "host/queue", "host/egress"] {
        assert_eq!(ours(room), ["domain"], "{room}");
    }
    assert_eq!(
        ours("host/engine"),
        ["domain", "egress", "failpoint", "pack"]
    );
    assert!(ours("host/pack").is_empty() && ours("host/failpoint").is_empty());
    assert_eq!(
        ours("host/app"),
        ["domain", "egress", "engine", "failpoint", "queue", "store"]
    );
    for io in ["tokio", "serde_json", "reqwest", "tracing"] {
        assert!(
            !rooms["host/domain"].contains(io),
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
    for (at, name) in postgres.iter().enumerate() {
        assert!(
            name.starts_with(&format!("{:04}_", at + 1)),
            "{name} is not number {}",
            at + 1
        );
    }
}

/// Code without what follows its `#[cfg(test)]` module.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
}

#[test]
fn time_is_read_in_one_place() {
    for path in files(&["host"], ".rs") {
        let (name, text) = (shown(&path), read(&path));
        // The second marks a file as used; nothing is decided by that time but what is thrown away first.
        if ["host/domain/src/clock.rs", "host/engine/src/cache.rs"].contains(&&*name)
            || name.contains("/tests")
        {
            continue;
        }
        let code = without_tests(&text)
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"));
        for line in code {
            for reading in [
                "SystemTime::now",
                "Timestamp::now",
                "Zoned::now",
                "Utc::now",
                "UNIX_EPOCH",
                "now_utc",
            ] {
                assert!(!line.contains(reading), "{name} reads the clock: {line}");
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    for path in files(&["host", "plugins", "xtask", "tests", "bench"], ".rs") {
        let lines = read(&path).lines().count();
        assert!(lines <= 500, "{} has {lines} lines", shown(&path));
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

#[test]
fn no_test_sleeps() {
    for path in files(&["tests/tests"], ".rs") {
        let (name, text) = (shown(&path), read(&path));
        assert!(
            name == "tests/tests/tidy.rs" || !text.contains("::sleep("),
            "{name} sleeps instead of waiting for a condition"
        );
    }
}

/// What `wharf serve --help` calls a setting, apart from secrets of the mock's marketplaces.
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
