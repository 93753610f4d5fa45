use howdah_manifest::{Condition, Manifest, MemberStatus, Status, phase};
use howdah_overview::{ArchiveMark, MemberOverview, MemberRole, MemberState};
use howdah_types::PgState;
use serde_json::{Value, json};

use crate::{Pod, Step};

/// What the operator knows of a cluster after a pass.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Pods and members were read; if not, what was known of them stays.
    pub looked: bool,
    /// The pods.
    pub pods: Vec<Pod>,
    /// What the agents say.
    pub rows: Vec<MemberOverview>,
    /// The cluster has been bootstrapped.
    pub initialized: bool,
    /// What comes next for the members.
    pub step: Option<Step>,
    /// Bytes copied and to copy, of base backups under way.
    pub copy: Option<(u64, u64)>,
    /// Roles were compared and are as they should be; how many.
    pub roles: Option<usize>,
    /// Databases likewise.
    pub databases: Option<usize>,
    /// The connection poolers; `None`: there is none.
    pub poolers: Option<Poolers>,
    /// Things that were not done, with their reasons.
    pub skipped: Vec<String>,
    /// Roles and databases were compared, now or by an earlier pass whose findings are in `skipped`.
    pub compared: bool,
    /// What is worth knowing and nothing that the manifest asks for.
    pub remarks: Vec<String>,
    /// What the members say that their machine lacks and the manifest does not ask for.
    pub machine: Vec<String>,
    /// Changes that this cluster cannot take while it lives, such as a smaller volume.
    pub not_changed: Vec<String>,
    /// How the archive is, as the leader says it; `None` if there is none, or nothing was said.
    pub archive: Option<ArchiveMark>,
    /// The major that runs.
    pub version: Option<String>,
    /// Something failed.
    pub error: Option<String>,
}

/// The pods of a cluster's connection poolers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poolers {
    /// How many take connections.
    pub ready: u32,
    /// How many there should be.
    pub wanted: u32,
    /// Older pods are still being replaced.
    pub replacing: bool,
    /// Why another one does not run.
    pub trouble: Option<String>,
}

/// One step of a creation or change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// A short name.
    pub name: &'static str,
    /// It is finished.
    pub done: bool,
    /// What is known of it.
    pub detail: String,
}

/// The stages from a manifest to a cluster, in order.
#[must_use]
pub fn stages(manifest: &Manifest, observed: &Observed) -> Vec<Stage> {
    let wanted = manifest.spec.number_of_instances as usize;
    let members: Vec<&MemberOverview> = observed.rows.iter().collect();
    let primary = members.iter().find(|member| member.leads());
    let streaming = members.iter().filter(|member| member.streams()).count();
    let replicas = wanted.saturating_sub(1);
    let trouble = observed
        .pods
        .iter()
        .find_map(|pod| Some(format!("{}: {}", pod.name, pod.trouble.as_ref()?)));
    let creating: Vec<&str> = observed
        .rows
        .iter()
        .filter(|row| row.state.is_copying())
        .map(|row| row.name.as_str())
        .collect();
    let copy = match (observed.copy, creating.as_slice()) {
        (Some((have, total)), _) if total > 0 => {
            format!("{} of {} MB", have / 1_000_000, total.max(have) / 1_000_000)
        }
        (_, []) if streaming >= replicas => format!("{replicas} of {replicas}"),
        (_, []) => String::new(),
        (_, names) => names.join(", "),
    };
    let counted = |count: Option<usize>| count.map(|n| n.to_string()).unwrap_or_default();
    let stage = |name, done, detail| Stage { name, done, detail };
    let pods = observed.pods.len();
    let mut out = vec![
        stage(
            "objects",
            pods == wanted && trouble.is_none(),
            trouble.unwrap_or_else(|| format!("{pods} of {wanted} pods")),
        ),
        stage("bootstrap", observed.initialized || wanted == 0, String::new()),
        stage(
            "leader",
            primary.is_some() || wanted == 0,
            primary.map(|member| member.name.clone()).unwrap_or_default(),
        ),
    ];
    if replicas > 0 {
        out.push(stage("copy", streaming >= replicas, copy));
        out.push(stage(
            "streaming",
            streaming >= replicas,
            format!("{streaming} of {replicas} replicas"),
        ));
    }
    // A standby cluster has those of the cluster that it follows.
    if wanted > 0 && manifest.spec.standby.is_none() {
        out.push(stage("roles", observed.roles.is_some(), counted(observed.roles)));
        out.push(stage(
            "databases",
            observed.databases.is_some(),
            counted(observed.databases),
        ));
    }
    if let Some(poolers) = &observed.poolers {
        let (ready, wanted) = (poolers.ready, poolers.wanted);
        let counted = if poolers.replacing {
            "its pods are replaced".to_owned()
        } else {
            format!("{ready} of {wanted} pods")
        };
        let detail = match &poolers.trouble {
            Some(why) => format!("{counted}, {why}"),
            None => counted,
        };
        let done = ready >= wanted && !poolers.replacing;
        out.push(stage("pooler", done, detail));
    }
    out
}

