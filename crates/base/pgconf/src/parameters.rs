//! What PostgreSQL 14 to 18 say of their parameters in `pg_settings`: type, unit, range, words, and when a change takes
//! effect. `script/parameters` writes the data from servers of each major.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use crate::{
    GucKind,
    guc::{parse_bool, parse_integer, parse_real},
    lists,
};

const DATA: &str = include_str!("../data/parameters.tsv");

/// When a change of a parameter takes effect, from `pg_settings.context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// It cannot be set: the server computes it.
    Internal,
    /// With a restart.
    Postmaster,
    /// With a reload.
    Reload,
    /// With a reload, for sessions that begin later.
    Session,
}

/// A parameter of one or more neighbouring majors.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name as PostgreSQL writes it.
    pub name: &'static str,
    /// Its type.
    pub kind: GucKind,
    /// The unit of a plain number, such as `8kB` or `ms`; empty without one.
    pub unit: &'static str,
    /// Smallest and largest value, in `unit`, as PostgreSQL writes them. Empty unless it is a number.
    pub range: (&'static str, &'static str),
    /// The words of an enum.
    pub words: Vec<&'static str>,
    /// When a change takes effect.
    pub context: Context,
    majors: (u32, u32),
}

/// Why a parameter or its value would not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No parameter of this major has that name.
    Unknown {
        /// The major that was asked for.
        major: u32,
        /// Majors that have it: first and last of the catalogue.
        others: Option<(u32, u32)>,
    },
    /// The server computes it.
    ReadOnly,
    /// The value is not one of this parameter.
    Value(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Unknown { major, others: None } => {
                write!(f, "PostgreSQL {major} has no parameter of this name")
            }
            Wrong::Unknown {
                major,
                others: Some((first, _)),
            } if major < first => {
                write!(f, "PostgreSQL {major} does not have it yet; it came with {first}")
            }
            Wrong::Unknown {
                major,
                others: Some((_, last)),
            } => write!(f, "PostgreSQL {major} no longer has it; {last} was the last"),
            Wrong::ReadOnly => f.write_str("cannot be set: PostgreSQL computes it"),
            Wrong::Value(why) => f.write_str(why),
        }
    }
}

/// By lower-case name; rows of one name in order of majors.
static CATALOGUE: LazyLock<BTreeMap<String, Vec<Parameter>>> = LazyLock::new(|| {
    let mut all: BTreeMap<String, Vec<Parameter>> = BTreeMap::new();
    for row in DATA
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(read)
    {
        all.entry(row.name.to_ascii_lowercase()).or_default().push(row);
    }
    all
});

fn read(line: &'static str) -> Option<Parameter> {
    let mut columns = line.split('\t');
    let mut next = || columns.next();
    let majors = (next()?.parse().ok()?, next()?.parse().ok()?);
    let name = next()?;
    let kind = GucKind::from_vartype(next()?);
    let unit = next()?;
    let range = (next()?, next()?);
    let words = next()?.split('|').filter(|word| !word.is_empty()).collect();
    let context = match next()? {
        "internal" => Context::Internal,
        "postmaster" => Context::Postmaster,
        "backend" | "superuser-backend" => Context::Session,
        _ => Context::Reload,
    };
    Some(Parameter {
        name,
        kind,
        unit,
        range,
        words,
        context,
        majors,
    })
}

/// First and last major that the catalogue knows.
pub const CATALOGUED: (u32, u32) = (14, 18);

/// The parameter of this name, in any case of letters, that a server of this major has. Names with a dot belong to
/// extensions and are in no catalogue. A major outside of the catalogue is treated as the nearest in it.
#[must_use]
pub fn parameter(name: &str, major: u32) -> Option<&'static Parameter> {
    let major = major.clamp(CATALOGUED.0, CATALOGUED.1);
    CATALOGUE
        .get(&name.to_ascii_lowercase())?
        .iter()
        .find(|row| row.majors.0 <= major && major <= row.majors.1)
}

/// The names of all parameters of this major that can be set.
pub fn parameter_names(major: u32) -> impl Iterator<Item = &'static str> {
    let major = major.clamp(CATALOGUED.0, CATALOGUED.1);
    CATALOGUE.values().filter_map(move |rows| {
        let row = rows
            .iter()
            .find(|row| row.majors.0 <= major && major <= row.majors.1)?;
        (row.context != Context::Internal).then_some(row.name)
    })
}

