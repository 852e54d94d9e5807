//! `cargo xtask examples`: the adapters in other languages, built with their languages' own tools from npm and PyPI, and
//! put through the conformance that every plugin must pass. What cannot be installed here is left out, loudly.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use console::style;
use serde_json::Value;

use crate::{
    install,
    process::{run as run_command, run_ok},
    progress::{note, section},
    workspace::{cargo, find_program, root, target_dir},
};

/// A folder of `examples/`: `install.sh` brings the tools, `build.sh` leaves `<name>.wasm` beside itself.
struct Example {
    name: &'static str,
    /// Programs that `install.sh` runs.
    programs: &'static [&'static str],
    /// The Debian packages that bring them.
    packages: &'static [&'static str],
}

const EXAMPLES: [Example; 2] = [
    Example {
        name: "javascript",
        programs: &["node", "npm"],
        packages: &["nodejs", "npm"],
    },
    Example {
        name: "python",
        programs: &["python3"],
        packages: &["python3", "python3-venv"],
    },
];

/// A debug build of the host takes its time to compile an interpreter of 18 MB.
const COMPILE_LIMIT: &str = "10m";

/// Builds and checks every example whose tools can be installed.
pub(crate) fn run() -> Result<ExitCode> {
    section("Building wharf", || {
        run_ok(cargo().args(["build", "--bin", "wharf"]))
    })?;
    let mut packed = Vec::new();
    for example in &EXAMPLES {
        match section(&format!("The tools of examples/{}", example.name), || {
            example.install()
        }) {
            Ok(()) => packed.push(section(
                &format!("Building examples/{}", example.name),
                || example.build(),
            )?),
            Err(why) => {
                let said = format!("examples/{} WAS NOT CHECKED: {why:#}", example.name);
                eprintln!("{}", style(said).yellow().bold().for_stderr());
            }
        }
    }
    if !packed.is_empty() {
        section("Checking the examples", || check(&packed))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Example {
    fn dir(&self) -> PathBuf {
        root().join("examples").join(self.name)
    }

    fn script(&self, script: &str) -> Command {
        let mut command = Command::new(self.dir().join(script));
        command.stdin(Stdio::null());
        command
    }

    fn install(&self) -> Result<()> {
        if self
            .programs
            .iter()
            .any(|program| find_program(program).is_none())
        {
            install::packages(self.packages)?;
        }
        let status = run_command(&mut self.script("install.sh"))?;
        ensure!(
            status.success(),
            "its tools could not be installed (examples/{}/install.sh)",
            self.name
        );
        Ok(())
    }

    /// Builds the component and packs its vectors into it, as its author would.
    fn build(&self) -> Result<PathBuf> {
        run_ok(&mut self.script("build.sh"))?;
        let packed = target_dir()?
            .join("examples")
            .join(format!("{}.wasm", self.name));
        fs::create_dir_all(packed.parent().context("a file in a folder")?)?;
        let mut pack = wharf()?;
        pack.args([
            "plugin",
            "pack",
            &format!("{}.wasm", self.name),
            "--package-version",
            "0.1.0",
            "--out",
        ]);
        run_ok(pack.arg(&packed).current_dir(self.dir()))?;
        Ok(packed)
    }
}

fn wharf() -> Result<Command> {
    Ok(Command::new(target_dir()?.join("debug/wharf")))
}

/// Every law and every vector, as `wharf plugin check --json` tells it.
fn check(components: &[PathBuf]) -> Result<()> {
    let mut command = wharf()?;
    command
        .args(["plugin", "check", "--json"])
        .args(components)
        .env("PLUGIN_COMPILE_LIMIT", COMPILE_LIMIT);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("wharf cannot be run")?;
    let reports: Vec<Value> =
        serde_json::from_slice(&output.stdout).context("wharf plugin check --json")?;
    ensure!(
        reports.len() == components.len(),
        "{} of {} were checked",
        reports.len(),
        components.len()
    );
    for report in &reports {
        let laws = report["report"]["conformance"]["laws"]
            .as_array()
            .context("a report lists the laws")?;
        let cases = |law: &Value| law["cases"].as_u64().unwrap_or_default();
        let vectors = laws
            .iter()
            .find(|law| law["law"] == "vectors")
            .map_or(0, cases);
        note(&format!(
            "{}: {} cases, {vectors} of them vectors",
            report["file"],
            laws.iter().map(cases).sum::<u64>()
        ));
        if report["passed"] != true || vectors == 0 {
            bail!(
                "{} is not fit to serve: {:#}",
                report["file"],
                report["report"]
            );
        }
    }
    Ok(())
}