/// The status to write. `now` is RFC 3339; conditions that stay keep the time since when they hold.
#[must_use]
pub fn status(
    manifest: &Manifest,
    observed: &Observed,
    before: &Status,
    template_version: u32,
    now: &str,
) -> Status {
    let stages = stages(manifest, observed);
    let all_done = stages.iter().all(|stage| stage.done);
    let settled = matches!(observed.step, Some(Step::Nothing) | None);
    let ready = all_done && settled && observed.error.is_none();
    let primary = observed.rows.iter().find(|row| row.leads());
    let was_ready = before.condition("Ready").is_some_and(|c| c.status == "True")
        || [phase::RUNNING, phase::UPDATING, phase::UPDATE_FAILED].contains(&before.phase.as_str());
    let phase = match (&observed.error, ready, was_ready) {
        (Some(_), _, true) => phase::UPDATE_FAILED,
        (Some(_), _, false) => phase::CREATE_FAILED,
        (None, true, _) => phase::RUNNING,
        (None, false, true) => phase::UPDATING,
        (None, false, false) => phase::CREATING,
    };
    let doing = match (&observed.error, &observed.step) {
        (Some(error), _) => error.clone(),
        (None, Some(step)) if !settled => step_text(step),
        _ => stages
            .iter()
            .find(|stage| !stage.done)
            .map(|stage| format!("{} {}", stage.name, stage.detail).trim().to_owned())
            .unwrap_or_default(),
    };
    let mut unapplied = manifest.unsupported.clone();
    unapplied.extend(observed.not_changed.iter().cloned());
    let mut left_out = Vec::new();
    if !unapplied.is_empty() {
        left_out.push(format!("not acted on: {}", unapplied.join(", ")));
    }
    left_out.extend(observed.skipped.iter().cloned());
    left_out.extend(
        manifest
            .skipped
            .iter()
            .map(|path| format!("spec.{path} is no identifier and was skipped")),
    );
    left_out.extend(manifest.wrong_parameters.iter().map(|(name, why)| {
        format!("spec.postgresql.parameters.{name}: {why}; it is left out, and the value before stays")
    }));
    left_out.extend(manifest.notes.iter().cloned());
    let failed = |row: &&MemberOverview| row.state == MemberState::Server(PgState::StartFailed);
    left_out.extend(
        observed
            .rows
            .iter()
            .filter(failed)
            .map(|row| format!("{}: PostgreSQL does not start", row.name)),
    );
    // The members say how they differ; while none runs, what they said last still holds. What follows from the manifest itself
    // is known now.
    let silent = !observed.looked || observed.rows.is_empty();
    let was_fully = before
        .condition("FullyApplied")
        .is_some_and(|c| c.status == "True");
    let of_manifest = |note: &str| note.starts_with("spec.") || note.starts_with("not acted on: ");
    for note in before.notes.iter().filter(|_| silent && !was_fully) {
        if !left_out.contains(note) && !of_manifest(note) {
            left_out.push(note.clone());
        }
    }

    let mut conditions = Conditions {
        before,
        generation: manifest.generation,
        now,
        out: Vec::new(),
    };
    match primary {
        None if !observed.looked => conditions.keep("Available"),
        Some(row) if row.is_primary() => conditions.set(
            "Available",
            true,
            "PrimaryWritable",
            &format!("{} takes writes", row.name),
        ),
        Some(row) => conditions.set(
            "Available",
            true,
            "StandbyCluster",
            &format!("{} follows another cluster and takes no writes", row.name),
        ),
        None => conditions.set("Available", false, "NoPrimary", "no member takes writes"),
    }
    if ready {
        conditions.set(
            "Ready",
            true,
            "AsSpecified",
            "all members are as the manifest says",
        );
    } else if observed.error.is_some() {
        conditions.set("Ready", false, "Failed", &doing);
    } else {
        conditions.set("Ready", false, "InProgress", &doing);
    }
    let has_none = manifest.spec.number_of_instances == 0 || manifest.spec.standby.is_some();
    let compared = observed.compared || has_none;
    if left_out.is_empty() && !compared {
        let message = "roles and databases were not compared yet";
        conditions.set("FullyApplied", false, "NotCompared", message);
    } else if left_out.is_empty() {
        conditions.set(
            "FullyApplied",
            true,
            "AllFields",
            "every field of the manifest is acted on",
        );
    } else {
        conditions.set("FullyApplied", false, "UnsupportedFields", &left_out.join("; "));
    }
    conditions.set(
        "Progressing",
        !ready,
        if ready { "Settled" } else { "Working" },
        &doing,
    );
    match &observed.archive {
        Some(archive) => conditions.of_archive(archive),
        // Between two leaders nothing is said.
        None => {
            conditions.keep("BackupHealthy");
            conditions.keep("RestoreProved");
        }
    }

    Status {
        phase: phase.to_owned(),
        observed_generation: manifest.generation,
        conditions: conditions.out,
        members: if observed.looked {
            observed.rows.iter().map(member_status).collect()
        } else {
            before.members.clone()
        },
        leader: if observed.looked {
            primary.map(|row| row.name.clone())
        } else {
            before.leader.clone()
        },
        version: observed.version.clone().or_else(|| before.version.clone()),
        notes: left_out
            .into_iter()
            .chain(observed.remarks.iter().cloned())
            .collect(),
        machine: if silent {
            before.machine.clone()
        } else {
            observed.machine.clone()
        },
        progress: Some(progress(&stages)),
        template_version,
        other: before.other.clone(),
    }
}

