//! The contract checks by name, and their results.

use std::fmt;

use serde::Serialize;

/// A rule of the contract that every plugin is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContractCheck {
    /// It describes itself the same way each time.
    SameManifest,
    /// It answers everything within its limits and the contract.
    Answers,
    /// The same input gives the same answer.
    SameAnswer,
    /// It answers a failing marketplace with the right fault.
    Upstream,
    /// It answers its author's vectors as written.
    Vectors,
}

impl ContractCheck {
    pub(crate) const ALL: [Self; 5] = [
        Self::SameManifest,
        Self::Answers,
        Self::SameAnswer,
        Self::Upstream,
        Self::Vectors,
    ];
}

impl fmt::Display for ContractCheck {
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

/// The result of one contract check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContractCheckReport {
    /// The check.
    #[serde(rename = "law")]
    pub check: ContractCheck,
    /// The number of tried cases. With none, the check does not apply to this plugin.
    pub cases: usize,
    /// The requests to its marketplace that were failed on trial, where there have to be some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<usize>,
    /// The cases that failed.
    pub failures: Vec<Failure>,
}

/// A case that failed a contract check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The case: a vector's name, or the input.
    pub case: String,
    /// The cause.
    pub cause: String,
}

/// The results of all contract checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conformance {
    /// The results in their order, up to the last check that ran.
    #[serde(rename = "laws")]
    pub checks: Vec<ContractCheckReport>,
}

impl Conformance {
    /// Tells if every check passed.
    pub fn passed(&self) -> bool {
        self.first_failure().is_none()
    }

    pub(crate) fn first_failure(&self) -> Option<(ContractCheck, &Failure)> {
        self.checks
            .iter()
            .find_map(|report| Some((report.check, report.failures.first()?)))
    }
}

impl fmt::Display for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ContractCheckReport {
            check,
            cases,
            asked,
            failures,
        } in &self.checks
        {
            let mark = match (failures.is_empty(), cases) {
                // Without a case nothing was proved, and "ok" would say that it was.
                (true, 0) => "-",
                (true, _) => "ok",
                (false, _) => "FAILED",
            };
            let asked = asked.map_or_else(String::new, |asked| format!(", {asked} asked"));
            writeln!(f, "{mark:>6}  {check} ({cases} cases{asked})")?;
            for Failure { case, cause } in failures {
                writeln!(f, "        {case}: {cause}")?;
            }
        }
        Ok(())
    }
}
