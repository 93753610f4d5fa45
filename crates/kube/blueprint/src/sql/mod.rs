//! The SQL that makes a cluster's roles and databases what the manifest says.
//!
//! It only adds: roles, databases and memberships are not dropped, since what is missing from a manifest may have been
//! made by another client, and data with it. The exceptions are roles that a rotation has replaced, and those of people who have
//! left, which are renamed.

mod databases;
mod people;
mod pooler;
mod prepared;
mod roles;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

pub use databases::databases;
pub use people::leavers;
pub use pooler::{LOOKUP_BODY, LOOKUP_SETTING, LookupFacts, lookup};
pub use prepared::{DatabaseFacts, prepared_database, prepared_roles};
pub use roles::{Role, impossible_memberships, more_rights, roles, withheld};
pub use wanted::{dated_role, passed_over, wanted_roles};

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// What it does, for logs and events; never holds a password.
    pub what: String,
    /// The server may refuse it, as with an extension that is not installed: it is noted, and all else goes on.
    pub optional: bool,
}

/// A role as the database has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleFacts {
    /// Attributes that are on, such as `SUPERUSER`.
    pub on: BTreeSet<String>,
    /// Roles it is a member of.
    pub member_of: BTreeSet<String>,
    /// The password in its Secret is the one that is set.
    pub password_matches: bool,
    /// Some password is set.
    pub has_password: bool,
    /// Parameters of the role, as the server shows them.
    pub parameters: BTreeMap<String, String>,
}

/// What a cluster has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Roles by name.
    pub roles: BTreeMap<String, RoleFacts>,
    /// Databases and their owners.
    pub databases: BTreeMap<String, String>,
}

fn statement(sql: String, what: String) -> Statement {
    Statement {
        sql,
        what,
        optional: false,
    }
}

fn optional(sql: String, what: String) -> Statement {
    Statement {
        optional: true,
        ..statement(sql, what)
    }
}

/// Statements of which none may be missing when the first one is there: several in one message are one transaction.
fn together(parts: &[Statement], what: String) -> Statement {
    let texts: Vec<&str> = parts.iter().map(|part| part.sql.as_str()).collect();
    statement(texts.join("; "), what)
}