/// Whether a status says that this generation is in place.
#[must_use]
pub fn ready(status: &Status, generation: i64) -> bool {
    status.holds("Ready", generation)
}

/// The status of a manifest that cannot be acted on.
#[must_use]
pub fn invalid(reason: &str, generation: i64, before: &Status, now: &str) -> Status {
    let mut conditions = Conditions {
        before,
        generation,
        now,
        out: before
            .conditions
            .iter()
            .filter(|condition| condition.kind == "Available")
            .cloned()
            .collect(),
    };
    conditions.set("Ready", false, "InvalidManifest", reason);
    conditions.set("FullyApplied", false, "InvalidManifest", reason);
    conditions.set("Progressing", false, "InvalidManifest", reason);
    Status {
        phase: phase::INVALID.to_owned(),
        observed_generation: generation,
        conditions: conditions.out,
        ..before.clone()
    }
}

fn step_text(step: &Step) -> String {
    match step {
        Step::Nothing => String::new(),
        Step::Wait(reason) => reason.clone(),
        Step::Replace { pod, reason } => format!("{pod} is replaced: {reason}"),
        Step::Switchover { from, to, reason } => format!("{from} hands over to {to}: {reason}"),
        Step::Restart { member, reason } => format!("{member} restarts {reason}"),
    }
}

fn progress(stages: &[Stage]) -> Value {
    stages
        .iter()
        .map(|stage| json!({"step": stage.name, "done": stage.done, "detail": stage.detail}))
        .collect()
}

fn member_status(row: &MemberOverview) -> MemberStatus {
    let role = match row.role {
        MemberRole::Leader => "primary",
        other => other.as_str(),
    };
    MemberStatus {
        name: row.name.clone(),
        role: role.to_owned(),
        state: row.state.to_string(),
        lag: row.received.map(|position| position.lag),
        timeline: row.timeline.map(|timeline| u64::from(timeline.0)),
        pending_restart: row.pending_restart.is_some(),
    }
}

struct Conditions<'a> {
    before: &'a Status,
    generation: i64,
    now: &'a str,
    out: Vec<Condition>,
}

impl Conditions<'_> {
    /// Whether WAL is archived and there is a backup, and whether a drill has restored one.
    fn of_archive(&mut self, archive: &ArchiveMark) {
        let since = archive.restorable_from.as_ref().map_or_else(String::new, |from| {
            format!(", every moment from {from} on can be restored")
        });
        match (&archive.troubles[..], &archive.last_backup) {
            ([], Some(last)) => {
                let message = format!("the newest backup is of {last}{since}");
                self.set("BackupHealthy", true, "Archiving", &message);
            }
            ([], None) => self.set("BackupHealthy", false, "NoBackup", "there is no backup yet"),
            (troubles, _) => self.set("BackupHealthy", false, "ArchiveTrouble", &troubles.join("; ")),
        }
        match (&archive.not_proved, &archive.proved) {
            (Some(reason), _) => self.set("RestoreProved", false, "DrillFailed", reason),
            (None, Some(at)) => {
                let message = format!("a backup was restored, replayed and looked at, on {at}");
                self.set("RestoreProved", true, "DrillSucceeded", &message);
            }
            // No drill was run, or its backup is gone by now: that is no trouble.
            (None, None) => self.keep("RestoreProved"),
        }
    }

    fn keep(&mut self, kind: &str) {
        self.out.extend(self.before.condition(kind).cloned());
    }

    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let since = self
            .before
            .condition(kind)
            .filter(|before| before.status == status && !before.last_transition_time.is_empty())
            .map_or_else(
                || self.now.to_owned(),
                |before| before.last_transition_time.clone(),
            );
        self.out.push(Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since,
            observed_generation: self.generation,
        });
    }
}
