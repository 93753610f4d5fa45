use std::sync::Arc;

use howdah_blueprint::Settings;

use crate::{fence::Fence, meter::Meter};

/// What an operator begins with.
#[derive(Clone)]
pub struct Setup {
    /// Its settings.
    pub settings: Settings,
    /// The namespace that it looks after; `None`: all.
    pub namespace: Option<String>,
    /// The operator's own namespace, where what the settings name is looked for.
    pub home: String,
    /// The teams API may be asked.
    pub asks_teams: bool,
    /// Takes only clusters whose annotation `acid.zalan.do/controller` is this; empty: only those without one.
    pub controller_id: String,
    /// Passes at a time; 0: as many as there are clusters to work on.
    pub workers: u16,
    /// Whether it hears of nodes that are drained, and moves primaries away from them. The sandbox has none.
    pub nodes: bool,
    /// While it may work.
    pub fence: Fence,
    /// Where it counts.
    pub meter: Arc<Meter>,
}

impl Setup {
    /// For the only operator of all namespaces.
    #[must_use]
    pub fn alone(settings: Settings) -> Self {
        Setup {
            settings,
            namespace: None,
            home: "default".to_owned(),
            asks_teams: true,
            controller_id: std::env::var("CONTROLLER_ID").unwrap_or_default(),
            workers: 0,
            nodes: false,
            fence: Fence::open(),
            meter: Arc::default(),
        }
    }
}