/// Why a server of this major would not take this value; `None` when nothing is known against it.
///
/// What depends on the machine (a library, a file, a locale, the memory) is not looked at: PostgreSQL alone knows.
#[must_use]
pub fn parameter_error(name: &str, value: &str, major: u32) -> Option<Wrong> {
    // What extensions bring is known to them alone. The last one is in no view, and may still be written as 'off'.
    if name.contains('.') {
        let why = "with a dot a name has two parts, each of letters, digits, _ and $, and not beginning with a digit";
        return (!is_custom(name)).then(|| Wrong::Value(why.into()));
    }
    if name.eq_ignore_ascii_case("default_with_oids") {
        return None;
    }
    let Some(found) = parameter(name, major) else {
        let is_catalogued = (CATALOGUED.0..=CATALOGUED.1).contains(&major);
        let others = CATALOGUE
            .get(&name.to_ascii_lowercase())
            .and_then(|rows| Some((rows.first()?.majors.0, rows.last()?.majors.1)));
        return is_catalogued.then_some(Wrong::Unknown { major, others });
    };
    if found.context == Context::Internal {
        return Some(Wrong::ReadOnly);
    }
    found.value_error(value, major).map(Wrong::Value)
}

/// Whether a name with a dot can stand in a configuration file (the `QUALIFIED_ID` of guc-file.l).
fn is_custom(name: &str) -> bool {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii())
    };
    let parts: Vec<&str> = name.split('.').collect();
    parts.len() == 2 && parts.iter().all(|part| is_identifier(part))
}

/// Why no catalogued major would take this value, where the major of the servers is not known.
#[must_use]
pub fn wrong_everywhere(name: &str, value: &str) -> Option<Wrong> {
    let mut first = None;
    for major in (CATALOGUED.0..=CATALOGUED.1).rev() {
        let wrong = parameter_error(name, value, major)?;
        first.get_or_insert(wrong);
    }
    first
}

impl Parameter {
    /// Why this value is not one that the parameter has in a server of this major.
    #[must_use]
    pub fn value_error(&self, value: &str, major: u32) -> Option<String> {
        match self.kind {
            GucKind::Bool => {
                let other = parse_bool(value).is_none();
                other.then(|| format!("'{value}' is not a boolean: write on or off"))
            }
            GucKind::Integer => {
                let read = || parse_integer(value, self.unit);
                self.number_error(value, "an integer", read)
            }
            GucKind::Real => {
                let read = || parse_real(value, self.unit);
                self.number_error(value, "a number", read)
            }
            GucKind::Enum => (!self.takes_word(value))
                .then(|| format!("'{value}' is not one of {}", self.words.join(", "))),
            GucKind::String => lists::error(self.name, value, major),
        }
    }

    fn number_error(&self, value: &str, what: &str, read: impl Fn() -> Option<f64>) -> Option<String> {
        let (min, max) = self.range;
        let Some(number) = read() else {
            return Some(match units_of(self.unit) {
                Some(units) => format!("'{value}' is not {what} with one of the units {units}"),
                None => format!("'{value}' is not {what}; it has no unit"),
            });
        };
        let within = |bound: &str, holds: fn(f64, f64) -> bool| {
            bound.parse().map_or(true, |bound: f64| holds(number, bound))
        };
        if within(min, |n, min| n >= min) && within(max, |n, max| n <= max) {
            return None;
        }
        let unit = match self.unit {
            "" => String::new(),
            unit => format!(" (in {unit})"),
        };
        Some(format!("'{value}' is outside of {min} to {max}{unit}"))
    }

    /// PostgreSQL takes words in any case, and some that it does not list.
    fn takes_word(&self, value: &str) -> bool {
        let lower = value.to_ascii_lowercase();
        let is = |word: &&str| word.eq_ignore_ascii_case(&lower);
        let hidden: &[&str] = match self.name {
            "wal_level" => &["archive", "hot_standby"],
            "client_min_messages" | "trace_recovery_messages" => &["debug", "info"],
            "log_min_messages" | "log_min_error_statement" => &["debug"],
            "ssl_max_protocol_version" => &[""],
            _ if self.words.contains(&"on") => &["true", "false", "yes", "no", "1", "0"],
            _ => &[],
        };
        self.words.iter().any(is) || hidden.iter().any(is)
    }
}

