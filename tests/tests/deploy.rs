//! The unit of systemd and the Compose file: what they promise, as far as it can be checked without running them.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use wharf_tests::{repository, wharf_binary};

fn read(path: &str) -> Result<String> {
    fs::read_to_string(repository().join(path)).with_context(|| path.to_owned())
}

/// The unit with the program under test, which `verify` looks for.
fn unit(folder: &Path) -> Result<std::path::PathBuf> {
    let installed = "ExecStart=/usr/local/bin/wharf serve\n";
    let text = read("deploy/wharf.service")?;
    ensure!(text.contains(installed), "the unit starts something else");
    let here = format!("ExecStart={} serve\n", wharf_binary().display());
    let path = folder.join("wharf.service");
    fs::write(&path, text.replace(installed, &here))?;
    Ok(path)
}

#[test]
fn systemd_takes_the_unit_and_calls_it_safe() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let unit = unit(dir.path())?;
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(&unit).output()
    };
    let verified = match analyze(&["verify", "--man=no", "--recursive-errors=no"]) {
        Ok(output) => output,
        Err(error) => {
            println!("NOT VERIFIED BY SYSTEMD: systemd-analyze: {error}");
            return Ok(());
        }
    };
    // An option that is not known is only a warning.
    let said = String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.success() && said.is_empty(), "{said}");
    // In tenths; a service without any of this has 96.
    let rated = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"])?;
    ensure!(
        rated.status.success(),
        "{}",
        String::from_utf8_lossy(&rated.stdout)
    );
    Ok(())
}

#[test]
fn the_unit_has_only_sections_and_options() -> Result<()> {
    let text = read("deploy/wharf.service")?;
    let mut options = BTreeSet::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let is_section = ["[Unit]", "[Service]", "[Install]"].contains(&line);
        let option = line.split_once('=').map(|(name, _)| name);
        ensure!(
            is_section || option.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphabetic())),
            "{line}"
        );
        options.extend(option);
    }
    for needed in [
        "NoNewPrivileges",
        "CapabilityBoundingSet",
        "ProtectSystem",
        "StateDirectoryMode",
        "UMask",
        "SystemCallFilter",
    ] {
        ensure!(options.contains(needed), "{needed} is missing");
    }
    Ok(())
}

/// The parts of the Compose file that begin with these indented words: each from its head to the next.
fn blocks(text: &str, indent: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_head = line
            .strip_prefix(indent)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
        if is_head {
            blocks.push(String::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

#[test]
fn every_container_is_confined() -> Result<()> {
    let text = read("docker-compose.yml")?;
    let parts = blocks(&text, "");
    let part = |head: &str| {
        let found = parts.iter().find(|part| part.starts_with(head));
        found.with_context(|| head.to_owned())
    };
    let hardened = part("x-hardened: &hardened")?;
    for line in [
        "read_only: true",
        "cap_drop: [ALL]",
        "no-new-privileges:true",
    ] {
        ensure!(hardened.contains(line), "{line} is missing");
    }
    let wharf = part("x-wharf: &wharf")?;
    for line in [
        "<<: *hardened",
        "plugins:/opt/wharf/plugins",
        "data:/var/lib/wharf",
        "MIGRATE: check",
    ] {
        ensure!(wharf.contains(line), "{line} is missing");
    }
    let services = blocks(part("services:")?.trim_start_matches("services:"), "  ");
    ensure!(services.len() == 7, "{services:?}");
    for service in services {
        let is_confined = ["    <<: *wharf\n", "    <<: *hardened\n"]
            .iter()
            .any(|base| service.contains(base));
        ensure!(is_confined && !service.contains("read_only:"), "{service}");
    }
    Ok(())
}

#[test]
fn nothing_starts_without_passwords_and_images_can_be_pinned() -> Result<()> {
    let text = read("docker-compose.yml")?;
    for secret in [
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "WHARF_ENCRYPTION_KEY",
        "WHARF_ADMIN_TOKEN",
    ] {
        let used: Vec<_> = text.split(&format!("${{{secret}")).skip(1).collect();
        ensure!(!used.is_empty(), "{secret} is not used");
        // A default would be known to everybody.
        ensure!(
            used.iter().all(|rest| rest.starts_with(":?")),
            "{secret} has a default"
        );
    }
    let images = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "));
    for image in images.filter(|image| *image != "wharf") {
        ensure!(
            image.starts_with("${") && image.contains("_IMAGE:-"),
            "{image}"
        );
    }
    let dockerfile = read("deploy/Dockerfile")?;
    for from in dockerfile.lines().filter(|line| line.starts_with("FROM ")) {
        ensure!(from.contains("_IMAGE}"), "{from}");
    }
    Ok(())
}

/// A name that the program does not know would be a setting that has no effect.
#[test]
fn the_compose_file_sets_only_settings() -> Result<()> {
    let text = read("docker-compose.yml")?;
    let readme = read("README.md")?;
    let environment = text
        .split("environment: &environment\n")
        .nth(1)
        .context("the environment")?;
    let names = environment
        .lines()
        .take_while(|line| line.starts_with("    "))
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with('#'));
    let mut count = 0;
    for name in names {
        let is_known = readme.contains(&format!("`{name}`"))
            || name.starts_with("MOCK_")
            || name.starts_with("OTEL_");
        ensure!(is_known, "{name} is no setting");
        count += 1;
    }
    ensure!(count > 8, "{count} settings were found");
    Ok(())
}
