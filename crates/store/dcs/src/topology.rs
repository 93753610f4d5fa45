use std::collections::BTreeMap;

use howdah_types::MemberName;

/// `/failsafe`: the members that must agree that the leader goes on without the store, itself included, with the address of each one's
/// API (`http[s]://host:port/patroni`). Only they may lead.
pub type Topology = BTreeMap<MemberName, String>;
