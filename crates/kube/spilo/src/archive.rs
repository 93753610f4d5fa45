//! Archives that a container's variables name: a directory with a file for each variable, as Spilo writes them, and the
//! commands that read it.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Map, Value, json};

use crate::{Environment, Facts, SpiloError, objects::quoted};

/// Whose archive it is; each has variables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Where the cluster archives to.
    Own,
    /// Where a new cluster's data comes from.
    Clone,
    /// What a standby cluster follows.
    Standby,
}

impl Whose {
    fn prefix(self) -> &'static str {
        match self {
            Whose::Own => "",
            Whose::Clone => "CLONE_",
            Whose::Standby => "STANDBY_",
        }
    }

    fn scope(self) -> String {
        format!("{}SCOPE", self.prefix())
    }

    /// A variable of this archive.
    fn get<'a>(self, env: &'a Environment, name: &str) -> Option<&'a str> {
        env.get(&format!("{}{name}", self.prefix()))
    }
}

/// An archive.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    /// The directory of its variables.
    pub(crate) dir: PathBuf,
    /// The variables.
    variables: BTreeMap<String, String>,
}

/// Variables that say how a store is spoken with. An archive of another cluster has its own, or the container's.
const ACCESS: &[&str] = &["AWS_", "AZURE_", "GOOGLE_APPLICATION_CREDENTIALS"];

/// Variables that name files of the container.
const FILES: &[&str] = &[
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "WALG_LIBSODIUM_KEY_PATH",
    "WALG_S3_CA_CERT_FILE",
    "WALG_FILE_PREFIX",
];

/// Stores by the variables that name a prefix, those that name a bucket, and their scheme.
const STORES: &[(&[&str], &[&str], &str)] = &[
    (&["WALE_S3_PREFIX", "WALG_S3_PREFIX"], &["WAL_S3_BUCKET"], "s3"),
    (
        &["WALE_GS_PREFIX", "WALG_GS_PREFIX"],
        &["WAL_GS_BUCKET", "WAL_GCS_BUCKET"],
        "gs",
    ),
    (&["WALG_AZ_PREFIX"], &[], "azure"),
    (&["WALG_FILE_PREFIX"], &[], "file"),
];

/// The archive that the variables name, if they do.
pub(crate) fn archive(
    env: &Environment,
    facts: &Facts,
    whose: Whose,
    major: u32,
) -> Result<Option<Archive>, SpiloError> {
    let Some((names, place)) = place(env, whose, major)? else {
        return Ok(None);
    };
    let mut variables = BTreeMap::new();
    for name in env.names() {
        let Some(own) = name.strip_prefix(whose.prefix()) else {
            continue;
        };
        let is_setting = own.starts_with("WALG_") || own.starts_with("WALE_") || own.starts_with("HOWDAH_");
        let is_access = ACCESS.iter().any(|access| own.starts_with(access));
        // Of Spilo's own, that are not for the archiver.
        let is_spilos = matches!(own, "WALE_ENV_DIR" | "WALE_TMPDIR" | "HOWDAH_SPILO_OBJECTS")
            || own.starts_with("WALE_BACKUP_THRESHOLD_");
        if (is_setting || is_access) && !is_spilos {
            variables.insert(own.to_owned(), env.get(name).unwrap_or_default().to_owned());
        }
    }
    if whose != Whose::Own {
        for access in ACCESS {
            // All of one kind or none: a key of one account is of no use with the secret of another.
            if !variables.keys().any(|name| name.starts_with(access)) {
                let containers = env.names().filter(|name| name.starts_with(access));
                variables.extend(
                    containers.map(|name| (name.to_owned(), env.get(name).unwrap_or_default().to_owned())),
                );
            }
        }
    }
    for name in names {
        variables.insert((*name).to_owned(), place.clone());
    }
    let is_own_endpoint =
        variables.contains_key("AWS_ENDPOINT") || variables.contains_key("WALE_S3_ENDPOINT");
    if names.contains(&"WALG_S3_PREFIX") && !is_own_endpoint {
        variables
            .entry("WALG_S3_SSE".to_owned())
            .or_insert_with(|| "AES256".to_owned());
    }
    for name in FILES {
        if let Some(value) = variables.get_mut(*name) {
            let path = value.strip_prefix("file://").unwrap_or(value);
            *value = facts.path(path).display().to_string();
        }
    }
    if let Some(seconds) = env.get("WAL_RESTORE_TIMEOUT").filter(|seconds| *seconds != "0") {
        let timeout = variables.entry("HOWDAH_RESTORE_TIMEOUT".to_owned());
        timeout.or_insert_with(|| seconds.to_owned());
    }
    variables.insert(
        "PGUSER".to_owned(),
        env.or("PGUSER_SUPERUSER", "postgres").to_owned(),
    );
    Ok(Some(Archive {
        dir: directory(env, facts, whose),
        variables,
    }))
}

