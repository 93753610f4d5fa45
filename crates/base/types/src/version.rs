use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A PostgreSQL version as `server_version_num` gives it (150018 is 15.18). From 10 on only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PgVersion(pub u32);

impl PgVersion {
    /// The oldest major that is run: the first where a replica is re-pointed without a restart.
    pub const OLDEST: u32 = 13;

    /// The major: 15 for 15.18.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 / 10000
    }

    /// From the text that `postgres --version` prints, such as `postgres (PostgreSQL) 15.18 (Debian …)`.
    #[must_use]
    pub fn from_banner(banner: &str) -> Option<Self> {
        banner.split_whitespace().find_map(|word| {
            let digits: String = word
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let (major, minor) = match digits.split_once('.') {
                Some((major, minor)) => (major, minor),
                None => (digits.as_str(), "0"),
            };
            Some(PgVersion(
                major.parse::<u32>().ok()? * 10000 + minor.parse::<u32>().unwrap_or(0),
            ))
        })
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10000, self.0 % 10000)
    }
}

/// The database system identifier that initdb made; the same in every member of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(SystemId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners() {
        let of = PgVersion::from_banner;
        assert_eq!(
            of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            Some(PgVersion(150_018))
        );
        assert_eq!(of("postgres (PostgreSQL) 18beta1"), Some(PgVersion(180_000)));
        assert_eq!(of("no digits"), None);
    }
}
