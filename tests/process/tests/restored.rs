//! Clusters and replicas that the user's own programs make: `bootstrap.method` and `create_replica_methods`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::Command,
    time::Duration,
};

use howdah_testkit::{Lab, LabOptions, connect};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn config_of(lab: &Lab, member: usize) -> (std::path::PathBuf, Value) {
    let file = lab.dir().join(format!("{}.yml", lab.members[member].name));
    let config = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    (file, config)
}

/// Runs one of PostgreSQL's programs as the owner of the lab's data.
fn run_as_owner(lab: &Lab, program: &str, args: &[&str]) {
    let (_, config) = config_of(lab, 0);
    let bin = Path::new(config["postgresql"]["bin_dir"].as_str().unwrap());
    let owner = std::fs::metadata(lab.members[0].data_dir()).unwrap();
    let mut command = Command::new(bin.join(program));
    command.args(args).env("PGPASSWORD", "rep").current_dir(lab.dir());
    if rustix::process::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn rows(lab: &Lab, member: usize) -> i64 {
    let client = connect(&lab.members[member].address()).await.unwrap().0;
    let row = client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap();
    row.get(0)
}

/// A cluster with an archive, a backup and a restore point after which more rows came. Its passwords are not those of the
/// cluster that is made of it.
async fn archived() -> Lab {
    let mut lab = Lab::new(LabOptions::howdah(1).unwrap()).await.unwrap();
    let archive = lab.dir().join("archive");
    let (file, mut config) = config_of(&lab, 0);
    let copies = format!("mkdir -p {0} && cp %p {0}/%f", archive.display());
    config["bootstrap"]["dcs"]["postgresql"]["parameters"]["archive_mode"] = json!("on");
    config["bootstrap"]["dcs"]["postgresql"]["parameters"]["archive_command"] = json!(copies);
    std::fs::write(file, config.to_string()).unwrap();
    lab.start_all().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    let address = lab.members[0].address();
    let client = connect(&address).await.unwrap().0;
    let backup = lab.dir().join("backup").display().to_string();
    let conninfo = format!("host=127.0.0.1 port={} user=replicator", address.port);
    let sql = "CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 100)";
    client.batch_execute(sql).await.unwrap();
    run_as_owner(
        &lab,
        "pg_basebackup",
        &["-D", &backup, "-d", &conninfo, "-X", "none", "-c", "fast"],
    );
    for sql in [
        "INSERT INTO kept SELECT generate_series(1, 20)",
        "SELECT pg_create_restore_point('before')",
        "INSERT INTO kept SELECT generate_series(1, 3)",
        "ALTER ROLE postgres PASSWORD 'of another cluster'",
        "SELECT pg_switch_wal()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    howdah_testkit::until("the WAL is archived", PATIENCE, async || {
        let sql = "SELECT coalesce(last_archived_wal, '') >= pg_walfile_name(pg_current_wal_lsn() - 16777216) \
            FROM pg_stat_archiver";
        client.query_one(sql, &[]).await.is_ok_and(|row| row.get(0))
    })
    .await
    .unwrap();
    lab
}

