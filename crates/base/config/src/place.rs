use std::fmt;

/// Where a value of the merged configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the only file.
    Line(u64),
    /// A line of one of several files.
    File(String, u64),
    /// A `PATRONI_*` variable.
    Environment,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "line {line}"),
            Place::File(file, line) => write!(f, "{file}, line {line}"),
            Place::Environment => f.write_str("from the environment"),
        }
    }
}
