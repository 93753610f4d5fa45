/// The type of a GUC, from `pg_settings.vartype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GucKind {
    /// `bool`
    Bool,
    /// `integer`
    Integer,
    /// `real`
    Real,
    /// `enum`; some also take booleans.
    Enum,
    /// `string`
    String,
}

impl GucKind {
    /// From the text in `pg_settings`.
    #[must_use]
    pub fn from_vartype(vartype: &str) -> Self {
        match vartype {
            "bool" => GucKind::Bool,
            "integer" => GucKind::Integer,
            "real" => GucKind::Real,
            "enum" => GucKind::Enum,
            _ => GucKind::String,
        }
    }
}

/// Whether two texts mean the same value of a GUC whose base unit is `unit` (such as `8kB`, `ms` or empty).
///
/// A plain comparison of texts would ask for a restart for ever: `16MB`, `16384kB` and `2048` are one value.
#[must_use]
pub fn same_value(kind: GucKind, unit: &str, a: &str, b: &str) -> bool {
    a == b || normalised(kind, unit, a) == normalised(kind, unit, b)
}

/// A value in the form that compares: booleans as `on`/`off`, numbers in the base unit, enums in lower case.
#[must_use]
pub fn normalised(kind: GucKind, unit: &str, value: &str) -> String {
    let plain = || value.to_owned();
    match kind {
        GucKind::Bool => parse_bool(value).map_or_else(plain, |b| if b { "on" } else { "off" }.to_owned()),
        GucKind::Enum => {
            // `synchronous_commit = true` and `on` are one value, `wal_level` has no boolean form.
            let lower = value.to_ascii_lowercase();
            match lower.as_str() {
                "true" | "yes" | "1" => "on".to_owned(),
                "false" | "no" | "0" => "off".to_owned(),
                _ => lower,
            }
        }
        GucKind::Integer => parse_integer(value, unit).map_or_else(plain, |n| format!("{n:.0}")),
        GucKind::Real => parse_real(value, unit).map_or_else(plain, |n| n.to_string()),
        GucKind::String => plain(),
    }
}

/// A boolean as PostgreSQL reads it: `on`, `off`, 1, 0, and what begins `true`, `false`, `yes`, `no` or `off`.
#[must_use]
pub fn parse_bool(value: &str) -> Option<bool> {
    let lower = value.to_ascii_lowercase();
    let begins = |word: &str| !lower.is_empty() && word.starts_with(&lower);
    match lower.as_str() {
        "on" | "1" => Some(true),
        "of" | "off" | "0" => Some(false),
        _ if begins("true") || begins("yes") => Some(true),
        _ if begins("false") || begins("no") => Some(false),
        _ => None,
    }
}

/// A number with an optional unit, converted to the base unit `unit` and rounded to an integer. It may be hexadecimal or octal.
#[must_use]
pub fn parse_number(value: &str, unit: &str) -> Option<f64> {
    parse_integer(value, unit)
}

/// The value of an integer parameter in its base unit, rounded. `0x10` and `010` are hexadecimal and octal; `1.5GB` and
/// `1e3` are taken since PostgreSQL 12.
pub(crate) fn parse_integer(value: &str, unit: &str) -> Option<f64> {
    let (negative, digits) = split_sign(value.trim_start());
    let signed = |n: f64| if negative { -n } else { n };
    let radix = if digits.starts_with("0x") || digits.starts_with("0X") {
        16
    } else if digits.starts_with('0') {
        8
    } else {
        return parse_real(value, unit).map(f64::round_ties_even);
    };
    let body = if radix == 16 { &digits[2..] } else { digits };
    let end = body.find(|c: char| !c.is_digit(radix)).unwrap_or(body.len());
    let (number, suffix) = body.split_at(end);
    if radix == 8 && suffix.starts_with(['.', 'e', 'E']) {
        return parse_real(value, unit).map(f64::round_ties_even);
    }
    let number = i64::from_str_radix(number, radix).ok()? as f64;
    in_unit(signed(number), suffix, unit).map(f64::round_ties_even)
}

