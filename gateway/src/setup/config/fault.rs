//! Faults of configuration and seeds: where, which key, what is wrong, what would be right.
//!
//! A fault never quotes a value that could be a secret.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Where a value was written. Serialises as `{"file", "line"}`, `{"variable"}`, `{"flag"}` or `{}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// As it was named.
        file: String,
        /// Counted from 1; absent where the fault is the whole file's.
        line: Option<usize>,
    },
    /// In an environment variable.
    Variable(String),
    /// On the command line.
    Flag(String),
    /// Nowhere: the built-in default.
    Default,
}

impl Place {
    /// A line of a file, from a position in its text.
    pub(crate) fn at(file: &str, text: &str, byte: usize) -> Self {
        let before = text.as_bytes().iter().take(byte);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        Self::File { file: file.into(), line: Some(line) }
    }

    /// A file as a whole.
    pub(crate) fn whole(file: &str) -> Self {
        Self::File { file: file.into(), line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: Some(line) } => write!(f, "{file}:{line}"),
            Self::File { file, line: None } => f.write_str(file),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::File { file, line } => {
                map.serialize_entry("file", file)?;
                map.serialize_entry("line", line)?;
            }
            Self::Variable(name) => map.serialize_entry("variable", name)?,
            Self::Flag(flag) => map.serialize_entry("flag", flag)?,
            Self::Default => {}
        }
        map.end()
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// Where it was written.
    #[serde(flatten)]
    pub place: Place,
    /// Its key, as `section.key`; empty where the fault is the whole file's.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

impl Fault {
    /// A fault from its parts.
    pub fn new(
        place: Place,
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { place, key: key.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// All that is wrong, ordered by place; never empty as an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `value` if there are no faults, else all of them.
    ///
    /// # Errors
    /// The faults, ordered.
    pub fn none_or<T>(faults: Vec<Fault>, value: impl FnOnce() -> T) -> Result<T, Self> {
        if faults.is_empty() { Ok(value()) } else { Err(Self::of(faults)) }
    }

    /// At least one fault, ordered.
    pub(crate) fn of(mut faults: Vec<Fault>) -> Self {
        faults.sort();
        faults.dedup();
        Self(faults)
    }

    /// The faults.
    #[must_use]
    pub fn list(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} fault{plural} in the configuration; nothing was started or changed", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}
