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
    /// The device resets the machine this long before the lease ends. `-1`, in Patroni half of the lease, is as much as there is.
    pub safety_margin: Duration,
    /// `driver: testing`: a named pipe in the device's place.
    pub testing: bool,
}

impl WatchdogConfig {
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
            None => Duration::from_secs(5),
            Some(-1) => Duration::from_secs(3600),
            Some(margin) => Duration::from_secs(u64::try_from(margin).map_err(|_| {
                section.error("safety_margin", "must be seconds, or -1 for as much as there is")
            })?),
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
    fn the_margin_is_five_seconds_unless_said() {
        let margin = |value: Value| read(value).unwrap().safety_margin.as_secs();
        assert_eq!(margin(json!({})), 5);
        assert_eq!(margin(json!({"safety_margin": 0})), 0);
        assert_eq!(margin(json!({"safety_margin": -1})), 3600);
    }
}
