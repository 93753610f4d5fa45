use std::time::Duration;

use howdah_blueprint::Settings;
use howdah_manifest::{Manifest, WeekMinute, opens_in};
use jiff::{Timestamp, tz::TimeZone};

/// Time until a primary may be moved for maintenance; zero: it may now. A manifest's windows count before the operator's.
pub(crate) fn time_to_window(manifest: &Manifest, settings: &Settings, now: Timestamp) -> Duration {
    if !settings.enable_maintenance_windows {
        return Duration::ZERO;
    }
    let own = &manifest.spec.maintenance_windows;
    let windows = if own.is_empty() {
        &settings.maintenance_windows
    } else {
        own
    };
    let now = now.to_zoned(TimeZone::UTC);
    let number = |number: i8| u32::try_from(number).unwrap_or(0);
    let day = number(now.weekday().to_monday_zero_offset());
    let minutes = opens_in(
        windows,
        WeekMinute::new(day, number(now.hour()), number(now.minute())),
    );
    let whole = Duration::from_secs(u64::from(minutes) * 60);
    // It opens when its minute begins.
    whole.saturating_sub(Duration::from_secs(u64::from(number(now.second()))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifests_windows_count_before_the_operators() {
        let manifest = |windows: serde_json::Value| {
            let spec = json!({
                "teamId": "a", "numberOfInstances": 1, "volume": {"size": "1Gi"}, "postgresql": {"version": "18"},
                "maintenanceWindows": windows,
            });
            Manifest::read(&Manifest::object(
                "a",
                spec.as_object().cloned().unwrap_or_default(),
            ))
            .unwrap()
        };
        let mut settings = Settings::default();
        // A Saturday.
        let now: Timestamp = "2026-11-28T10:00:30Z".parse().unwrap();
        let wait = |windows, settings: &Settings| time_to_window(&manifest(windows), settings, now).as_secs();
        assert_eq!(wait(json!([]), &settings), 0);
        assert_eq!(wait(json!(["Sat:12:00-13:00"]), &settings), 2 * 3600 - 30);
        assert_eq!(wait(json!(["Sat:10:00-10:00"]), &settings), 0);
        settings.maintenance_windows = vec!["Sun:00:00-01:00".parse().unwrap()];
        assert_eq!(wait(json!([]), &settings), 14 * 3600 - 30);
        settings.enable_maintenance_windows = false;
        assert_eq!(wait(json!(["Sun:00:00-01:00"]), &settings), 0);
    }
}
