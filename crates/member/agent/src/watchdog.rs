//! The machine's watchdog device: the guard opens and feeds it; here it learns which one, and we learn whether it can be used.

use std::{ffi::CString, time::Duration};

use howdah_clock::now;
use howdah_config::{WatchdogConfig, WatchdogMode};
use howdah_guard::{Request as GuardRequest, Watchdog};
use howdah_types::BootTime;
use rustix::fs::{Access, access};

use crate::{agent::Agent, patience::READ_PATIENCE};

/// A member whose guard could not use a device that is required does not try to lead again before this long; a guard that did not
/// take its part is told again.
const AGAIN: Duration = Duration::from_secs(60);

/// What the guard was told last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    wanted: Option<Watchdog>,
    device: String,
    /// The guard did not answer, or is of a version that knows of no device: it is told again from this moment on.
    again: Option<BootTime>,
}

impl Agent {
    /// Tells the guard how the device is used, when that has changed.
    pub(crate) async fn tell_watchdog(&mut self) {
        let config = &self.settings.local.watchdog;
        // A standby cluster's leader writes nothing that a second one could contradict.
        let used = config.mode != WatchdogMode::Off && self.settings.dynamic.standby.is_none();
        let wanted = used.then_some(Watchdog {
            margin: config.safety_margin,
            required: config.mode == WatchdogMode::Required,
            testing: config.testing,
        });
        let is_told = (wanted, &config.device) == (self.watchdog.wanted, &self.watchdog.device);
        if self.watchdog.again.map_or(is_told, |again| now() < again) {
            return;
        }
        let device = config.device.clone();
        let Ok(path) = CString::new(device.clone()) else {
            return;
        };
        let request = GuardRequest::Watchdog(wanted);
        let answer = self
            .guard
            .ask(request, path.into_bytes_with_nul(), now() + READ_PATIENCE)
            .await;
        let again = match answer {
            Ok(_) => None,
            Err(error) => {
                if wanted.is_some() {
                    tracing::warn!(
                        %error,
                        "The guard was not told of the watchdog device. One of an older version uses none: restart the member."
                    );
                }
                Some(now() + AGAIN)
            }
        };
        self.watchdog = Told {
            wanted,
            device,
            again,
        };
    }

    /// The device is required and cannot be used: we must not lead.
    pub(crate) fn watchdog_failed(&self) -> bool {
        let config = &self.settings.local.watchdog;
        let refused = self.guard.seen().no_watchdog;
        config.mode == WatchdogMode::Required
            && self.settings.dynamic.standby.is_none()
            && (self.watchdog.again.is_some()
                || refused.is_some_and(|at| now() < at + AGAIN)
                || !is_there(config))
    }
}

/// Whether the device is there and may be written. A system call that answers at once.
fn is_there(config: &WatchdogConfig) -> bool {
    access(config.device.as_str(), Access::WRITE_OK).is_ok()
}