/// The value of a real parameter in its base unit.
pub(crate) fn parse_real(value: &str, unit: &str) -> Option<f64> {
    let (negative, text) = split_sign(value.trim_start());
    let digits = |from: &str| from.bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(text);
    if text[end..].starts_with('.') {
        end += 1 + digits(&text[end + 1..]);
    }
    let exponent = text[end..].strip_prefix(['e', 'E']).map(|rest| {
        let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        (digits(unsigned), rest.len() - unsigned.len())
    });
    if let Some((count @ 1.., sign)) = exponent {
        end += 1 + sign + count;
    }
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    in_unit(if negative { -number } else { number }, suffix, unit)
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn in_unit(number: f64, suffix: &str, unit: &str) -> Option<f64> {
    let suffix = suffix.trim();
    if suffix.is_empty() {
        return Some(number);
    }
    if suffix.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (given, base) = (unit_scale(suffix)?, unit_scale(unit)?);
    if given.0 != base.0 {
        return None;
    }
    // PostgreSQL rounds a fraction to the next smaller unit first: 30.1GB is 30822MB.
    let smaller = UNITS
        .iter()
        .filter(|(_, dimension, size)| *dimension == given.0 && *size < given.1)
        .map(|(_, _, size)| *size)
        .fold(0.0, f64::max);
    let whole = number * given.1;
    let rounded = if smaller > 0.0 {
        (whole / smaller).round_ties_even() * smaller
    } else {
        whole
    };
    Some(rounded / base.1)
}

/// Units with their dimension, and their size in bytes or milliseconds.
const UNITS: [(&str, char, f64); 11] = [
    ("B", 'B', 1.0),
    ("kB", 'B', 1024.0),
    ("MB", 'B', 1024.0 * 1024.0),
    ("GB", 'B', 1024.0 * 1024.0 * 1024.0),
    ("TB", 'B', 1024.0 * 1024.0 * 1024.0 * 1024.0),
    ("us", 's', 0.001),
    ("ms", 's', 1.0),
    ("s", 's', 1000.0),
    ("min", 's', 60_000.0),
    ("h", 's', 3_600_000.0),
    ("d", 's', 86_400_000.0),
];

/// A unit's dimension (`'B'` for memory, `'s'` for time) and its size in bytes or milliseconds. The unit may have a
/// count before it, as in `8kB`.
#[must_use]
pub fn unit_scale(unit: &str) -> Option<(char, f64)> {
    let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, name) = unit.split_at(digits);
    let count: f64 = if count.is_empty() {
        1.0
    } else {
        count.parse().ok()?
    };
    let (_, dimension, size) = UNITS.iter().find(|(unit, _, _)| *unit == name)?;
    Some((*dimension, count * size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_in_many_spellings() {
        for (kind, unit, a, b) in [
            (GucKind::Integer, "8kB", "16MB", "2048"),
            (GucKind::Integer, "8kB", "16384kB", "16MB"),
            (GucKind::Integer, "s", "30min", "1800"),
            (GucKind::Integer, "MB", "1GB", "1024"),
            (GucKind::Integer, "", "0x10", "16"),
            (GucKind::Integer, "", "0100", "64"),
            (GucKind::Bool, "", "yes", "on"),
            (GucKind::Enum, "", "Replica", "replica"),
            (GucKind::Enum, "", "true", "on"),
            (GucKind::Real, "", "0.10", "0.1"),
            (GucKind::Real, "", "1e-2", "0.01"),
            (GucKind::Real, "ms", "20us", "0.02"),
            (GucKind::Real, "", "0100", "100"),
            (GucKind::Bool, "", "t", "on"),
            (GucKind::Integer, "", "64.5", "64"),
            (GucKind::Integer, "8kB", "1.7GB", "222848"),
        ] {
            assert!(same_value(kind, unit, a, b), "{a} = {b} {unit}");
        }
    }

    #[test]
    fn different_values_stay_different() {
        for (kind, unit, a, b) in [
            (GucKind::Integer, "8kB", "16MB", "16"),
            (GucKind::String, "", "On", "on"),
            (GucKind::Integer, "s", "1MB", "1"),
            (GucKind::Bool, "", "on", "off"),
        ] {
            assert!(!same_value(kind, unit, a, b), "{a} ≠ {b} {unit}");
        }
    }
}
