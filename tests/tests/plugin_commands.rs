//! The commands of `wharf plugin`, as authors and operators use them: over files, and over a running host.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wharf_tests::{
    Answer, Backend, Host, PATIENCE, Site, built_plugin, eventually, guest, on_every_backend,
};

/// A terminal of somebody who operates a host.
struct Terminal<'a> {
    host: &'a Host,
}

impl Terminal<'_> {
    /// Runs `wharf plugin` with these words; returns its exit code and all that it printed.
    async fn run(&self, words: &[&str]) -> Result<(i32, String)> {
        let words = [&["plugin"], words].concat();
        let command = self
            .host
            .site()
            .host()
            .command(&words)
            .env("BASE_URL", self.host.base_url());
        let (status, printed) = command.run().await?;
        Ok((status.code().context("an exit code")?, printed))
    }

    /// The same where it must go well.
    async fn text(&self, words: &[&str]) -> Result<String> {
        let (code, printed) = self.run(words).await?;
        ensure!(
            code == 0,
            "wharf plugin {} ended with {code}:\n{printed}",
            words.join(" ")
        );
        Ok(printed)
    }

    /// The same for programs.
    async fn json(&self, words: &[&str]) -> Result<Value> {
        let printed = self.text(&[words, &["--json"]].concat()).await?;
        serde_json::from_str(&printed).with_context(|| printed)
    }
}

fn path(file: PathBuf) -> String {
    file.display().to_string()
}

async fn an_operator_swaps_and_puts_aside(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let terminal = Terminal { host: &host };
    let listed = terminal.text(&["list", "--url", host.base_url()]).await?;
    for word in [
        "PLUGIN",
        "SERVES",
        "DIGEST",
        "STATE",
        "etsy",
        "standard-payload",
        "active",
    ] {
        assert!(listed.contains(word), "{listed}");
    }
    let first = terminal.json(&["inspect", "etsy"]).await?["digest"]
        .as_str()
        .context("a digest")?
        .to_owned();

    let other = host.site().dir().join("etsy.wasm");
    fs::write(
        &other,
        [fs::read(built_plugin("etsy"))?, vec![0, 3, 1, b'n', 1]].concat(),
    )?;
    let pushed = terminal.json(&["push", &path(other)]).await?;
    let second = pushed["digest"].as_str().context("a digest")?.to_owned();
    assert!(second != first && pushed["state"] == "active", "{pushed}");
    assert!(
        terminal
            .text(&["rollback", "etsy"])
            .await?
            .contains(&first[..12])
    );
    assert!(
        terminal
            .text(&["activate", "etsy", &second[..8]])
            .await?
            .contains(&second[..12])
    );
    assert_eq!(
        terminal
            .text(&["disable", "etsy", "--reason", "it moves"])
            .await?
            .lines()
            .next(),
        Some("etsy: disabled: it moves")
    );
    assert!(
        terminal
            .text(&["enable", "etsy"])
            .await?
            .starts_with("etsy: active")
    );
    assert!(
        terminal
            .text(&["quarantine", "etsy", &second[..8], "--reason", "odd"])
            .await?
            .contains(&first[..12])
    );
    let (code, refused) = terminal.run(&["activate", "etsy", &second[..8]]).await?;
    assert!(code == 1 && refused.contains("quarantined"), "{refused}");
    terminal.text(&["release", "etsy", &second[..8]]).await?;

    let shown = terminal.text(&["inspect", "etsy"]).await?;
    for word in [
        "wharf:plugin/adapter@0.1.0",
        "wasi:io/streams@0.2.",
        "REASON",
        "memory_bytes",
        "answered",
        "retained",
        "it moves",
        "odd",
    ] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
    wrong_wishes_are_answered_with_what_to_do(&terminal).await
}

async fn wrong_wishes_are_answered_with_what_to_do(terminal: &Terminal<'_>) -> Result<()> {
    let (code, refused) = terminal.run(&["push", &path(guest("reads-files"))]).await?;
    assert!(code == 1, "{refused}");
    for word in ["stage: verify", "wasi:filesystem", "offer: ", "fix: "] {
        assert!(refused.contains(word), "{word} is not in\n{refused}");
    }
    for (words, told) in [
        (&["rollback", "ebay"][..], "Plugin not found"),
        (&["activate", "etsy", "0123456789"], "knows no revision"),
        (&["rollback", "amazon"], "Revision not found"),
        (&["inspect", "ebay"], "Plugin not found"),
    ] {
        let (code, refused) = terminal.run(words).await?;
        assert!(code == 1 && refused.contains(told), "{words:?}: {refused}");
    }
    let nobody = ["list", "--url", "http://127.0.0.1:1"];
    let (code, refused) = terminal.run(&nobody).await?;
    assert!(
        code == 1 && refused.contains("is `wharf serve` running there?"),
        "{refused}"
    );
    let site = terminal.host.site();
    let stranger = site
        .host()
        .command(&["plugin", "list", "--url", terminal.host.base_url()]);
    let (status, refused) = stranger
        .env("WHARF_ADMIN_TOKEN", "another-token-altogether")
        .run()
        .await?;
    assert!(!status.success() && refused.contains("401"), "{refused}");
    Ok(())
}