/// The names under which the place is said, and the place.
fn place(
    env: &Environment,
    whose: Whose,
    major: u32,
) -> Result<Option<(&'static [&'static str], String)>, SpiloError> {
    for (prefixes, buckets, scheme) in STORES {
        if let Some(prefix) = prefixes.iter().find_map(|name| whose.get(env, name)) {
            return Ok(Some((prefixes, prefix.to_owned())));
        }
        let Some(bucket) = buckets.iter().find_map(|name| whose.get(env, name)) else {
            continue;
        };
        let scope = env.get(&whose.scope()).ok_or(SpiloError::Bad {
            name: whose.scope(),
            reason: "is not set: the archive in the bucket has its name".to_owned(),
        })?;
        let before = format!("{}WAL_BUCKET_SCOPE_PREFIX", whose.prefix());
        let before = match (env.raw(&before), env.get("POD_NAMESPACE")) {
            (Some(prefix), _) => prefix.to_owned(),
            (None, Some(namespace)) if whose == Whose::Own && namespace != "default" => {
                format!("{namespace}-")
            }
            (None, _) => String::new(),
        };
        let behind = whose.get(env, "WAL_BUCKET_SCOPE_SUFFIX").unwrap_or_default();
        let bucket = bucket.trim_end_matches('/');
        return Ok(Some((
            prefixes,
            format!("{scheme}://{bucket}/spilo/{before}{scope}{behind}/wal/{major}"),
        )));
    }
    Ok(None)
}

/// Where Spilo has it, below the directory for what a run needs.
fn directory(env: &Environment, facts: &Facts, whose: Whose) -> PathBuf {
    if whose == Whose::Own
        && let Some(path) = env.get("WALE_ENV_DIR")
    {
        return facts.path(path);
    }
    let name = match whose {
        Whose::Own => "env".to_owned(),
        Whose::Clone => format!("env-clone-{}", env.or("CLONE_SCOPE", "")),
        Whose::Standby => format!("env-standby-{}", env.or("STANDBY_SCOPE", "")),
    };
    let name: String = name
        .chars()
        .map(|char| if char == '/' { '-' } else { char })
        .collect();
    facts.run_dir.join("etc/wal-e.d").join(name.trim_end_matches('-'))
}

impl Archive {
    /// The files of the directory.
    pub(crate) fn files(&self) -> Vec<(PathBuf, String)> {
        let files = self.variables.iter();
        // envdir takes the first line, and a zero byte for the end of one.
        files
            .map(|(name, value)| {
                (
                    self.dir.join(name),
                    format!("{}\n", value.trim_end().replace('\n', "\0")),
                )
            })
            .collect()
    }

    fn command(&self, facts: &Facts, words: &str) -> String {
        let program = quoted(&facts.program.display().to_string());
        format!(
            "{program} {words} --env-dir {}",
            quoted(&self.dir.display().to_string())
        )
    }

    /// For `archive_command`.
    pub(crate) fn push(&self, facts: &Facts) -> String {
        format!("{} \"%p\"", self.command(facts, "wal push"))
    }

    /// For `restore_command`.
    pub(crate) fn get(&self, facts: &Facts) -> String {
        format!("{} \"%f\" \"%p\"", self.command(facts, "wal get"))
    }

    /// For `restore_command` of members that stream from each other as well: an outage of the store must not stop a promotion.
    pub(crate) fn get_or_stream(&self, facts: &Facts) -> String {
        format!("{} --or-stream \"%f\" \"%p\"", self.command(facts, "wal get"))
    }

    /// What makes a replica, unless a copy of the leader is cheaper.
    pub(crate) fn replica(
        &self,
        facts: &Facts,
        data_dir: &str,
        major: u32,
        megabytes: u32,
        percentage: u32,
    ) -> String {
        let bare = self.restore(facts, data_dir, major, &Target::default());
        format!("{bare} --max-wal-megabytes {megabytes} --max-wal-percentage {percentage}")
    }

    /// What fills a data directory. It is refused beforehand if the target cannot be reached.
    pub(crate) fn restore(&self, facts: &Facts, data_dir: &str, major: u32, target: &Target<'_>) -> String {
        let mut command = format!(
            "{} {} --bare --major {major}",
            self.command(facts, "backup restore"),
            quoted(data_dir)
        );
        if let Some(time) = target.time {
            command.push_str(&format!(" --to {}", quoted(time)));
        }
        if let Some(timeline) = target.timeline {
            command.push_str(&format!(" --timeline {}", quoted(timeline)));
        }
        command
    }
}

/// Where a clone's recovery ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target<'a> {
    time: Option<&'a str>,
    timeline: Option<&'a str>,
    exclusive: bool,
}