fn units_of(unit: &str) -> Option<&'static str> {
    match crate::unit_scale(unit)?.0 {
        'B' => Some("B, kB, MB, GB, TB"),
        _ => Some("us, ms, s, min, h, d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(name: &str, value: &str, major: u32) -> Option<String> {
        parameter_error(name, value, major).map(|wrong| wrong.to_string())
    }

    #[test]
    fn what_servers_take_is_taken() {
        for (name, value) in [
            ("work_mem", "8MB"),
            ("work_mem", "64"),
            ("work_mem", " 1.5 GB"),
            ("shared_buffers", "25600"),
            ("max_connections", "0x64"),
            ("Shared_Buffers", "1GB"),
            ("datestyle", "ISO, DMY"),
            ("log_min_duration_statement", "-1"),
            ("checkpoint_timeout", "5min"),
            ("checkpoint_timeout", "300"),
            ("autovacuum", "tr"),
            ("autovacuum", "OF"),
            ("synchronous_commit", "true"),
            ("synchronous_commit", "remote_apply"),
            ("wal_level", "hot_standby"),
            ("log_min_messages", "DEBUG"),
            ("wal_compression", "zstd"),
            ("random_page_cost", "1.1"),
            ("random_page_cost", "1e0"),
            ("vacuum_cost_delay", "0.5ms"),
            ("search_path", "\"$user\", public"),
            ("bg_mon.listen_address", "anything"),
            ("zero_damaged_pages", "on"),
            ("log_connections", "on"),
        ] {
            for major in 15..=18 {
                assert_eq!(wrong(name, value, major), None, "{name} = {value}, {major}");
            }
        }
    }

    #[test]
    fn what_servers_refuse_is_refused_with_the_reason() {
        for (name, value, part) in [
            ("work_mem", "8MBB", "B, kB, MB, GB, TB"),
            ("work_mem", "9999TB", "outside of 64 to 2147483647 (in kB)"),
            ("work_mem", "8mb", "units"),
            ("max_connections", "many", "not an integer; it has no unit"),
            ("max_connections", "5MB", "it has no unit"),
            ("max_connections", "08", "not an integer"),
            ("log_statement", "everything", "none, ddl, mod, all"),
            ("random_page_cost", "cheap", "not a number"),
            ("checkpoint_timeout", "5", "outside of 30 to 86400 (in s)"),
            ("checkpoint_timeout", "5 minutes", "us, ms, s, min, h, d"),
            ("autovacuum", "perhaps", "on or off"),
            ("autovacuum", "o", "on or off"),
            ("effective_io_concurrency", "5000", "outside of 0 to 1000"),
            ("search_path", "a b", "comma"),
            ("block_size", "8192", "computes"),
            ("my_typo_mem", "1", "no parameter"),
            ("a.b.c", "1", "two parts"),
            ("x.y z", "1", "two parts"),
        ] {
            for major in 14..=18 {
                let found = wrong(name, value, major);
                assert!(
                    found.as_ref().is_some_and(|text| text.contains(part)),
                    "{name} = {value}, {major}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn majors_differ() {
        assert_eq!(wrong("io_method", "worker", 18), None);
        assert_eq!(
            wrong("io_method", "worker", 15).unwrap(),
            "PostgreSQL 15 does not have it yet; it came with 18"
        );
        assert_eq!(
            wrong("old_snapshot_threshold", "1h", 17).unwrap(),
            "PostgreSQL 17 no longer has it; 16 was the last"
        );
        // A boolean until 14.
        assert!(wrong("wal_compression", "lz4", 14).is_some());
        assert_eq!(wrong_everywhere("wal_compression", "lz4"), None);
        assert!(wrong_everywhere("work_mem", "8MBB").is_some());
        assert_eq!(wrong("a_parameter_of_tomorrow", "1", 19), None);
        assert_eq!(wrong("a_parameter_of_yesterday", "1", 13), None);
    }

    #[test]
    fn every_row_can_be_read() {
        let rows = DATA.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(
            rows.count(),
            CATALOGUE.values().map(Vec::len).sum::<usize>(),
            "a row was left out"
        );
        assert!(CATALOGUE.len() > 350);
        assert_eq!(
            parameter("shared_buffers", 15).unwrap().context,
            Context::Postmaster
        );
    }
}
