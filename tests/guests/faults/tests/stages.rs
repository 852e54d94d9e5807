//! Every fault that shows before conformance is stopped by the real engine, at its stage and with its reason.
//! Needs the compiled guests: `cargo xtask plugins --guests`.

use std::{collections::BTreeSet, path::Path};

use faults::{FAULTS, Stage};
use wharf_engine::{Engine, EngineSettings};

fn compiled(name: &str) -> Vec<u8> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/wasm32-wasip2/plugin");
    let file = built.join(name.replace('-', "_")).with_extension("wasm");
    std::fs::read(&file).unwrap_or_else(|_| panic!("{name} is not built: run `cargo xtask plugins --guests` first"))
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = FAULTS.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), FAULTS.len());
}

#[tokio::test]
async fn what_shows_before_conformance_is_stopped_at_its_stage() {
    let engine = Engine::start(EngineSettings::in_memory()).expect("an engine");
    let mut wrong = Vec::new();
    for fault in FAULTS {
        let outcome = engine.load("faulty", fault.build(compiled)).await;
        match outcome {
            Err(refusal) => {
                let stage = format!("{:?}", refusal.stage);
                let told = refusal.cause.to_lowercase().contains(fault.reason);
                if !format!("{:?}", fault.stage).starts_with(&stage) || !told {
                    wrong.push(format!("{}: {refusal}", fault.name));
                }
            }
            Ok(_) if fault.stage == Stage::Conformance => {}
            Ok(_) => wrong.push(format!("{}: was let in", fault.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
