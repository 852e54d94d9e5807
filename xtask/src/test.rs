//! `cargo xtask test`: all that the suites need, then the suites.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use crate::{
    browser, examples, packages,
    plugins::{self, Guests},
    process::{exit_code, run as run_command, run_ok},
    progress::{heading, section},
    python,
    servers::{Durability, Servers},
    workspace::{cargo, metadata},
};

/// With these two selected beside any other, Cargo chooses the same features as for `cargo build`: they use all that the
/// others use. With fewer it would compile tokio, and with it wasmtime, anew for each package that is tested alone.
const GRAPH: [&str; 2] = ["wharf", "wharf-tests"];

/// Runs `cargo test` with these arguments and returns its code. Without any: every suite, those of the plugins too, and the
/// examples in other languages.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    plugins::build(Guests::Built)?;
    section("Building the host", || run_ok(cargo().arg("build")))?;
    for (tool, suite) in [
        ("schemathesis", "schemathesis"),
        ("receivers", "signatures"),
    ] {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == suite) {
            python::install_loudly(tool, &format!("tests/{tool}/requirements.txt"));
        }
    }
    if arguments.is_empty() || arguments.iter().any(|argument| argument == "browser") {
        browser::install_loudly();
    }
    let servers = Servers::start(Durability::Skipped)?;
    heading("Running the suites");
    let mut command = cargo();
    command.arg("test");
    if arguments.is_empty() {
        // Everything that is broken, in one run.
        packages::select_native(command.arg("--no-fail-fast"))?;
    }
    servers.name_for_tests(command.args(in_one_graph(arguments, &metadata()?)));
    let status = run_command(&mut command)?;
    if status.success() && arguments.is_empty() {
        examples::run()
    } else {
        Ok(exit_code(status))
    }
}

/// Has a package that is named by `-p` tested in the dependency graph of the whole workspace: `GRAPH` is selected too, and
/// the targets are named so that its suites stay out.
fn in_one_graph(arguments: &[String], metadata: &Value) -> Vec<String> {
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    let named: Vec<&str> = pairs
        .filter(|(flag, _)| ["-p", "--package"].contains(&flag.as_str()))
        .map(|(_, name)| name.as_str())
        .collect();
    if named.is_empty() {
        return arguments.to_vec();
    }
    let mut added: Vec<String> = GRAPH
        .iter()
        .filter(|package| !named.contains(*package))
        .flat_map(|package| ["-p".to_owned(), (*package).to_owned()])
        .collect();
    let is_target = |argument: &String| {
        [
            "--lib",
            "--bin",
            "--test",
            "--doc",
            "--all-targets",
            "--example",
        ]
        .iter()
        .any(|flag| argument.starts_with(flag))
    };
    if !arguments.iter().any(is_target) {
        added.extend(targets(&named, metadata));
    }
    // In front: what follows `--` is for the tests.
    added.into_iter().chain(arguments.iter().cloned()).collect()
}

/// The flags that select every test of these packages.
fn targets(packages: &[&str], metadata: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut flags = Vec::new();
    for package in list(&metadata["packages"]) {
        if !packages.iter().any(|name| package["name"] == *name) {
            continue;
        }
        for target in list(&package["targets"]) {
            let name = target["name"].as_str().unwrap_or_default().to_owned();
            match target["kind"][0].as_str() {
                Some("lib") => flags.push("--lib".to_owned()),
                Some("bin") => flags.extend(["--bin".to_owned(), name]),
                Some("test") => flags.extend(["--test".to_owned(), name]),
                _ => {}
            }
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(line: &str) -> String {
        let metadata = json!({"packages": [
            {"name": "wharf-store", "targets": [{"name": "wharf_store", "kind": ["lib"]}, {"name": "suite", "kind": ["test"]}]},
            {"name": "wharf", "targets": [{"name": "wharf", "kind": ["bin"]}]},
        ]});
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        in_one_graph(&words, &metadata).join(" ")
    }

    #[test]
    fn a_package_is_tested_in_the_graph_of_all() {
        for (given, passed_on) in [
            (
                "-p wharf-store claim",
                "-p wharf -p wharf-tests --lib --test suite -p wharf-store claim",
            ),
            (
                "-p wharf-store --test suite -- --nocapture",
                "-p wharf -p wharf-tests -p wharf-store --test suite -- --nocapture",
            ),
            ("-p wharf", "-p wharf-tests --bin wharf -p wharf"),
            ("--test orders", "--test orders"),
        ] {
            assert_eq!(arguments(given), passed_on);
        }
    }
}
