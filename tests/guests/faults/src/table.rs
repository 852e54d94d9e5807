use crate::{
    Fault,
    Source::{self, Adapter, Bytes, Guest, Shaper, Text, WrongVectors},
    Stage::{self, Compile, Conformance, Describe, Instantiate, Verify},
    world::World,
};

const fn fault(name: &'static str, source: Source, stage: Stage, reason: &'static str) -> Fault {
    Fault {
        name,
        source,
        stage,
        reason,
    }
}

/// A world with something besides the contract.
const fn importing(besides: &'static str, world: &'static str) -> Source {
    Source::World(World {
        besides,
        world,
        ..World::CONTRACT
    })
}

/// The contract with a change.
const fn changed(from: &'static str, to: &'static str) -> Source {
    Source::World(World {
        change: (from, to),
        ..World::CONTRACT
    })
}

/// Every fault, in the order of the stages.
pub const FAULTS: &[Fault] = &[
    // What can be seen before anything is compiled.
    fault("empty-file", Bytes(|_| Vec::new()), Verify, "not a valid"),
    fault(
        "truncated",
        Bytes(|mut etsy| etsy.drain(..etsy.len() / 2).collect()),
        Verify,
        "not a valid",
    ),
    fault(
        "no-component",
        Bytes(|_| wat::parse_str("(module)").expect("a module")),
        Verify,
        "core module",
    ),
    fault(
        "text-file",
        Bytes(|_| b"this is no component\n".repeat(100)),
        Verify,
        "not a valid",
    ),
    fault(
        "too-large",
        Bytes(|etsy| [etsy, vec![0; 33 << 20]].concat()),
        Verify,
        "too many",
    ),
    fault(
        "no-known-world",
        importing(
            "",
            "interface other { run: func(); } world faulty { export other; }",
        ),
        Verify,
        "neither",
    ),
    fault(
        "two-worlds",
        importing("", "world faulty { export adapter; export shaper; }"),
        Verify,
        "more than one",
    ),
    fault(
        "unknown-version",
        changed("wharf:plugin@0.1.0", "wharf:plugin@0.9.0"),
        Verify,
        "version",
    ),
    fault(
        "missing-function",
        changed(
            "validate: func(request: request) -> result<verdict, fault>;",
            "",
        ),
        Verify,
        "validate",
    ),
    fault(
        "reads-files",
        Guest("reads-files"),
        Verify,
        "wasi:filesystem",
    ),
    fault(
        "opens-sockets",
        Guest("opens-sockets"),
        Verify,
        "wasi:sockets",
    ),
    fault(
        "unknown-import",
        importing(
            "package acme:telemetry@1.0.0; interface send { send: func(); }",
            "world faulty { import acme:telemetry/send@1.0.0; export adapter; }",
        ),
        Verify,
        "acme:telemetry",
    ),
    fault(
        "shaper-with-network",
        importing(
            "package wasi:http@0.2.6; interface outgoing-handler { handle: func(); }",
            "world faulty { import wasi:http/outgoing-handler@0.2.6; export shaper; }",
        ),
        Verify,
        "wasi:http",
    ),
    fault(
        "shaper-with-config",
        importing("", "world faulty { import config; export shaper; }"),
        Verify,
        "config",
    ),
    // Compiling it.
    fault(
        "too-many-memories",
        Text(include_str!("../wat/too-many-memories.wat")),
        Compile,
        "memor",
    ),
    // A first instance.
    fault(
        "changed-record",
        changed("    now: string,", "    now: string, region: string,"),
        Instantiate,
        "record",
    ),
    fault(
        "start-traps",
        Text(include_str!("../wat/start-traps.wat")),
        Instantiate,
        "trapped",
    ),
    fault(
        "start-spins",
        Text(include_str!("../wat/start-spins.wat")),
        Instantiate,
        "processor",
    ),
    fault(
        "start-takes-memory",
        Text(include_str!("../wat/start-takes-memory.wat")),
        Instantiate,
        "memory",
    ),
    // What it says about itself.
    fault(
        "describe-traps",
        Adapter("describe trap"),
        Describe,
        "trapped",
    ),
    fault(
        "describe-spins",
        Adapter("describe spin"),
        Describe,
        "processor",
    ),
    fault(
        "describe-takes-memory",
        Adapter("describe alloc"),
        Describe,
        "memory",
    ),
    fault(
        "describe-too-large",
        Adapter("describe giant"),
        Describe,
        "output",
    ),
    fault(
        "name-empty",
        Adapter("describe name:"),
        Describe,
        "marketplace",
    ),
    fault(
        "name-upper-case",
        Adapter("describe name:Etsy"),
        Describe,
        "marketplace",
    ),
    fault(
        "name-is-a-path",
        Adapter("describe name:../etsy"),
        Describe,
        "marketplace",
    ),
    fault(
        "name-too-long",
        Adapter("describe name:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        Describe,
        "marketplace",
    ),
    fault(
        "display-name-empty",
        Adapter("describe display:"),
        Describe,
        "display-name",
    ),
    fault(
        "version-no-version",
        Adapter("describe version:latest"),
        Describe,
        "version",
    ),
    fault(
        "origin-of-another-scheme",
        Adapter("describe origin:ftp://example.com"),
        Describe,
        "origin",
    ),
    fault(
        "origin-with-credentials",
        Adapter("describe origin:https://a:b@example.com"),
        Describe,
        "origin",
    ),
    fault(
        "too-many-origins",
        Adapter("describe many-origins"),
        Describe,
        "entries",
    ),
    fault(
        "key-with-blanks",
        Adapter("describe key:base url"),
        Describe,
        "key",
    ),
    fault(
        "shaper-name-upper-case",
        Shaper("describe name:Standard"),
        Describe,
        "name",
    ),
    fault(
        "shaper-describe-traps",
        Shaper("describe trap"),
        Describe,
        "trapped",
    ),
    fault(
        "shaper-describe-spins",
        Shaper("describe spin"),
        Describe,
        "processor",
    ),
    // How it answers.
    fault(
        "manifest-changes",
        Adapter("describe random"),
        Conformance,
        "manifest",
    ),
    fault(
        "amount-negative",
        Adapter("always amount:-1.00"),
        Conformance,
        "amount",
    ),
    fault(
        "amount-with-exponent",
        Adapter("always amount:1e3"),
        Conformance,
        "amount",
    ),
    fault(
        "amount-with-seven-places",
        Adapter("always amount:1.0000001"),
        Conformance,
        "amount",
    ),
    fault(
        "amount-with-comma",
        Adapter("always amount:1,50"),
        Conformance,
        "amount",
    ),
    fault(
        "currency-lower-case",
        Adapter("always currency:usd"),
        Conformance,
        "currency",
    ),
    fault(
        "currency-of-two",
        Adapter("always currency:US"),
        Conformance,
        "currency",
    ),
    fault("id-empty", Adapter("always id:"), Conformance, "id"),
    fault("id-with-nul", Adapter("always nul-id"), Conformance, "id"),
    fault("id-too-long", Adapter("always long-id"), Conformance, "id"),
    fault(
        "time-nonsense",
        Adapter("always time:yesterday"),
        Conformance,
        "imported-at",
    ),
    fault(
        "verdict-random",
        Adapter("always random"),
        Conformance,
        "same",
    ),
    fault(
        "verdict-by-the-clock",
        Adapter("always clock"),
        Conformance,
        "same",
    ),
    fault(
        "text-broken",
        Adapter("always broken-text"),
        Conformance,
        "utf-8",
    ),
    fault(
        "traps-on-empty",
        Adapter("empty trap"),
        Conformance,
        "trapped",
    ),
    fault(
        "traps-on-long",
        Adapter("long trap"),
        Conformance,
        "trapped",
    ),
    fault(
        "traps-on-unicode",
        Adapter("unicode trap"),
        Conformance,
        "trapped",
    ),
    fault(
        "traps-on-control",
        Adapter("control trap"),
        Conformance,
        "trapped",
    ),
    fault(
        "traps-on-digits",
        Adapter("digits trap"),
        Conformance,
        "trapped",
    ),
    fault(
        "exits-on-digits",
        Adapter("digits exit"),
        Conformance,
        "trapped",
    ),
    fault(
        "recurses-on-long",
        Adapter("long recurse"),
        Conformance,
        "out of bounds",
    ),
    fault(
        "recurses-without-memory",
        Text(include_str!("../wat/recurses.wat")),
        Conformance,
        "stack",
    ),
    fault(
        "spins-on-digits",
        Adapter("digits spin"),
        Conformance,
        "processor",
    ),
    fault(
        "sleeps-on-control",
        Adapter("control sleep-in-host-call"),
        Conformance,
        "time",
    ),
    fault(
        "takes-memory-on-long",
        Adapter("long alloc"),
        Conformance,
        "memory",
    ),
    fault(
        "leaks-handles-on-unicode",
        Adapter("unicode leak-handles"),
        Conformance,
        "trapped",
    ),
    fault(
        "huge-output-on-unicode",
        Adapter("unicode giant-output"),
        Conformance,
        "output",
    ),
    fault(
        "grows-memories-together",
        Text(include_str!("../wat/many-memories.wat")),
        Conformance,
        "memory",
    ),
    fault(
        "grows-tables",
        Text(include_str!("../wat/grows-tables.wat")),
        Conformance,
        "memory",
    ),
    fault("vectors-do-not-match", WrongVectors, Conformance, "vector"),
    fault(
        "shaper-traps",
        Shaper("always trap"),
        Conformance,
        "trapped",
    ),
    fault(
        "shaper-traps-on-unicode",
        Shaper("unicode trap"),
        Conformance,
        "trapped",
    ),
    fault(
        "shaper-spins",
        Shaper("always spin"),
        Conformance,
        "processor",
    ),
    fault(
        "shaper-takes-memory",
        Shaper("always alloc"),
        Conformance,
        "memory",
    ),
    fault(
        "shaper-body-too-large",
        Shaper("always giant-output"),
        Conformance,
        "output",
    ),
    fault(
        "shaper-content-type-broken",
        Shaper("always content-type:json"),
        Conformance,
        "content type",
    ),
    fault(
        "shaper-injects-headers",
        Shaper("always header-injection"),
        Conformance,
        "header",
    ),
    fault(
        "shaper-takes-hosts-header",
        Shaper("always header:webhook-signature=v1,forged"),
        Conformance,
        "header",
    ),
    fault(
        "shaper-too-many-headers",
        Shaper("always many-headers"),
        Conformance,
        "headers",
    ),
];