impl<'a> Target<'a> {
    /// As the variables say.
    pub(crate) fn of_clone(env: &'a Environment) -> Self {
        let is_off =
            |value: &str| matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "0" | "no");
        Target {
            time: env.get("CLONE_TARGET_TIME"),
            timeline: env
                .get("CLONE_TARGET_TIMELINE")
                .filter(|timeline| *timeline != "latest"),
            exclusive: env.get("CLONE_TARGET_INCLUSIVE").is_some_and(is_off),
        }
    }

    /// Settings for recovery.
    pub(crate) fn recovery(&self, restore_command: &str) -> Map<String, Value> {
        let mut settings = Map::new();
        let mut set = |name: &str, value: &str| settings.insert(name.to_owned(), json!(value));
        set("restore_command", restore_command);
        set("recovery_target_action", "promote");
        set("recovery_target_timeline", self.timeline.unwrap_or("latest"));
        if let Some(time) = self.time {
            // PostgreSQL takes no 'Z' in this setting.
            let time = time
                .strip_suffix(['Z', 'z'])
                .map_or_else(|| time.to_owned(), |local| format!("{local}+00:00"));
            set("recovery_target_time", &time);
            set(
                "recovery_target_inclusive",
                if self.exclusive { "false" } else { "true" },
            );
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn facts() -> Facts {
        Facts {
            root: PathBuf::from("/"),
            run_dir: PathBuf::from("/run"),
            program: PathBuf::from("/usr/local/bin/howdah"),
            ..Facts::default()
        }
    }

    fn of(pairs: &[(&str, &str)], whose: Whose) -> Option<Archive> {
        archive(&env(pairs), &facts(), whose, 15).unwrap()
    }

    #[test]
    fn the_operators_bucket() {
        let archive = of(
            &[
                ("SCOPE", "acid-a"),
                ("POD_NAMESPACE", "prod"),
                ("WAL_S3_BUCKET", "backups"),
                ("WAL_BUCKET_SCOPE_PREFIX", ""),
                ("WAL_BUCKET_SCOPE_SUFFIX", "/5d4c"),
                ("AWS_ACCESS_KEY_ID", "key"),
                ("WALE_TMPDIR", "/tmp"),
                ("PGPASSWORD_SUPERUSER", "secret"),
            ],
            Whose::Own,
        )
        .unwrap();
        let files: BTreeMap<_, _> = archive.files().into_iter().collect();
        let file = |name: &str| {
            files
                .get(&PathBuf::from("/run/etc/wal-e.d/env").join(name))
                .map(String::as_str)
        };
        let place = Some("s3://backups/spilo/acid-a/5d4c/wal/15\n");
        assert_eq!(file("WALG_S3_PREFIX"), place);
        assert_eq!(file("WALE_S3_PREFIX"), place);
        assert_eq!(file("WALG_S3_SSE"), Some("AES256\n"));
        assert_eq!(file("AWS_ACCESS_KEY_ID"), Some("key\n"));
        assert_eq!((file("PGPASSWORD_SUPERUSER"), file("WALE_TMPDIR")), (None, None));
        assert_eq!(
            archive.push(&facts()),
            "'/usr/local/bin/howdah' wal push --env-dir '/run/etc/wal-e.d/env' \"%p\""
        );
    }

    #[test]
    fn without_the_operator_a_namespace_is_in_the_path() {
        let pairs = [("SCOPE", "a"), ("POD_NAMESPACE", "prod"), ("WAL_GS_BUCKET", "b")];
        let archive = of(&pairs, Whose::Own).unwrap();
        assert_eq!(archive.variables["WALG_GS_PREFIX"], "gs://b/spilo/prod-a/wal/15");
        let endpoint = of(
            &[
                ("WALG_S3_PREFIX", "s3://b/x"),
                ("AWS_ENDPOINT", "http://minio:9000"),
            ],
            Whose::Own,
        );
        assert!(!endpoint.unwrap().variables.contains_key("WALG_S3_SSE"));
        assert!(of(&[("SCOPE", "a")], Whose::Own).is_none());
        assert!(archive_error(&[("WAL_S3_BUCKET", "b")]).contains("SCOPE"));
    }

    fn archive_error(pairs: &[(&str, &str)]) -> String {
        archive(&env(pairs), &facts(), Whose::Own, 15)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_clones_archive_has_its_own_access_or_the_containers() {
        let mut pairs = vec![
            ("SCOPE", "new"),
            ("CLONE_SCOPE", "old"),
            ("CLONE_WAL_S3_BUCKET", "b"),
            ("CLONE_WAL_BUCKET_SCOPE_SUFFIX", "/uid"),
            ("AWS_ACCESS_KEY_ID", "own"),
            ("AWS_SECRET_ACCESS_KEY", "own"),
            ("CLONE_TARGET_TIME", "2026-11-25T10:00:00+01:00"),
        ];
        let archive = of(&pairs, Whose::Clone).unwrap();
        assert_eq!(archive.variables["WALG_S3_PREFIX"], "s3://b/spilo/old/uid/wal/15");
        assert_eq!(archive.variables["AWS_ACCESS_KEY_ID"], "own");
        let environment = env(&pairs);
        let command = archive.restore(&facts(), "/data", 15, &Target::of_clone(&environment));
        assert!(
            command.ends_with("'/data' --bare --major 15 --to '2026-11-25T10:00:00+01:00'"),
            "{command}"
        );
        pairs.push(("CLONE_AWS_ACCESS_KEY_ID", "other"));
        let archive = of(&pairs, Whose::Clone).unwrap();
        assert_eq!(archive.variables["AWS_ACCESS_KEY_ID"], "other");
        assert!(!archive.variables.contains_key("AWS_SECRET_ACCESS_KEY"));
    }
}
