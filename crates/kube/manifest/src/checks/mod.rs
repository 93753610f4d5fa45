//! Checks of a spec beyond its schema, a file for each part. The first reason that keeps it from being acted on is returned.

pub(crate) mod containers;
pub(crate) mod origin;
pub(crate) mod pooler;
