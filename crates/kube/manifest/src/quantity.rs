use std::{fmt, str::FromStr};

use thiserror::Error;

/// An amount as Kubernetes writes it, in thousandths of its unit (bytes or cores).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    milli: i128,
}

/// Not an amount.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("is not an amount: write a number with an optional suffix, such as 500m, 2, 512Mi or 10Gi")]
pub struct QuantityError;

impl Quantity {
    /// Whole units, rounded up.
    #[must_use]
    pub fn units(self) -> i128 {
        self.milli.div_euclid(1000) + i128::from(self.milli.rem_euclid(1000) != 0)
    }

    /// Thousandths.
    #[must_use]
    pub fn milli(self) -> i128 {
        self.milli
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let end = text
            .char_indices()
            .find(|(i, c)| {
                let exponent = matches!(c, 'e') && text[i + 1..].starts_with(|d: char| d.is_ascii_digit());
                !(c.is_ascii_digit() || *c == '.' || exponent)
            })
            .map_or(text.len(), |(i, _)| i);
        let (number, suffix) = text.split_at(end);
        let factor: f64 = match suffix {
            "" => 1.0,
            "m" => 0.001,
            "k" | "K" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "P" => 1e15,
            "E" => 1e18,
            "Ki" => 1024.0,
            "Mi" => 1024.0 * 1024.0,
            "Gi" => 1024.0 * 1024.0 * 1024.0,
            "Ti" => 1024f64.powi(4),
            "Pi" => 1024f64.powi(5),
            "Ei" => 1024f64.powi(6),
            _ => return Err(QuantityError),
        };
        let number: f64 = number.parse().map_err(|_| QuantityError)?;
        if !number.is_finite() || !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(QuantityError);
        }
        Ok(Quantity {
            milli: (number * factor * 1000.0).round() as i128,
        })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milli % 1000 == 0 {
            write!(f, "{}", self.milli / 1000)
        } else {
            write!(f, "{}m", self.milli)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_amount_in_many_spellings() {
        for (a, b) in [
            ("1Gi", "1024Mi"),
            ("500m", "0.5"),
            ("1e3", "1000"),
            ("1G", "1000M"),
            ("2", "2000m"),
        ] {
            assert_eq!(a.parse::<Quantity>(), b.parse::<Quantity>(), "{a} = {b}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "Gi", "1GB", "1 Gi", "-1Gi", "ten", "1.5.2", "."] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
