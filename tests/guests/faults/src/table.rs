//! Every fault, by the stage that must stop it and by what it is made from.

use crate::{
    Fault,
    Source::{self, Adapter, Bytes, Guest, Shaper, Text, WrongVectors},
    Stage::{self, Compile, Conformance, Describe, Instantiate, Verify},
    world::World,
};

/// Every fault, in the order of the stages.
pub fn faults() -> Vec<Fault> {
    [
        made_from(Verify, VERIFY),
        made_from(Compile, COMPILE),
        made_from(Instantiate, INSTANTIATE),
        stamped_on(Describe, Adapter, DESCRIBE_ADAPTER),
        stamped_on(Describe, Shaper, DESCRIBE_SHAPER),
        stamped_on(Conformance, Adapter, CONFORMANCE_ADAPTER),
        made_from(Conformance, CONFORMANCE),
        stamped_on(Conformance, Shaper, CONFORMANCE_SHAPER),
    ]
    .concat()
}

/// Name, source, and a part of the reason.
type Made = (&'static str, Source, &'static str);
/// Name, stamp, and a part of the reason.
type Stamped = (&'static str, &'static str, &'static str);

fn made_from(stage: Stage, faults: &[Made]) -> Vec<Fault> {
    let fault = |&(name, source, reason): &Made| Fault {
        name,
        source,
        stage,
        reason,
    };
    faults.iter().map(fault).collect()
}

fn stamped_on(stage: Stage, guest: fn(&'static str) -> Source, faults: &[Stamped]) -> Vec<Fault> {
    let made = faults
        .iter()
        .map(|&(name, stamp, reason)| (name, guest(stamp), reason));
    made_from(stage, &made.collect::<Vec<_>>())
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

/// Seen before anything is compiled.
const VERIFY: &[Made] = &[
    ("empty-file", Bytes(|_| Vec::new()), "not a valid"),
    (
        "truncated",
        Bytes(|mut etsy| etsy.drain(..etsy.len() / 2).collect()),
        "not a valid",
    ),
    (
        "no-component",
        Bytes(|_| wat::parse_str("(module)").expect("a module")),
        "core module",
    ),
    (
        "text-file",
        Bytes(|_| b"this is no component\n".repeat(100)),
        "not a valid",
    ),
    (
        "too-large",
        Bytes(|etsy| [etsy, vec![0; 33 << 20]].concat()),
        "too many",
    ),
    (
        "no-known-world",
        importing(
            "",
            "interface other { run: func(); } world faulty { export other; }",
        ),
        "neither",
    ),
    (
        "two-worlds",
        importing("", "world faulty { export adapter; export shaper; }"),
        "more than one",
    ),
    (
        "unknown-version",
        changed("wharf:plugin@0.1.0", "wharf:plugin@0.9.0"),
        "version",
    ),
    (
        "missing-function",
        changed(
            "validate: func(request: request) -> result<verdict, fault>;",
            "",
        ),
        "validate",
    ),
    ("reads-files", Guest("reads-files"), "wasi:filesystem"),
    ("opens-sockets", Guest("opens-sockets"), "wasi:sockets"),
    (
        "unknown-import",
        importing(
            "package acme:telemetry@1.0.0; interface send { send: func(); }",
            "world faulty { import acme:telemetry/send@1.0.0; export adapter; }",
        ),
        "acme:telemetry",
    ),
    (
        "shaper-with-network",
        importing(
            "package wasi:http@0.2.6; interface outgoing-handler { handle: func(); }",
            "world faulty { import wasi:http/outgoing-handler@0.2.6; export shaper; }",
        ),
        "wasi:http",
    ),
    (
        "shaper-with-config",
        importing("", "world faulty { import config; export shaper; }"),
        "config",
    ),
];

const COMPILE: &[Made] = &[(
    "too-many-memories",
    Text(include_str!("../wat/too-many-memories.wat")),
    "memor",
)];

/// Seen at the first instance.
const INSTANTIATE: &[Made] = &[
    (
        "changed-record",
        changed("    now: string,", "    now: string, region: string,"),
        "record",
    ),
    (
        "start-traps",
        Text(include_str!("../wat/start-traps.wat")),
        "trapped",
    ),
    (
        "start-spins",
        Text(include_str!("../wat/start-spins.wat")),
        "processor",
    ),
    (
        "start-takes-memory",
        Text(include_str!("../wat/start-takes-memory.wat")),
        "memory",
    ),
];

/// Wrong descriptions of themselves.
const DESCRIBE_ADAPTER: &[Stamped] = &[
    ("describe-traps", "describe trap", "trapped"),
    ("describe-spins", "describe spin", "processor"),
    ("describe-takes-memory", "describe alloc", "memory"),
    ("describe-too-large", "describe giant", "output"),
    ("name-empty", "describe name:", "marketplace"),
    ("name-upper-case", "describe name:Etsy", "marketplace"),
    ("name-is-a-path", "describe name:../etsy", "marketplace"),
    (
        "name-too-long",
        "describe name:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "marketplace",
    ),
    ("display-name-empty", "describe display:", "display-name"),
    ("version-no-version", "describe version:latest", "version"),
    (
        "origin-of-another-scheme",
        "describe origin:ftp://example.com",
        "origin",
    ),
    (
        "origin-with-credentials",
        "describe origin:https://a:b@example.com",
        "origin",
    ),
    ("too-many-origins", "describe many-origins", "entries"),
    ("key-with-blanks", "describe key:base url", "key"),
];

const DESCRIBE_SHAPER: &[Stamped] = &[
    ("shaper-name-upper-case", "describe name:Standard", "name"),
    ("shaper-describe-traps", "describe trap", "trapped"),
    ("shaper-describe-spins", "describe spin", "processor"),
];

/// Wrong answers: the stamp says to which question.
const CONFORMANCE_ADAPTER: &[Stamped] = &[
    ("manifest-changes", "describe random", "manifest"),
    ("amount-negative", "always amount:-1.00", "amount"),
    ("amount-with-exponent", "always amount:1e3", "amount"),
    (
        "amount-with-seven-places",
        "always amount:1.0000001",
        "amount",
    ),
    ("amount-with-comma", "always amount:1,50", "amount"),
    ("currency-lower-case", "always currency:usd", "currency"),
    ("currency-of-two", "always currency:US", "currency"),
    ("id-empty", "always id:", "id"),
    ("id-with-nul", "always nul-id", "id"),
    ("id-too-long", "always long-id", "id"),
    ("time-nonsense", "always time:yesterday", "imported-at"),
    ("verdict-random", "always random", "same"),
    ("verdict-by-the-clock", "always clock", "same"),
    ("text-broken", "always broken-text", "utf-8"),
    ("traps-on-empty", "empty trap", "trapped"),
    ("traps-on-long", "long trap", "trapped"),
    ("traps-on-unicode", "unicode trap", "trapped"),
    ("traps-on-control", "control trap", "trapped"),
    ("traps-on-digits", "digits trap", "trapped"),
    ("exits-on-digits", "digits exit", "trapped"),
    ("recurses-on-long", "long recurse", "out of bounds"),
    ("spins-on-digits", "digits spin", "processor"),
    ("sleeps-on-control", "control sleep-in-host-call", "time"),
    ("takes-memory-on-long", "long alloc", "memory"),
    (
        "leaks-handles-on-unicode",
        "unicode leak-handles",
        "trapped",
    ),
    ("huge-output-on-unicode", "unicode giant-output", "output"),
];

const CONFORMANCE: &[Made] = &[
    (
        "recurses-without-memory",
        Text(include_str!("../wat/recurses.wat")),
        "stack",
    ),
    (
        "grows-memories-together",
        Text(include_str!("../wat/many-memories.wat")),
        "memory",
    ),
    (
        "grows-tables",
        Text(include_str!("../wat/grows-tables.wat")),
        "memory",
    ),
    ("vectors-do-not-match", WrongVectors, "vector"),
];

const CONFORMANCE_SHAPER: &[Stamped] = &[
    ("shaper-traps", "always trap", "trapped"),
    ("shaper-traps-on-unicode", "unicode trap", "trapped"),
    ("shaper-spins", "always spin", "processor"),
    ("shaper-takes-memory", "always alloc", "memory"),
    ("shaper-body-too-large", "always giant-output", "output"),
    (
        "shaper-content-type-broken",
        "always content-type:json",
        "content type",
    ),
    (
        "shaper-injects-headers",
        "always header-injection",
        "header",
    ),
    (
        "shaper-takes-hosts-header",
        "always header:webhook-signature=v1,forged",
        "header",
    ),
    ("shaper-too-many-headers", "always many-headers", "headers"),
];