#[tokio::test]
async fn a_cluster_is_made_from_a_backup_and_its_replica_by_the_users_program() {
    let source = archived().await;
    let mut lab = Lab::new(LabOptions::howdah(2).unwrap()).await.unwrap();
    let calls = lab.dir().join("calls");
    let restore = lab.dir().join("restore.sh");
    let text = format!(
        "echo \"restore $*\" >>{}\nfor arg; do case $arg in --datadir=*) dir=${{arg#*=}};; esac; done\n\
         cp -a {}/. \"$dir\"\necho \"recovery_target_xid = '99999'\" >>\"$dir/postgresql.base.conf\"\n",
        calls.display(),
        source.dir().join("backup").display()
    );
    std::fs::write(&restore, text).unwrap();
    let copy = lab.dir().join("copy.sh");
    let text = format!(
        "echo \"copy $*\" >>{}\nfor arg; do case $arg in\n--datadir=*) dir=${{arg#*=}};;\n\
         --connstring=*) from=${{arg#*=}};;\nesac; done\n\"$BIN/pg_basebackup\" -D \"$dir\" -d \"$from\" -X stream -c fast\n\
         touch \"$dir/recovery.signal\"\nsleep 20 &\n",
        calls.display()
    );
    std::fs::write(&copy, text).unwrap();
    // Of another server, as far as anybody can tell.
    let foreign = lab.dir().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("kept"), "").unwrap();
    let broken = lab.dir().join("broken.sh");
    std::fs::write(
        &broken,
        format!(
            "echo \"broken $*\" >>{}\ntouch {}/m1/data/PG_VERSION\nln -s {} {}/m1/data/pg_wal\nexit 3\n",
            calls.display(),
            lab.dir().display(),
            foreign.display(),
            lab.dir().display()
        ),
    )
    .unwrap();
    for member in 0..2 {
        let (file, mut config) = config_of(&lab, member);
        let bin = config["postgresql"]["bin_dir"].as_str().unwrap().to_owned();
        config["bootstrap"]["method"] = json!("pitr");
        config["bootstrap"]["pitr"] = json!({
            "command": format!("sh {}\n", restore.display()),
            "backup": "newest",
            "recovery_conf": {
                "restore_command": format!("cp {}/%f %p", source.dir().join("archive").display()),
                "recovery_target_name": "before",
            },
        });
        let section = &mut config["postgresql"];
        section["create_replica_methods"] = json!(["broken", "own", "basebackup"]);
        section["broken"] =
            json!({"command": format!("sh {}", broken.display()), "no_params": true, "level": 3});
        section["own"] = json!({"command": format!("BIN={bin} sh {}", copy.display())});
        std::fs::write(file, config.to_string()).unwrap();
    }
    lab.members[0].start().unwrap();
    howdah_testkit::until("the restored cluster has a primary", PATIENCE, async || {
        lab.primary().await == Some(0)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
    assert_eq!(
        rows(&lab, 0).await,
        120,
        "up to the restore point, and with this cluster's passwords"
    );
    lab.members[1].start().unwrap();
    lab.wait_healthy(PATIENCE).await.unwrap();
    assert_eq!(rows(&lab, 1).await, 120);

    assert!(
        foreign.join("kept").exists(),
        "a link of the program's was followed"
    );
    assert!(!lab.members[1].data_dir().join("recovery.signal").exists());
    let hba = std::fs::read_to_string(lab.members[0].data_dir().join("pg_hba.conf")).unwrap();
    assert!(!hba.contains("Until this cluster is made"), "{hba}");
    let conf = std::fs::read_to_string(lab.members[0].data_dir().join("postgresql.conf")).unwrap();
    assert!(!conf.contains("'before'"), "{conf}");
    let called = std::fs::read_to_string(&calls).unwrap();
    let lines: Vec<&str> = called.lines().collect();
    let [restored, failed, copied] = lines[..] else {
        panic!("{lines:?}")
    };
    let data = lab.members[0].data_dir();
    assert_eq!(
        restored,
        format!("restore --backup=newest --scope=lab --datadir={}", data.display())
    );
    assert_eq!(failed, "broken --level=3");
    assert!(
        copied.starts_with("copy --scope=lab --role=replica --datadir=") && copied.contains("--connstring="),
        "{copied}"
    );
}

#[tokio::test]
async fn a_restore_ends_with_its_agent_and_is_begun_again() {
    let mut lab = Lab::new(LabOptions::howdah(1).unwrap()).await.unwrap();
    let (file, mut config) = config_of(&lab, 0);
    let runs = lab.dir().join("runs");
    config["bootstrap"]["method"] = json!("slow");
    config["bootstrap"]["slow"] =
        json!({"command": format!("echo run >>{}; sleep 600; true", runs.display())});
    std::fs::write(file, config.to_string()).unwrap();
    let begun = async |times: usize| {
        howdah_testkit::until("the restore has begun", PATIENCE, async || {
            std::fs::read_to_string(&runs).is_ok_and(|text| text.lines().count() == times)
        })
        .await
        .unwrap();
    };
    for times in 1..=2 {
        lab.members[0].start().unwrap();
        begun(times).await;
        let guard = lab.members[0].guard_pid().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &guard])
                .status()
                .unwrap()
                .success()
        );
        let code = lab.members[0].wait_exit(Duration::from_secs(20)).await.unwrap();
        assert_eq!(code, Some(0), "{}", lab.logs());
    }
}
