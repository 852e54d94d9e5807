//! Every faulty plugin is stopped by the real engine, at its stage and with its reason, and serves nothing.
//! Needs the compiled guests: `cargo xtask plugins --guests`.

use std::{collections::BTreeSet, path::Path};

use faults::{LIMITS, faults};
use wharf_engine::{Engine, EngineSettings, OperationError};

fn compiled(name: &str) -> Vec<u8> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/wasm32-wasip2/plugin");
    let file = built.join(name.replace('-', "_")).with_extension("wasm");
    std::fs::read(&file)
        .unwrap_or_else(|_| panic!("{name} is not built: run `cargo xtask plugins --guests` first"))
}

#[test]
fn names_are_unique() {
    let faults = faults();
    let names: BTreeSet<_> = faults.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), faults.len());
}

#[tokio::test]
async fn every_fault_is_stopped_at_its_stage_with_its_reason() {
    let faults = faults();
    assert!(faults.len() >= 30 && faults.iter().all(|fault| !fault.reason.is_empty()));
    let engine = Engine::start(EngineSettings::in_memory()).expect("an engine");
    let mut wrong = Vec::new();
    for fault in faults {
        match engine
            .upload("faulty", fault.build(compiled), Some(LIMITS), "test")
            .await
        {
            Ok(_) => wrong.push(format!("{}: it was let in", fault.name)),
            Err(OperationError::Refused(refusal)) => {
                let told =
                    refusal.cause.to_lowercase().contains(fault.reason) && !refusal.fix.is_empty();
                if refusal.stage.to_string() != fault.stage.word() || !told {
                    wrong.push(format!(
                        "{} (to be stopped at {:?}): {refusal}",
                        fault.name, fault.stage
                    ));
                }
            }
            Err(other) => wrong.push(format!("{}: {other}", fault.name)),
        }
        let serving = (engine.marketplaces(), engine.shapers());
        assert!(
            serving.0.is_empty() && serving.1.is_empty(),
            "{} serves: {serving:?}",
            fault.name
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
