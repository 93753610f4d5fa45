//! The agent's configuration: Patroni's YAML, its `PATRONI_*` variables and its dynamic configuration, read into types.
//!
//! Pure: text and variables in, values out; the caller reads files and the environment. Unknown keys are kept and
//! named in a warning, wrong values are errors with the key's path and line.
//!
//! ```text
//!   file(s) ─ source.rs ─┐                          ┌─ local.rs    LocalConfig (name, addresses, directories)
//!   (places.rs: which line says what)
//!   env ───── env.rs ────┴─ merged Value ─ known.rs ┤  (warnings)
//!   /config in the store ──────────────────────────-┴─ dynamic.rs  Dynamic (timers, modes, parameters)
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod archive;
mod consul;
mod dynamic;
mod env;
mod error;
mod hooks;
mod known;
mod kubernetes;
mod listen;
mod local;
mod log;
mod merge;
mod methods;
mod place;
mod places;
mod reader;
mod slots;
mod source;
mod standby;
mod watchdog;
mod zookeeper;

pub use archive::ArchiveConfig;
pub use consul::{ConsulConfig, ConsulService};
pub use dynamic::{Dynamic, SyncMode, Timers, check_dynamic, dynamic_from};
pub use env::env_layer;
pub use error::ConfigError;
pub use hooks::{Callback, Hooks};
pub use known::{KeyReport, key_report};
pub use kubernetes::{KubernetesConfig, LeaderEndpoints};
pub use listen::Listen;
pub use local::{
    Account, ApiTls, Bootstrap, CtlConfig, EtcdConfig, LocalConfig, PostgresConfig, RestApiConfig,
    StoreConfig, VerifyClient,
};
pub use log::{Layout, LogConfig, LogFile, Piece, Record};
pub use merge::{patch, string_form};
pub use methods::{CustomBootstrap, Method, ReplicaMethod};
pub use place::Place;
pub use places::Places;
pub use reader::{parse_bool, parse_int};
pub use slots::{ClusterType, PermanentSlot, SlotKind, SlotMatcher};
pub use source::{Source, duplicates, load};
pub use standby::StandbyCluster;
pub use watchdog::{WatchdogConfig, WatchdogMode};
pub use zookeeper::{ZooKeeperConfig, ZooKeeperTls};
