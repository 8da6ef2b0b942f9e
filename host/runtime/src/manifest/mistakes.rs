//! What is wrong with a manifest: everything, each with its place.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The dotted path, for example `function.ingest.limits.memory`.
    pub path: String,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// What was found and what is allowed.
    pub message: String,
}

impl Mistake {
    /// A mistake at a place.
    pub fn new(path: String, line: Option<usize>, message: String) -> Self {
        Self { path, line, message }
    }
}

/// Every mistake of one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The manifest.
    pub file: String,
    /// The mistakes, in the order of the file; those without a line come last.
    pub list: Vec<Mistake>,
}

impl Mistakes {
    /// The mistakes of a file.
    pub fn new(file: String, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        Self { file, list }
    }

    /// An error where there is a mistake.
    pub fn none(file: &str, list: Vec<Mistake>) -> Result<(), Self> {
        if list.is_empty() {
            Ok(())
        } else {
            Err(Self::new(file.to_owned(), list))
        }
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file)?;
            if let Some(line) = mistake.line {
                write!(f, ":{line}")?;
            }
            if !mistake.path.is_empty() {
                write!(f, ": {}", mistake.path)?;
            }
            write!(f, ": {}", mistake.message)?;
        }
        Ok(())
    }
}
