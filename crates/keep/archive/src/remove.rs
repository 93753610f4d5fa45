//! Deletes what a plan of retention or a person names.

use howdah_backup::{Backup, Catalogue, Layout, retention::Plan};

use crate::{ArchiveError, Store, create::soon};

/// Deletes the objects of a plan in their order. `told` hears how many of them are gone.
///
/// # Errors
/// The first that could not be deleted; those before it are gone, and a second run goes on.
pub async fn apply(store: &Store, plan: &Plan, mut told: impl FnMut(usize)) -> Result<(), ArchiveError> {
    if let Some(why) = &plan.refused {
        return Err(ArchiveError::Refused(why.clone()));
    }
    // Far more than deleting takes, far less than for ever.
    let deadline = howdah_clock::now() + std::time::Duration::from_secs(24 * 3600);
    // One after the other: a store deletes a batch in any order.
    let (sentinels, rest): (Vec<String>, Vec<String>) =
        plan.objects.iter().cloned().partition(|name| is_sentinel(name));
    let (wal, parts): (Vec<String>, Vec<String>) = rest.into_iter().partition(|name| is_wal(name));
    let mut done = 0;
    for stage in [sentinels, parts, wal] {
        store.delete(&stage, deadline, |count| told(done + count)).await?;
        done += stage.len();
    }
    let backups = format!("{}/", Layout::BACKUPS);
    let folders: std::collections::BTreeSet<&str> = plan
        .objects
        .iter()
        .filter_map(|name| name.strip_prefix(&backups)?.split_once('/'))
        .map(|(backup, _)| backup)
        .collect();
    for backup in folders {
        store.tidy(&Layout::backup(backup)).await;
    }
    Ok(())
}

fn is_sentinel(name: &str) -> bool {
    Layout::backup_of_sentinel(name).is_some()
}

fn is_wal(name: &str) -> bool {
    name.strip_prefix(Layout::WAL)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Deletes one backup, and leaves its WAL to retention.
///
/// # Errors
/// Others build on it, it is permanent, or it is being made.
pub async fn delete(
    store: &Store,
    catalogue: &Catalogue,
    backup: &Backup,
    force: bool,
) -> Result<(), ArchiveError> {
    let refused = |why: String| Err(ArchiveError::Refused(why));
    let is_base = |other: &&Backup| {
        catalogue
            .base_of(other)
            .is_some_and(|base| base.name == backup.name)
    };
    let built_on = catalogue.backups.iter().find(is_base);
    if let Some(other) = built_on {
        return refused(format!(
            "{} builds on {}: delete that first",
            other.name, backup.name
        ));
    }
    if backup
        .running_until
        .is_some_and(|until| until > jiff::Timestamp::now())
    {
        return refused(format!("{} is being made", backup.name));
    }
    let is_permanent = backup
        .sentinel
        .as_ref()
        .is_some_and(|sentinel| sentinel.is_permanent);
    if is_permanent && !force {
        return refused(format!("{} is permanent: --force deletes it", backup.name));
    }
    let complete = catalogue
        .backups
        .iter()
        .filter(|other| other.is_complete())
        .count();
    if complete == 1 && backup.is_complete() && !force {
        return refused(format!(
            "{} is the only complete backup, without which nothing can be restored: --force deletes it",
            backup.name
        ));
    }
    let (sentinel, rest) = backup.objects.split_at(usize::from(backup.is_complete()));
    store.delete(sentinel, soon(), |_| {}).await?;
    store.delete(rest, soon(), |_| {}).await?;
    store.tidy(&Layout::backup(&backup.name)).await;
    Ok(())
}

/// Deletes all that an archive has, whose archive it is last; or only counts it.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn everything(store: &Store, confirm: bool) -> Result<usize, ArchiveError> {
    let mut objects = Vec::new();
    for folder in [Layout::BACKUPS, Layout::WAL, Layout::CLAIMS, Layout::GIVEN_UP] {
        let found = store.list(folder, None, soon()).await?;
        objects.extend(found.into_iter().map(|object| object.name));
    }
    if store.length(Layout::IDENTITY, soon()).await.is_ok() {
        objects.push(Layout::IDENTITY.to_owned());
    }
    let count = objects.len();
    if confirm {
        let plan = Plan {
            objects,
            ..Plan::default()
        };
        apply(store, &plan, |_| {}).await?;
    }
    Ok(count)
}
