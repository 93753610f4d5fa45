//! Opens the store that a configuration names: for the agent, for `howdah ctl`, for whatever comes.
//!
//! ```text
//!   stores.rs      StoreConfig ─► Stores ─► dyn Store, as many as there are threads
//!   kubeconfig.rs  kubectl's configuration ─► address and credentials        credential.rs  programs that give tokens
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod credential;
mod kubeconfig;
mod stores;

pub use howdah_dcs_kube::KubeStore;
pub use kubeconfig::{ApiAccess, Kubeconfig, KubeconfigError};
pub use stores::{SetupError, Stores};
