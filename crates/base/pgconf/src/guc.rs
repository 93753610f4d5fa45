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
        GucKind::Integer => parse_number(value, unit).map_or_else(plain, |n| format!("{:.0}", n.round())),
        GucKind::Real => parse_number(value, unit).map_or_else(plain, |n| n.to_string()),
        GucKind::String => plain(),
    }
}

fn parse_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A number with an optional unit, converted to the base unit `unit`. Integers may be hexadecimal or octal.
#[must_use]
pub fn parse_number(value: &str, unit: &str) -> Option<f64> {
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    let sign_free = lower.trim_start_matches(['-', '+']);
    let negative = lower.starts_with('-');
    let signed = |n: f64| if negative { -n } else { n };
    if let Some(hex) = sign_free.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|n| signed(n as f64));
    }
    if sign_free.len() > 1 && sign_free.starts_with('0') && sign_free.bytes().all(|b| b.is_ascii_digit()) {
        return i64::from_str_radix(sign_free, 8).ok().map(|n| signed(n as f64));
    }
    let end = value
        .char_indices()
        .find(|(i, c)| {
            let exponent_sign =
                matches!(c, '-' | '+') && *i > 0 && matches!(value.as_bytes()[i - 1], b'e' | b'E');
            !(c.is_ascii_digit()
                || *c == '.'
                || (*i == 0 && matches!(c, '-' | '+'))
                || exponent_sign
                || (matches!(c, 'e' | 'E')
                    && value[i + 1..].starts_with(|d: char| d.is_ascii_digit() || d == '-')))
        })
        .map_or(value.len(), |(i, _)| i);
    let (number, suffix) = value.split_at(end);
    let number: f64 = number.parse().ok()?;
    let suffix = suffix.trim();
    if suffix.is_empty() {
        return Some(number);
    }
    let (given, base) = (unit_scale(suffix)?, unit_scale(unit)?);
    (given.0 == base.0).then(|| number * given.1 / base.1)
}

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
    let (dimension, size) = match name {
        "B" => ('B', 1.0),
        "kB" => ('B', 1024.0),
        "MB" => ('B', 1024.0 * 1024.0),
        "GB" => ('B', 1024.0 * 1024.0 * 1024.0),
        "TB" => ('B', 1024.0 * 1024.0 * 1024.0 * 1024.0),
        "us" => ('s', 0.001),
        "ms" => ('s', 1.0),
        "s" => ('s', 1000.0),
        "min" => ('s', 60_000.0),
        "h" => ('s', 3_600_000.0),
        "d" => ('s', 86_400_000.0),
        _ => return None,
    };
    Some((dimension, count * size))
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
