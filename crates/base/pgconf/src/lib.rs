//! PostgreSQL's own file formats and value rules: configuration files, connection strings, `pg_control`, timeline
//! history, GUC values.
//!
//! Pure: text and bytes in, values out. Knows nothing of clusters or agents and must not depend on them.
//!
//! ```text
//!   files.rs    postgresql.conf, pg_hba.conf, pg_ident.conf        guc.rs      values that compare as PostgreSQL compares
//!   conninfo.rs primary_conninfo, DSN, .pgpass                     managed.rs  GUCs that only the agent sets
//!   hba.rs      what is wrong with lines of pg_hba.conf
//!   timeline.rs which timeline a replica has received
//!   parameters.rs  the catalogue of parameters of each major    lists.rs   strings that are lists
//!   control.rs  pg_control, pg_controldata                         history.rs  timeline history files, rewind need
//! ```

mod conninfo;
mod control;
mod crc;
mod files;
mod guc;
mod hba;
mod history;
mod lists;
mod managed;
mod parameters;
mod quote;
mod slot_state;
mod timeline;

pub use conninfo::{Conninfo, pgpass_line, pgpass_password};
pub use control::{ControlData, ControlError, DbState, controldata_field};
pub use files::{ConfFile, lines_file, quote_value};
pub use guc::{GucKind, normalised, parse_bool, parse_number, same_value, unit_scale};
pub use hba::{hba_errors, hba_include};
pub use history::{Divergence, HistoryLine, divergence, parse_history, share_history};
pub use managed::{AGENT_OWNED, MANAGED, ManagedGuc, managed_values};
pub use parameters::{
    CATALOGUED, Context, Parameter, Wrong, parameter, parameter_error, parameter_names, wrong_everywhere,
};
pub use quote::{sql_identifier, sql_literal};
pub use slot_state::check_slot_state;
pub use timeline::{TimelineEvidence, newest_at, wal_file};
