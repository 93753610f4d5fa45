use std::str::FromStr;

use jiff::{Timestamp, ToSpan, Zoned, civil::DateTime, tz::TimeZone};
use thiserror::Error;

/// When backups are made: cron's five fields, in UTC as cron runs in containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// cron's rule: when both days are given, either of them is enough.
    any_day: bool,
}

/// Text that is no schedule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{text}' is not a schedule: {reason} (minute hour day month weekday, as '0 1 * * *')")]
pub struct BadSchedule {
    text: String,
    reason: String,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule that comes round never, such as the 30th of February, is looked for no longer than a leap year takes.
const FARTHEST_DAYS: i32 = 366 * 8;

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason: String| BadSchedule {
            text: text.to_owned(),
            reason,
        };
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(bad(format!("it has {} fields and not five", fields.len())));
        };
        let weekday = field(weekdays, 0, 7, &WEEKDAYS, 0).map_err(bad)?;
        let schedule = Schedule {
            minutes: field(minutes, 0, 59, &[], 0).map_err(bad)?,
            hours: field(hours, 0, 23, &[], 0).map_err(bad)?,
            days: field(days, 1, 31, &[], 0).map_err(bad)?,
            months: field(months, 1, 12, &MONTHS, 1).map_err(bad)?,
            // 7 is Sunday too.
            weekdays: (weekday | (weekday >> 7)) & 0x7f,
            any_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        };
        if schedule.next(Timestamp::UNIX_EPOCH).is_none() {
            return Err(bad("no day is one of it".to_owned()));
        }
        Ok(schedule)
    }
}

/// The values of a field as bits.
fn field(text: &str, least: u32, most: u32, names: &[&str], first_name: u32) -> Result<u64, String> {
    let value = |text: &str| -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|name| *name == lower) {
            return Ok(u32::try_from(at).unwrap_or(0) + first_name);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| text.parse::<u32>().ok())
            .flatten()
            .filter(|value| (least..=most).contains(value))
            .ok_or_else(|| format!("'{text}' is not a value from {least} to {most}"))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u32>().ok().filter(|step| *step > 0);
                (range, step.ok_or_else(|| format!("'{part}' has no step"))?)
            }
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (value(from)?, value(to)?),
            None if part.contains('/') => (value(range)?, most),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return Err(format!("'{part}' ends before it begins"));
        }
        for value in (from..=to).step_by(usize::try_from(step).unwrap_or(1)) {
            bits |= 1 << value;
        }
    }
    Ok(bits)
}

impl Schedule {
    /// The first moment of the schedule after another one.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let has = |bits: u64, value: i8| bits & (1 << value) != 0;
        let mut at: DateTime = Zoned::new(after, TimeZone::UTC).datetime();
        at = at
            .with()
            .second(0)
            .subsec_nanosecond(0)
            .build()
            .ok()?
            .checked_add(1.minute())
            .ok()?;
        let farthest = at.checked_add(FARTHEST_DAYS.days()).ok()?;
        while at < farthest {
            let weekday = at.weekday().to_sunday_zero_offset();
            let (day, weekday) = (has(self.days, at.day()), has(self.weekdays, weekday));
            let is_day = if self.any_day {
                day || weekday
            } else {
                day && weekday
            };
            if !is_day || !has(self.months, at.month()) {
                at = at.date().at(0, 0, 0, 0).checked_add(1.day()).ok()?;
            } else if !has(self.hours, at.hour()) {
                at = at.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return at.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.next(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn schedules_as_cron_has_them() {
        for (schedule, after, expected) in [
            ("0 1 * * *", "2026-11-25T00:59:59Z", "2026-11-25T01:00:00Z"),
            ("0 1 * * *", "2026-11-25T01:00:00Z", "2026-11-26T01:00:00Z"),
            ("*/15 * * * *", "2026-11-25T10:16:00Z", "2026-11-25T10:30:00Z"),
            ("5/20 3 * * *", "2026-11-25T03:06:00Z", "2026-11-25T03:25:00Z"),
            ("30 00 * * 7", "2026-11-25T10:00:00Z", "2026-11-29T00:30:00Z"),
            ("0 0 1 jan *", "2026-11-25T10:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 29 2 *", "2026-11-25T10:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 13 * fri", "2026-11-25T10:00:00Z", "2026-11-27T00:00:00Z"),
            (
                "0 22-23,1 * * mon-fri",
                "2026-11-27T23:30:00Z",
                "2026-11-30T01:00:00Z",
            ),
            ("@daily", "2026-11-25T10:00:00Z", "2026-11-26T00:00:00Z"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "0 1 * *",
            "60 * * * *",
            "* * 0 * *",
            "0 0 30 2 *",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "0 1 * * * *",
            "+1 * * * *",
            "-1 * * * *",
        ] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_next_moment_is_later(minute in 0u32..60, hour in 0u32..24, second in 0i64..4_000_000_000) {
            let schedule: Schedule = format!("{minute} {hour} * * *").parse().unwrap();
            let after = Timestamp::from_second(second).unwrap();
            let next = schedule.next(after).unwrap();
            prop_assert!(next > after && next.duration_since(after).as_secs() <= 86_400);
        }
    }
}