async fn an_author_works_on_files(backend: Backend) -> Result<()> {
    let host = Host::start(backend).await?;
    let terminal = Terminal { host: &host };
    let (etsy, faulty) = (path(built_plugin("etsy")), path(guest("reads-files")));
    assert!(terminal.text(&["check", &etsy]).await?.contains("passed"));
    let (code, told) = terminal.run(&["check", &etsy, &faulty, "--json"]).await?;
    assert_eq!(code, 1);
    let reports: Value = serde_json::Deserializer::from_str(&told)
        .into_iter()
        .next()
        .context("JSON first")??;
    assert_eq!(
        (&reports[0]["passed"], &reports[1]["passed"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(reports[1]["report"]["refusal"]["stage"], "verify");
    assert_eq!(terminal.run(&["check", "no-such-file.wasm"]).await?.0, 2);

    assert!(
        terminal
            .text(&["run", &etsy, "--receipt", "order-102"])
            .await?
            .contains("rejected")
    );
    assert_eq!(
        terminal.json(&["run", &etsy]).await?["accepted"]["currency"],
        "USD"
    );
    let costs = terminal.json(&["bench", &etsy]).await?;
    assert!(
        costs["fuel"]["median"].as_u64() > Some(0) && costs["peak_memory_bytes"].as_u64() > Some(0),
        "{costs}"
    );
    let table = terminal.text(&["bench", &etsy]).await?;
    assert!(
        ["fuel", "time (us)", "memory (KiB)", "LIMIT"]
            .iter()
            .all(|word| table.contains(word)),
        "{table}"
    );
    let file = terminal.text(&["inspect", &etsy]).await?;
    assert!(
        file.contains("conformant") && file.contains("wharf:plugin/adapter@0.1.0"),
        "{file}"
    );
    let folder = path(host.site().plugins_dir());
    assert!(
        terminal
            .text(&["list", "--plugins-dir", &folder])
            .await?
            .contains("cloudevents")
    );
    for command in [
        "new",
        "dev",
        "check",
        "run",
        "record",
        "bench",
        "inspect",
        "pack",
        "list",
        "push",
        "activate",
        "rollback",
        "disable",
        "enable",
        "quarantine",
        "release",
    ] {
        let help = terminal.text(&[command, "--help"]).await?;
        assert!(help.contains("Example"), "{command} shows no example");
        assert!(
            help.contains(&format!("wharf plugin {command}")),
            "{command}"
        );
    }
    Ok(())
}

#[test]
fn the_admin_token_is_printed_once() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Embedded).await?;
        let start = || {
            site.host()
                .without_env("WHARF_ADMIN_TOKEN")
                .env("LOG_FORMAT", "pretty")
                .spawn()
        };
        let up = |host: &Host| host.logged().contains("wharf is listening on");
        let mut host = start()?;
        eventually("the host is up", 3 * PATIENCE, || async {
            up(&host).then_some(())
        })
        .await?;
        let token = fs::read_to_string(site.data_dir().join("admin-token"))?
            .trim()
            .to_owned();
        assert_eq!(host.logged().matches(&token).count(), 1, "printed once");
        assert!(host.stop().await?.success());
        let again = start()?;
        eventually("the host is up again", 3 * PATIENCE, || async {
            up(&again).then_some(())
        })
        .await?;
        assert!(!again.logged().contains(&token), "and never again");
        Ok(())
    })
}

/// In production the token is a setting, and without it there is no admin API.
#[test]
fn in_production_the_token_is_a_setting() -> Result<()> {
    wharf_tests::run(async {
        let site = Site::open(Backend::Postgres).await?;
        let host = site.host().without_env("WHARF_ADMIN_TOKEN").start().await?;
        let answer = Answer::to(host.admin().request("GET", "")).await?;
        assert_eq!(
            (answer.status, answer.get("error")),
            (404, json!("Admin API disabled"))
        );
        let host = site.host().start().await?;
        assert_eq!(
            Answer::to(host.admin().request("GET", "")).await?.status,
            200
        );
        assert_eq!(
            Answer::to(host.request("GET", "/admin/plugins"))
                .await?
                .status,
            401
        );
        let wrong = site
            .host()
            .env("WHARF_ADMIN_TOKEN", "short")
            .start()
            .await
            .expect_err("it can be guessed");
        assert!(wrong.to_string().contains("WHARF_ADMIN_TOKEN"), "{wrong}");
        Ok(())
    })
}

on_every_backend!(an_operator_swaps_and_puts_aside, an_author_works_on_files);
