//! Retention over one archive, or over those of all majors of a cluster.

use howdah_archive::{ArchiveError, Settings, Store, apply, catalogue};
use howdah_backup::retention::{Plan, Policy, plan};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{cli::RetentionArgs, output, soon};

/// What is to be kept.
pub(crate) fn policy(args: &RetentionArgs) -> Policy {
    Policy {
        count: args.keep,
        window: args
            .window
            .and_then(|window| SignedDuration::try_from(window).ok()),
        from: args.from.clone(),
        at_least: args.at_least,
        verified: args.at_least_verified,
        is_retired: false,
    }
}

/// Plans, prints, and deletes unless it is only asked what would be.
pub(crate) async fn run(
    store: &Store,
    settings: &Settings,
    policy: &Policy,
    dry_run: bool,
) -> Result<Plan, ArchiveError> {
    let catalogue = catalogue(store, settings, soon()).await?;
    let plan = plan(&catalogue, policy, Timestamp::now());
    if !dry_run && plan.refused.is_none() {
        apply(store, &plan, |_| {}).await?;
    }
    Ok(plan)
}

/// A plan for people.
pub(crate) fn text(place: &str, plan: &Plan, dry_run: bool) -> String {
    let mut rows = vec![vec!["Backup".to_owned(), "What".to_owned(), "Why".to_owned()]];
    let mut all: Vec<(&String, &str, &String)> =
        plan.keep.iter().map(|(name, why)| (name, "stays", why)).collect();
    let goes = if dry_run { "would go" } else { "deleted" };
    all.extend(plan.delete.iter().map(|(name, why)| (name, goes, why)));
    all.sort();
    rows.extend(
        all.into_iter()
            .map(|(name, what, why)| vec![name.clone(), what.to_owned(), why.clone()]),
    );
    let mut text = format!("{place}\n");
    text.push_str(&output::table(&rows));
    if let Some(why) = &plan.refused {
        text.push_str(&format!("Nothing is deleted: {why}.\n"));
    } else {
        let verb = if dry_run {
            "would be deleted"
        } else {
            "are deleted"
        };
        text.push_str(&format!(
            "{} objects {verb}, {} of them WAL.\n",
            plan.objects.len(),
            plan.wal
        ));
    }
    text
}

/// A plan for programs.
pub(crate) fn document(place: &str, plan: &Plan, dry_run: bool) -> Value {
    json!({
        "archive": place,
        "dry_run": dry_run,
        "keep": plan.keep,
        "delete": plan.delete.iter().map(|(name, why)| json!({"backup_name": name, "reason": why})).collect::<Vec<_>>(),
        "objects": plan.objects.len(),
        "wal": plan.wal,
        "refused": plan.refused,
    })
}
