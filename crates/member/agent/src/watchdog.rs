//! The machine's watchdog device: the guard opens and feeds it; here it learns which one, and we learn whether it can be used.

use std::{ffi::CString, time::Duration};

use howdah_clock::now;
use howdah_config::{WatchdogConfig, WatchdogMode};
use howdah_dcs::View;
use howdah_guard::{GuardError, Request as GuardRequest, Watchdog, WhyRefused};
use rustix::fs::{Access, access};

use crate::{agent::Agent, patience::READ_PATIENCE};

/// A member whose guard could not use a device that is required does not try to lead again before this long.
const AGAIN: Duration = Duration::from_secs(60);

/// What the guard was told last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    wanted: Option<Watchdog>,
    device: String,
    /// The lease is too short for the safety margin.
    no_time: bool,
    /// The guard is of a version that knows of no device.
    unknown: bool,
}

impl Agent {
    /// Tells the guard how the device is used, when that has changed.
    pub(crate) async fn tell_watchdog(&mut self, view: &View) {
        let config = &self.settings.local.watchdog;
        let lease = self.settings.dynamic.timers.lease(view.all_ours());
        // A standby cluster's leader writes nothing that a second one could contradict.
        let used = config.mode != WatchdogMode::Off && self.settings.dynamic.standby.is_none();
        let timeout = used.then(|| config.timeout(lease));
        let mut told = Told {
            wanted: timeout.flatten().map(|timeout| Watchdog {
                timeout,
                required: config.mode == WatchdogMode::Required,
                testing: config.testing,
            }),
            device: config.device.clone(),
            no_time: timeout == Some(None),
            unknown: self.watchdog.unknown,
        };
        if told == self.watchdog {
            return;
        }
        if told.no_time && !self.watchdog.no_time {
            tracing::warn!(
                "The watchdog device is not used: watchdog.safety_margin leaves it less than half of the leader lease of {} s.",
                lease.as_secs_f64()
            );
        }
        let Ok(path) = CString::new(told.device.clone()) else {
            return;
        };
        let request = GuardRequest::Watchdog(told.wanted);
        let answer = self
            .guard
            .ask(request, path.into_bytes_with_nul(), now() + READ_PATIENCE)
            .await;
        match answer {
            Ok(_) => {}
            Err(GuardError::Refused(WhyRefused::Malformed)) => {
                told.unknown = true;
                if told.wanted.is_some() {
                    tracing::warn!(
                        "The guard is of an older version and uses no watchdog device: restart the member."
                    );
                }
            }
            Err(error) => {
                tracing::warn!(%error, "The guard was not told of the watchdog device.");
                return;
            }
        }
        self.watchdog = told;
    }

    /// The device is required and cannot be used: we must not lead.
    pub(crate) fn watchdog_failed(&self) -> bool {
        let config = &self.settings.local.watchdog;
        let refused = self.guard.seen().no_watchdog;
        config.mode == WatchdogMode::Required
            && self.settings.dynamic.standby.is_none()
            && (self.watchdog.no_time
                || self.watchdog.unknown
                || refused.is_some_and(|at| now() < at + AGAIN)
                || !is_there(config))
    }
}

/// Whether the device is there and may be written. A system call that answers at once.
fn is_there(config: &WatchdogConfig) -> bool {
    access(config.device.as_str(), Access::WRITE_OK).is_ok()
}
