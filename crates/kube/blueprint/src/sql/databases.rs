use howdah_manifest::{Manifest, is_database_name};
use howdah_pgconf::sql_identifier;

use super::{Catalogue, Role, Statement, statement};
use crate::Settings;

/// Statements for the databases of a manifest, plain and prepared; and those whose owner is no role, which are not made.
/// `CREATE DATABASE` runs outside of a transaction.
#[must_use]
pub fn databases(
    manifest: &Manifest,
    settings: &Settings,
    roles: &[Role],
    have: &Catalogue,
) -> (Vec<Statement>, Vec<String>) {
    let mut wanted: Vec<(String, String)> = manifest
        .spec
        .databases
        .iter()
        .map(|(name, owner)| (name.clone(), owner.clone()))
        .collect();
    for name in manifest.spec.prepared(&manifest.name).into_keys() {
        let owner = format!("{name}_owner");
        wanted.retain(|(other, _)| *other != name);
        wanted.push((name, owner));
    }
    let (mut out, mut skipped) = (Vec::new(), Vec::new());
    for (name, owner) in wanted.iter().filter(|(name, _)| is_database_name(name)) {
        let known = roles.iter().any(|role| role.name == *owner)
            || have.roles.contains_key(owner)
            || *owner == settings.super_username;
        if !known {
            skipped.push(format!("database {name}: its owner {owner} does not exist"));
            continue;
        }
        match have.databases.get(name) {
            None => out.push(statement(
                format!(
                    "CREATE DATABASE {} OWNER {}",
                    sql_identifier(name),
                    sql_identifier(owner)
                ),
                format!("create database {name}"),
            )),
            Some(now) if now != owner => out.push(statement(
                format!(
                    "ALTER DATABASE {} OWNER TO {}",
                    sql_identifier(name),
                    sql_identifier(owner)
                ),
                format!("give database {name} to {owner}"),
            )),
            Some(_) => {}
        }
    }
    (out, skipped)
}
