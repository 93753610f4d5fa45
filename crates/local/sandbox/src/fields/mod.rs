//! Who owns which field: `managedFields`, and server-side apply on top of it.

mod apply;
mod lists;
mod set;

pub(crate) use apply::{apply, track};
pub(crate) use lists::{ListKind, Lists};
