//! Settings that are wrong.

use std::fmt;

/// A setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingError {
    name: String,
    why: String,
}

impl SettingError {
    /// The setting's name, and what is wrong with it: `must be ...`. Never a secret.
    pub(crate) fn new(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.why)
    }
}

impl std::error::Error for SettingError {}

/// Every setting that is wrong, in one answer: whoever mends one does not have to start again to hear of the next.
#[derive(Debug)]
pub(crate) struct WrongSettings(Vec<SettingError>);

impl WrongSettings {
    /// Refuses to go on if there are any.
    ///
    /// # Errors
    /// All of them.
    pub(crate) fn refuse(wrong: Vec<SettingError>) -> Result<(), Self> {
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(Self(wrong))
        }
    }
}

impl From<SettingError> for WrongSettings {
    fn from(one: SettingError) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for WrongSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.0[..] {
            return write!(f, "the setting {one}");
        }
        write!(f, "{} settings are wrong", self.0.len())?;
        self.0.iter().try_for_each(|one| write!(f, "\n  {one}"))
    }
}

impl std::error::Error for WrongSettings {}
