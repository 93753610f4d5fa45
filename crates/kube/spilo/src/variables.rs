//! Every variable of Spilo's contract, and what becomes of it here.

use crate::{Environment, SpiloError};

/// What a variable does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says is done.
    Acted,
    /// It asks for this, which is not there yet: a note names it.
    Later(&'static str),
    /// It says more about this, and asks for nothing by itself.
    Details(&'static str),
    /// It asks for this, without which there can be no member: the container does not start.
    Refused(&'static str),
    /// It asks for this data, which cannot be had yet: no new cluster is made, and an existing one goes on.
    Data(&'static str),
    /// It changes nothing, for this reason.
    Without(&'static str),
}

/// A variable, or several: a `*` at the end stands for any characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub effect: Effect,
}

const REMOTE: &str = "archives over SSH or Swift";
const LOGS: &str = "log shipping";
const NO_CLOUD: &str = "no cloud is asked for anything";

macro_rules! table {
    ($($effect:expr => $($name:literal)*;)*) => {
        &[$($(Variable { name: $name, effect: $effect },)*)*]
    };
}

use Effect::{Acted, Data, Details, Later, Refused, Without};

/// The table. A name is looked up from the top, so that an exact one precedes the pattern that it would match.
pub const VARIABLES: &[Variable] = table! {
    // General
    Acted => "SCOPE" "PGHOME" "RW_DIR" "PGROOT" "PGDATA" "PGLOG" "LC_ALL" "PGVERSION" "PGPORT" "APIPORT" "INITDB_LOCALE";
    Acted => "SPILO_CONFIGURATION" "PATRONI_CONFIGURATION" "CALLBACK_SCRIPT";
    Acted => "POD_IP" "POD_NAMESPACE" "NAMESPACE" "RESTAPI_CONNECT_ADDRESS" "PG_CONNECT_ADDRESS";
    Without("locales are those of the system") => "USE_OLD_LOCALES";
    Without("howdah agent's own log has levels: PATRONI_LOG_LEVEL") => "DEBUG";
    Without("no store is started in the container: ETCD3_HOSTS names one") => "DEVELOP";
    Without(NO_CLOUD) => "SPILO_PROVIDER";
    Later("cron jobs of your own in the pod") => "CRONTAB";
    Later("the extension pg_mon") => "ENABLE_PG_MON";
    Later("a pooler in the pod") => "PGBOUNCER_CONFIGURATION" "PGBOUNCER_AUTHENTICATION";
    Without("Spilo overwrites it, and bg_mon is not in the image") => "BGMON_LISTEN_IP";
    // Users
    Acted => "PGUSER_SUPERUSER" "PGPASSWORD_SUPERUSER" "PGUSER_STANDBY" "PGPASSWORD_STANDBY";
    Acted => "PGUSER_ADMIN" "HUMAN_ROLE" "ALLOW_NOSSL";
    Without("the role has no password and nobody logs in as it, as since Patroni 4") => "PGPASSWORD_ADMIN" "USE_ADMIN";
    Without("there is no PAM service in the image: people log in by a password or a certificate") => "PAM_OAUTH2";
    // TLS
    Acted => "SSL_CERTIFICATE_FILE" "SSL_PRIVATE_KEY_FILE" "SSL_CA_FILE" "SSL_CRL_FILE";
    Acted => "SSL_CERTIFICATE" "SSL_PRIVATE_KEY" "SSL_CA" "SSL_CRL";
    Acted => "SSL_RESTAPI_CERTIFICATE_FILE" "SSL_RESTAPI_PRIVATE_KEY_FILE" "SSL_RESTAPI_CA_FILE";
    Acted => "SSL_RESTAPI_CERTIFICATE" "SSL_RESTAPI_PRIVATE_KEY" "SSL_RESTAPI_CA";
    Without("changed certificates are always taken") => "SSL_TEST_RELOAD";
    // Stores
    Acted => "DCS_ENABLE_KUBERNETES_API" "KUBERNETES_USE_CONFIGMAPS" "KUBERNETES_LABELS" "KUBERNETES_BOOTSTRAP_LABELS";
    Acted => "KUBERNETES_SCOPE_LABEL" "KUBERNETES_ROLE_LABEL" "KUBERNETES_LEADER_LABEL_VALUE";
    Acted => "KUBERNETES_FOLLOWER_LABEL_VALUE" "KUBERNETES_STANDBY_LEADER_LABEL_VALUE" "KUBERNETES_SERVICE_*" "KUBERNETES_PORT*";
    Without("the agent speaks to the API's Service") => "KUBERNETES_BYPASS_API_SERVICE";
    Acted => "ETCD3_DISCOVERY_DOMAIN" "ETCD3_*" "CONSUL_*" "ZOOKEEPER_*";
    Refused("a store that speaks etcd's protocol of version 2; etcd 3 is named by ETCD3_ in the place of ETCD_") => "ETCD_*";
    Refused("Exhibitor, which has no successor; ZooKeeper is named by ZOOKEEPER_HOSTS") => "EXHIBITOR_*";
    // Another cluster's data
    Acted => "STANDBY_HOST" "STANDBY_PORT" "STANDBY_PRIMARY_SLOT_NAME";
    Acted => "CLONE_METHOD" "CLONE_SCOPE" "CLONE_HOST" "CLONE_PORT" "CLONE_USER" "CLONE_PASSWORD" "CLONE_PGPASS";
    Later("a clone that pauses at its target") => "USE_PAUSE_AT_RECOVERY_TARGET";
    Data("to follow an archive over SSH or Swift") => "STANDBY_WALG_SSH_PREFIX" "STANDBY_WAL_SWIFT_BUCKET" "STANDBY_WALE_SWIFT_PREFIX";
    Data("for data from an archive over SSH or Swift") => "CLONE_WALG_SSH_PREFIX" "CLONE_WAL_SWIFT_BUCKET" "CLONE_WALE_SWIFT_PREFIX";
    Acted => "STANDBY_*" "CLONE_*";
    // Backups
    Acted => "WAL_S3_BUCKET" "WALE_S3_PREFIX" "WALG_S3_PREFIX" "WAL_GS_BUCKET" "WAL_GCS_BUCKET" "WALE_GS_PREFIX"
        "WALG_GS_PREFIX" "WALG_AZ_PREFIX" "WALG_FILE_PREFIX" "WAL_BUCKET_SCOPE_PREFIX" "WAL_BUCKET_SCOPE_SUFFIX" "WALE_ENV_DIR"
        "BACKUP_SCHEDULE" "BACKUP_NUM_TO_RETAIN" "WALG_BACKUP_FROM_REPLICA" "WAL_RESTORE_TIMEOUT";
    Later(REMOTE) => "WALG_SSH_PREFIX" "WAL_SWIFT_BUCKET" "WALE_SWIFT_PREFIX";
    Details(REMOTE) => "SWIFT_*" "SSH_USERNAME" "SSH_PORT" "SSH_PRIVATE_KEY_PATH";
    Later("encryption with OpenPGP, without which nothing is archived: use WALG_LIBSODIUM_KEY") => "WALG_PGP_KEY"
        "WALG_PGP_KEY_PATH" "WALE_GPG_KEY_ID";
    Later("archives of old versions, whose path has no major version") => "ENABLE_WAL_PATH_COMPAT";
    Acted => "WALE_BACKUP_THRESHOLD_MEGABYTES" "WALE_BACKUP_THRESHOLD_PERCENTAGE";
    Later("a proxy before the store") => "http_proxy" "https_proxy";
    Without("the store is reached directly") => "no_proxy";
    Without("there is one archiver, which writes WAL-G's layout and reads WAL-E's too") => "USE_WALG" "USE_WALG_BACKUP"
        "USE_WALG_RESTORE";
    Without("every backup is a full one") => "WALG_DELTA_MAX_STEPS" "WALG_DELTA_ORIGIN";
    Without("WAL is never overwritten") => "WALG_PREVENT_WAL_OVERWRITE";
    Without("nothing is kept there") => "WALE_TMPDIR";
    Acted => "WALE_*" "WALG_*" "AWS_REGION" "AWS_DEFAULT_REGION" "AWS_ENDPOINT" "AWS_ENDPOINT_URL" "AWS_ACCESS_KEY_ID"
        "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" "AWS_S3_FORCE_PATH_STYLE" "AWS_ROLE_ARN" "AWS_WEB_IDENTITY_TOKEN_FILE"
        "AWS_EC2_METADATA_SERVICE_ENDPOINT" "GOOGLE_APPLICATION_CREDENTIALS" "AZURE_*" "HOWDAH_ARCHIVE_TIMEOUT"
        "HOWDAH_RESTORE_TIMEOUT" "HOWDAH_WAL_BACKLOG_LIMIT" "HOWDAH_DRILL_SCHEDULE";
    Without("EC2's tags and addresses are not set") => "EIP_ALLOCATION" "AWS_LEADER_TAG_VALUE";
    Without("the archiver has no use for it") => "AWS_*";
    // Logs
    Acted => "LOG_SHIP_HOURLY";
    Later(LOGS) => "LOG_S3_BUCKET";
    Details(LOGS) => "LOG_S3_ENDPOINT" "LOG_S3_TAGS" "LOG_SHIP_SCHEDULE" "LOG_GROUP_BY_DATE" "LOG_TMPDIR" "LOG_ENV_DIR"
        "LOG_BUCKET_SCOPE_PREFIX" "LOG_BUCKET_SCOPE_SUFFIX" "LOG_S3_KEY" "LOG_S3_SECRET";
    // Ours
    Acted => "HOWDAH_SPILO_OBJECTS";
};

/// What a variable of this name does; `None`: it is not in the contract.
#[must_use]
pub fn effect_of(name: &str) -> Option<Effect> {
    let matches = |variable: &&Variable| match variable.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == variable.name,
    };
    VARIABLES.iter().find(matches).map(|variable| variable.effect)
}

/// What the variables ask for that is not there yet: a sentence for each thing.
///
/// # Errors
/// A variable that must not be ignored.
pub(crate) fn not_acted_on(env: &Environment) -> Result<Vec<String>, SpiloError> {
    let set: Vec<(&str, Effect)> = env
        .names()
        .filter_map(|name| Some((name, effect_of(name)?)))
        .collect();
    for (name, effect) in &set {
        if let Refused(what) = effect
            && !(name.starts_with("ETCD_") && env.with_prefix("ETCD3_").next().is_some())
        {
            return Err(SpiloError::Bad {
                name: (*name).to_owned(),
                reason: format!("asks for {what}, which is not supported"),
            });
        }
    }
    let mut notes: Vec<String> = Vec::new();
    let asked: Vec<&str> = set
        .iter()
        .filter_map(|(_, effect)| match effect {
            Later(what) => Some(*what),
            _ => None,
        })
        .collect();
    for (at, what) in asked.iter().enumerate() {
        if asked.iter().take(at).any(|before| before == what) {
            continue;
        }
        let names: Vec<&str> = set
            .iter()
            .filter(|(_, effect)| matches!(effect, Later(of) | Details(of) if of == what))
            .map(|(name, _)| *name)
            .collect();
        let has = if names.len() == 1 { "has" } else { "have" };
        notes.push(format!(
            "{what}: not supported yet; {} {has} no effect",
            names.join(", ")
        ));
    }
    Ok(notes)
}

/// A variable that asks for data which cannot be had, and for what.
pub(crate) fn of_other_data(env: &Environment) -> Option<(&str, &'static str)> {
    env.names().find_map(|name| match effect_of(name)? {
        Data(what) => Some((name, what)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(vars: &[(&str, &str)]) -> Result<Vec<String>, SpiloError> {
        let env: Environment = vars
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        not_acted_on(&env)
    }

    #[test]
    fn a_name_has_one_row_and_an_exact_one_precedes_its_pattern() {
        for (at, variable) in VARIABLES.iter().enumerate() {
            let before = &VARIABLES[..at];
            let hidden = before.iter().find(|other| match other.name.strip_suffix('*') {
                Some(prefix) => variable.name.starts_with(prefix),
                None => variable.name == other.name,
            });
            assert_eq!(hidden, None, "{} is never reached", variable.name);
        }
    }

    #[test]
    fn one_sentence_says_what_is_missing_and_which_variables_ask_for_it() {
        let told = notes(&[
            ("WALG_SSH_PREFIX", "ssh://h"),
            ("SSH_USERNAME", "u"),
            ("SWIFT_USER", ""),
            ("LOG_S3_BUCKET", "l"),
        ])
        .unwrap();
        assert_eq!(
            told,
            [
                "log shipping: not supported yet; LOG_S3_BUCKET has no effect",
                "archives over SSH or Swift: not supported yet; SSH_USERNAME, WALG_SSH_PREFIX have no effect",
            ]
        );
        // Clouds put these into every container.
        assert!(
            notes(&[("AWS_REGION", "eu"), ("AWS_ROLE_ARN", "r"), ("PATH", "/bin")])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_store_that_is_not_known_is_refused() {
        for name in ["EXHIBITOR_HOSTS", "ETCD_HOSTS"] {
            assert!(notes(&[(name, "x")]).is_err(), "{name}");
        }
        // A set for both versions, as some templates have.
        assert!(
            notes(&[("ETCD_HOST", "x:2379"), ("ETCD3_HOST", "x:2379")])
                .unwrap()
                .is_empty()
        );
    }
}
