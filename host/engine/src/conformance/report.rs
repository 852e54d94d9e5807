use std::fmt;

use serde::Serialize;

/// What every plugin must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// It says the same of itself each time.
    SameManifest,
    /// It answers everything within its limits and the contract.
    Answers,
    /// The same input gives the same answer.
    SameAnswer,
    /// What its marketplace would not say becomes the right fault.
    Upstream,
    /// It answers its author's vectors as written.
    Vectors,
}

impl Law {
    pub(crate) const ALL: [Self; 5] = [
        Self::SameManifest,
        Self::Answers,
        Self::SameAnswer,
        Self::Upstream,
        Self::Vectors,
    ];
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameManifest => "describes itself the same way each time, by its manifest",
            Self::Answers => "answers everything within its limits and the contract",
            Self::SameAnswer => "gives the same answer to the same input",
            Self::Upstream => "tells the right fault when its marketplace fails",
            Self::Vectors => "answers every vector as written",
        })
    }
}

/// One law, tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LawReport {
    /// Which.
    pub law: Law,
    /// How many cases were tried. None: the law has nothing to say about this plugin.
    pub cases: usize,
    /// Those that broke it.
    pub failures: Vec<Failure>,
}

/// A case that broke a law.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Which case: a vector's name, or the input.
    pub case: String,
    /// What happened.
    pub cause: String,
}

/// All laws, tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conformance {
    /// In their order, to the last that was tried.
    pub laws: Vec<LawReport>,
}

impl Conformance {
    /// Whether every law was kept.
    pub fn passed(&self) -> bool {
        self.first_failure().is_none()
    }

    pub(crate) fn first_failure(&self) -> Option<(Law, &Failure)> {
        self.laws
            .iter()
            .find_map(|report| Some((report.law, report.failures.first()?)))
    }
}

impl fmt::Display for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for LawReport {
            law,
            cases,
            failures,
        } in &self.laws
        {
            let mark = match (failures.is_empty(), cases) {
                (true, 0) => "-",
                (true, _) => "ok",
                (false, _) => "FAILED",
            };
            writeln!(f, "{mark:>6}  {law} ({cases} cases)")?;
            for Failure { case, cause } in failures {
                writeln!(f, "        {case}: {cause}")?;
            }
        }
        Ok(())
    }
}
