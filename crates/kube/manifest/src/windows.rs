//! Maintenance windows: when a primary may be moved for the sake of its node.

use std::{fmt, str::FromStr};

const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;

/// A maintenance window, in UTC: `HH:MM-HH:MM` of every day, or `Day:HH:MM-HH:MM`. Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// 0: Monday; `None`: every day.
    day: Option<u32>,
    /// Minutes of the day.
    begins: u32,
    ends: u32,
}

/// A minute of the week, from Monday 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeekMinute(u32);

impl WeekMinute {
    /// `day`: 0 is Monday. Numbers beyond a week, a day or an hour are taken modulo those.
    #[must_use]
    pub fn new(day: u32, hour: u32, minute: u32) -> Self {
        WeekMinute((day % 7) * DAY + (hour % 24) * 60 + minute % 60)
    }
}

impl Window {
    /// Whether it is open in this minute.
    #[must_use]
    pub fn is_open(&self, now: WeekMinute) -> bool {
        let (day, minute) = (now.0 / DAY, now.0 % DAY);
        self.day.is_none_or(|own| own == day) && (self.begins..=self.ends).contains(&minute)
    }

    /// Minutes until it opens; 0: it is open.
    #[must_use]
    pub fn opens_in(&self, now: WeekMinute) -> u32 {
        if self.is_open(now) {
            return 0;
        }
        let next = |begins: u32, cycle: u32| (begins + cycle - now.0 % cycle) % cycle;
        match self.day {
            Some(day) => next(day * DAY + self.begins, WEEK),
            None => next(self.begins, DAY),
        }
    }
}

/// Minutes until one of the windows opens; 0: one is open, or there are none.
#[must_use]
pub fn opens_in(windows: &[Window], now: WeekMinute) -> u32 {
    let all = windows.iter().map(|window| window.opens_in(now));
    all.min().unwrap_or(0)
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("'{text}' is not of the form HH:MM-HH:MM or Day:HH:MM-HH:MM");
        let trimmed = text.trim();
        let (day, times) = match trimmed.split_once(':') {
            Some((word, times)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let day = DAYS
                    .iter()
                    .position(|day| *day == word || day.get(..3) == Some(word));
                let day =
                    day.ok_or_else(|| format!("'{word}' in '{text}' is no day: write Sat or Saturday"))?;
                (u32::try_from(day).ok(), times)
            }
            _ => (None, trimmed),
        };
        let minutes = |time: &str| {
            let (hour, minute) = time.split_once(':')?;
            let number = |text: &str| {
                let fits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                fits.then(|| text.parse::<u32>().ok()).flatten()
            };
            let (hour, minute) = (number(hour)?, number(minute)?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (begins, ends) = times.split_once('-').ok_or_else(form)?;
        let (begins, ends) = (minutes(begins).ok_or_else(form)?, minutes(ends).ok_or_else(form)?);
        if ends < begins {
            return Err(format!(
                "'{text}' ends before it begins: write one window until 23:59 and another one from 00:00"
            ));
        }
        Ok(Window { day, begins, ends })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(day) = self.day.and_then(|day| DAYS.get(day as usize)) {
            write!(f, "{day}:")?;
        }
        let (begins, ends) = (self.begins, self.ends);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            begins / 60,
            begins % 60,
            ends / 60,
            ends % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(window("Sat:1:00-06:30").to_string(), "Saturday:01:00-06:30");
        assert_eq!(window(" 00:00-23:59 ").to_string(), "00:00-23:59");
        assert_eq!(window("Sunday:00:00-06:00"), window("Sun:00:00-06:00"));
        for wrong in [
            "Sa:01:00-02:00",
            "01:00",
            "01:00-24:00",
            "1-2",
            "22:00-02:00",
            "01:60-02:00",
            "+1:00-02:00",
            "",
        ] {
            assert!(wrong.parse::<Window>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_is_open_in_its_minutes_and_opens_when_it_says() {
        let saturday = window("Sat:01:00-06:00");
        assert!(saturday.is_open(WeekMinute::new(5, 1, 0)) && saturday.is_open(WeekMinute::new(5, 6, 0)));
        assert!(!saturday.is_open(WeekMinute::new(5, 6, 1)) && !saturday.is_open(WeekMinute::new(6, 2, 0)));
        // Every minute of a week: what opens_in says is when it opens, and not before.
        for text in ["Sat:01:00-06:00", "00:00-00:10", "23:50-23:59", "Mon:00:00-00:00"] {
            let window = window(text);
            for minute in 0..WEEK {
                let opens = window.opens_in(WeekMinute(minute));
                assert!(
                    window.is_open(WeekMinute((minute + opens) % WEEK)),
                    "{text} {minute}"
                );
                let before = (0..opens).any(|more| window.is_open(WeekMinute((minute + more) % WEEK)));
                assert!(!before, "{text} {minute}");
            }
        }
        assert_eq!(opens_in(&[], WeekMinute(0)), 0);
        assert_eq!(
            opens_in(&[saturday, window("12:00-13:00")], WeekMinute::new(5, 6, 1)),
            359
        );
    }
}
