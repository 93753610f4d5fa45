//! `watchdog`: the machine's watchdog device.

use std::time::Duration;

use serde_json::Value;

use crate::{ConfigError, reader::Reader};

/// `watchdog.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogMode {
    /// The device is not used.
    Off,
    /// It is used if it is there; as Patroni has it, also without the section.
    Automatic,
    /// A member without it does not lead.
    Required,
}

/// `watchdog`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogConfig {
    /// Whether the device is used.
    pub mode: WatchdogMode,
    /// Its path; `/dev/watchdog` unless set.
    pub device: String,
    /// The device resets the machine this long before the lease ends; `None` (`-1`): after half of the lease.
    pub safety_margin: Option<Duration>,
    /// `driver: testing`: a named pipe in the device's place.
    pub testing: bool,
}

/// Patroni's shortest `ttl`. A lease that is shorter has less room for the margin.
const SHORT: Duration = Duration::from_secs(20);

impl WatchdogConfig {
    /// How long after a renewal of a lease of this length the device resets the machine, in whole seconds as Patroni has it:
    /// the lease without the safety margin; of a lease below 20 s at least five sixths. `None` where that is less than half
    /// of the lease: one renewal that is late would reset the machine.
    #[must_use]
    pub fn timeout(&self, lease: Duration) -> Option<Duration> {
        let half = Duration::from_secs(lease.as_secs() / 2);
        let timeout = match self.safety_margin {
            None => half,
            Some(margin) if lease < SHORT => lease.saturating_sub(margin.min(lease / 6)),
            Some(margin) => lease.saturating_sub(margin),
        };
        let timeout = Duration::from_secs(timeout.as_secs());
        (timeout >= half && !timeout.is_zero()).then_some(timeout)
    }

    pub(crate) fn read(section: &Reader<'_>) -> Result<Self, ConfigError> {
        let mode = match section.value("mode") {
            None => WatchdogMode::Automatic,
            // YAML's `off`.
            Some(Value::Bool(false)) => WatchdogMode::Off,
            Some(Value::String(mode)) => match mode.to_ascii_lowercase().as_str() {
                "off" | "disable" | "disabled" => WatchdogMode::Off,
                "auto" | "automatic" => WatchdogMode::Automatic,
                "require" | "required" => WatchdogMode::Required,
                _ => return Err(section.error("mode", "must be off, automatic or required")),
            },
            Some(_) => return Err(section.error("mode", "must be off, automatic or required")),
        };
        let safety_margin = match section.int("safety_margin", "s")? {
            None => Some(Duration::from_secs(5)),
            Some(-1) => None,
            Some(margin) => Some(Duration::from_secs(u64::try_from(margin).map_err(|_| {
                section.error(
                    "safety_margin",
                    "must be seconds, or -1 for half of the leader lease",
                )
            })?)),
        };
        let testing = match section.text("driver")?.as_deref() {
            None | Some("default") => false,
            Some("testing") => true,
            Some(_) => {
                return Err(section.error(
                    "driver",
                    "must be default (the device of the Linux kernel) or testing",
                ));
            }
        };
        let device = section.text("device")?.unwrap_or_else(|| "/dev/watchdog".into());
        if device.is_empty() || device.contains('\0') {
            return Err(section.error("device", "must be the path of a device"));
        }
        Ok(WatchdogConfig {
            mode,
            device,
            safety_margin,
            testing,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Places;

    fn read(value: Value) -> Result<WatchdogConfig, String> {
        let config = json!({"watchdog": value});
        let places = Places::default();
        let root = Reader::root(config.as_object().unwrap(), &places);
        let section = root.section("watchdog").map_err(|error| error.to_string())?;
        WatchdogConfig::read(&section).map_err(|error| error.to_string())
    }

    #[test]
    fn modes_are_patronis() {
        for (value, mode) in [
            (Value::Null, WatchdogMode::Automatic),
            (json!({"mode": false}), WatchdogMode::Off),
            (json!({"mode": "Disabled"}), WatchdogMode::Off),
            (json!({"mode": "auto"}), WatchdogMode::Automatic),
            (json!({"mode": "require"}), WatchdogMode::Required),
        ] {
            assert_eq!(read(value.clone()).unwrap().mode, mode, "{value}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        for (value, part) in [
            (json!({"mode": "on"}), "watchdog.mode"),
            (json!({"mode": true}), "watchdog.mode"),
            (json!({"safety_margin": -2}), "watchdog.safety_margin"),
            (json!({"safety_margin": "x"}), "watchdog.safety_margin"),
            (json!({"driver": "ipmi"}), "watchdog.driver"),
            (json!({"device": ""}), "watchdog.device"),
        ] {
            let said = read(value.clone()).unwrap_err();
            assert!(said.contains(part), "{value}: {said}");
        }
    }

    #[test]
    fn the_timeout_is_the_lease_without_the_margin() {
        let timeout = |margin: i64, lease: f64| {
            let config = read(json!({"safety_margin": margin})).unwrap();
            config
                .timeout(Duration::from_secs_f64(lease))
                .map(|timeout| timeout.as_secs())
        };
        assert_eq!(timeout(5, 30.0), Some(25));
        assert_eq!(timeout(5, 20.0), Some(15));
        assert_eq!(timeout(0, 30.0), Some(30));
        assert_eq!(timeout(-1, 30.0), Some(15));
        assert_eq!(timeout(5, 8.0), Some(6));
        assert_eq!(timeout(5, 5.0), Some(4));
        assert_eq!(timeout(20, 30.0), None);
        assert_eq!(timeout(-1, 1.5), None);
    }
}
