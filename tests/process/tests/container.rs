//! A container of the image, configured by Spilo's variables alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits"
)]

use std::{fs, path::Path, process::Command, time::Duration};

use howdah_testkit::{Container, Lab, LabOptions, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and no member of its own.
async fn store() -> Lab {
    let mut lab = Lab::new(LabOptions::howdah(1).unwrap()).await.unwrap();
    lab.members.clear();
    lab
}

/// Waits until a condition of the database holds.
async fn holds(container: &Container, condition: &str) {
    let address = container.address();
    let held = until(condition, PATIENCE, async || {
        let Ok((client, _)) = howdah_testkit::connect(&address).await else {
            return false;
        };
        let row = client
            .query_one(&format!("SELECT ({condition})::boolean"), &[])
            .await;
        row.is_ok_and(|row| row.get::<_, Option<bool>>(0) == Some(true))
    })
    .await;
    assert!(held.is_ok(), "{condition}\n{}", container.log());
}

/// Waits until the cluster is made: the server takes connections before.
async fn leads(container: &Container) {
    let url = format!("http://127.0.0.1:{}/primary", container.api);
    let led = until("it leads", PATIENCE, async || {
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-o", "/dev/null", &url])
            .status()
            .unwrap()
            .success()
    })
    .await;
    assert!(led.is_ok(), "{}", container.log());
}

/// Files `NAME.crt` and `NAME.key`, of a certificate that signs itself.
fn make_certificate(dir: &Path, name: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=127.0.0.1",
    ]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.arg("-keyout").arg(dir.join(format!("{name}.key")));
    openssl.arg("-out").arg(dir.join(format!("{name}.crt")));
    let made = openssl.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn what_scripts_of_spilos_users_expect_is_there() {
    let lab = store().await;
    let container = Container::start(
        &lab,
        "acid-first",
        0,
        &[
            ("HUMAN_ROLE", "people"),
            ("HOWDAH_SPILO_OBJECTS", "with-log-tables"),
            ("CALLBACK_SCRIPT", "echo called >>calls"),
            ("LOG_S3_BUCKET", "logs"),
        ],
    )
    .unwrap();
    leads(&container).await;
    assert!(
        container.log().contains("LOG_S3_BUCKET has no effect"),
        "{}",
        container.log()
    );
    let (client, _) = howdah_testkit::connect(&container.address()).await.unwrap();
    // The roles are there before the Service leads any client here.
    client
        .batch_execute("GRANT people TO admin; SET ROLE admin")
        .await
        .unwrap();
    let made = "SELECT user_management.create_application_user('shop')";
    let password: String = client.query_one(made, &[]).await.unwrap().get(0);
    assert_eq!(password.len(), 20);
    client.batch_execute("RESET ROLE").await.unwrap();
    // A new database has the schemas too.
    client.batch_execute("CREATE DATABASE shop").await.unwrap();
    let shop = format!("postgresql://postgres@127.0.0.1:{}/shop", container.port);
    let mut psql = Command::new("psql");
    psql.env("PGPASSWORD", &container.address().password).args([
        "-XqAtc",
        "SELECT count(*) >= 0 FROM metric_helpers.index_bloat",
        &shop,
    ]);
    assert_eq!(String::from_utf8_lossy(&psql.output().unwrap().stdout), "t\n");
    // Administrators cannot make themselves superusers.
    client.batch_execute("SET ROLE admin").await.unwrap();
    let refused = client
        .batch_execute(
            "SELECT user_management.create_application_user_or_change_password('postgres', 'mine')",
        )
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501", "{refused}");
    client.batch_execute("RESET ROLE").await.unwrap();
    for sql in [
        "SELECT count(*) FROM metric_helpers.table_bloat",
        "SELECT count(*) FROM metric_helpers.index_bloat",
        "SELECT count(*) FROM metric_helpers.pg_stat_statements",
        "SELECT count(*) FROM postgres_log",
        "SELECT count(*) FROM failed_authentication_7",
    ] {
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let on_socket = format!(
        "host={} port={} user=postgres",
        container.path("run/postgresql").display(),
        container.port
    );
    let psql = |database: &str, sql: &str| {
        let mut psql = Command::new("psql");
        psql.env(
            "PGOPTIONS",
            "-c default_transaction_read_only=off -c role=none -c idle_session_timeout=0",
        );
        let done = psql
            .args([
                "-XqAt",
                "-d",
                &format!("{on_socket} dbname='{database}'"),
                "-c",
                sql,
            ])
            .output()
            .unwrap();
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stdout).trim().to_owned(),
            done.stderr,
        )
    };
    // Whoever owns a database puts functions of the same names into it.
    client
        .batch_execute(
            "CREATE ROLE eve LOGIN IN ROLE admin; CREATE ROLE backup LOGIN IN ROLE pg_read_all_data",
        )
        .await
        .unwrap();
    client
        .batch_execute("CREATE DATABASE eves OWNER admin")
        .await
        .unwrap();
    let planted = "SET SESSION AUTHORIZATION eve; SET ROLE admin; ALTER SCHEMA public RENAME TO old; CREATE SCHEMA public; \
        CREATE FUNCTION public.pg_stat_statements(showtext boolean) RETURNS SETOF old.pg_stat_statements LANGUAGE plpgsql \
        AS $$ BEGIN EXECUTE 'ALTER ROLE eve SUPERUSER'; RETURN; END $$";
    let (planted, _, said) = psql("eves", planted);
    assert!(planted, "{}", String::from_utf8_lossy(&said));
    let (read, ..) = psql(
        "eves",
        "SET SESSION AUTHORIZATION eve; SET ROLE admin; SELECT count(*) FROM metric_helpers.pg_stat_statements(true)",
    );
    assert!(read);
    for role in ["backup", "people", "robot_zmon", "postgres"] {
        let call = format!(
            "SET ROLE admin; SELECT user_management.create_application_user_or_change_password('{role}', 'mine')"
        );
        assert!(!psql("postgres", &call).0, "{role}");
        assert!(
            !psql(
                "postgres",
                &format!("SET ROLE admin; SELECT user_management.drop_role('{role}')")
            )
            .0,
            "{role}"
        );
    }
    // A promotion goes on after databases that cannot be connected to, or end the session, or have odd names.
    for sql in [
        "CREATE DATABASE \"a\nb\"",
        "CREATE DATABASE aaa",
        "ALTER DATABASE aaa SET local_preload_libraries = 'nonesuch'",
        "CREATE DATABASE aab",
        "ALTER DATABASE aab SET idle_session_timeout = '1ms'",
        "CREATE DATABASE aac OWNER eve",
        "ALTER DATABASE aac SET role = 'eve'",
        "ALTER DATABASE aac SET default_transaction_read_only = on",
        "CREATE DATABASE zzz",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    for database in ["a\nb", "aac", "zzz"] {
        let (dropped, _, said) = psql(database, "DROP SCHEMA metric_helpers CASCADE");
        assert!(dropped, "{database}: {}", String::from_utf8_lossy(&said));
    }
    let mut hook = Command::new(lab.dir().join("howdah"));
    hook.args([
        "entrypoint",
        "role-changed",
        "--psql",
        "psql",
        "--admin-role",
        "admin",
        "--human-role",
        "people",
    ]);
    hook.args([
        "--conninfo",
        &format!("{on_socket} dbname=postgres"),
        "on_role_change",
        "primary",
        "acid-first",
    ]);
    let said = String::from_utf8(hook.output().unwrap().stdout).unwrap();
    assert!(
        said.contains("database aaa: ") && !said.contains("zzz") && !said.contains("aac"),
        "{said}"
    );
    for database in ["a\nb", "aab", "aac", "zzz"] {
        let (_, there, said) = psql(
            database,
            "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'metric_helpers'",
        );
        assert_eq!(
            there,
            "postgres",
            "{database}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    let (_, superusers, _) = psql(
        "postgres",
        "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolsuper",
    );
    assert_eq!(superusers, "postgres");
    let called = until("the callback is called", PATIENCE, async || {
        fs::read_to_string(container.path("calls")).is_ok_and(|calls| calls.contains("called"))
    })
    .await;
    assert!(called.is_ok(), "{}", container.log());
}

#[tokio::test]
async fn replaced_certificates_are_taken_without_being_asked() {
    let lab = store().await;
    let certificates = lab.dir().join("certificates");
    fs::create_dir(&certificates).unwrap();
    for name in ["one", "two"] {
        make_certificate(&certificates, name);
    }
    let text = |name: &str| fs::read_to_string(certificates.join(name)).unwrap();
    let container = Container::start(
        &lab,
        "acid-tls",
        0,
        &[
            ("SSL_CERTIFICATE", &text("one.crt")),
            ("SSL_PRIVATE_KEY", &text("one.key")),
            ("SSL_RESTAPI_CERTIFICATE", &text("one.crt")),
            ("SSL_RESTAPI_PRIVATE_KEY", &text("one.key")),
            ("HOWDAH_SPILO_OBJECTS", "off"),
        ],
    )
    .unwrap();
    holds(&container, "NOT pg_is_in_recovery()").await;
    holds(&container, "to_regnamespace('user_management') IS NULL").await;
    let url = format!("https://127.0.0.1:{}/patroni", container.api);
    let trusts = |name: &str| {
        let mut curl = Command::new("curl");
        let done = curl
            .args(["-sf", "-o", "/dev/null", "--cacert"])
            .arg(certificates.join(name))
            .arg(&url)
            .status();
        done.unwrap().success()
    };
    // A client of the server that trusts one certificate alone.
    let connects = |name: &str| {
        let info = format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=verify-full sslrootcert={}",
            container.port,
            certificates.join(name).display()
        );
        let mut psql = Command::new("psql");
        psql.env("PGPASSWORD", &container.address().password)
            .args(["-Xqc", "SELECT 1", &info]);
        psql.output().unwrap().status.success()
    };
    assert!(trusts("one.crt") && !trusts("two.crt"), "{}", container.log());
    assert!(connects("one.crt") && !connects("two.crt"), "{}", container.log());
    for (from, to) in [
        ("two.key", "server.key"),
        ("two.crt", "server.crt"),
        ("two.key", "restapi.key"),
        ("two.crt", "restapi.crt"),
    ] {
        // In place: owner and mode stay.
        fs::write(container.path("run/certs").join(to), text(from)).unwrap();
    }
    let taken = until("the new certificates are served", PATIENCE, async || {
        trusts("two.crt") && connects("two.crt")
    })
    .await;
    assert!(taken.is_ok(), "{}", container.log());
    assert!(!trusts("one.crt") && !connects("one.crt"));
}

#[tokio::test]
async fn one_cluster_is_copied_and_followed_by_others() {
    let lab = store().await;
    let first = Container::start(&lab, "acid-first", 0, &[]).unwrap();
    leads(&first).await;
    let (client, _) = howdah_testkit::connect(&first.address()).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept AS SELECT 42 AS n")
        .await
        .unwrap();
    let port = first.port.to_string();
    let copy = [
        ("CLONE_METHOD", "CLONE_WITH_BASEBACKUP"),
        ("CLONE_SCOPE", "acid-first"),
        ("CLONE_HOST", "127.0.0.1"),
        ("CLONE_PORT", &port),
        ("CLONE_USER", "standby"),
        ("CLONE_PASSWORD", "of the standby"),
        ("PGPASSWORD_STANDBY", "of the copy"),
    ];
    let copy = Container::start(&lab, "acid-copy", 0, &copy).unwrap();
    let follower = [("STANDBY_HOST", "127.0.0.1"), ("STANDBY_PORT", port.as_str())];
    let follower = Container::start(&lab, "acid-follower", 0, &follower).unwrap();
    holds(
        &copy,
        "NOT pg_is_in_recovery() AND to_regclass('kept') IS NOT NULL",
    )
    .await;
    holds(
        &follower,
        "pg_is_in_recovery() AND to_regclass('kept') IS NOT NULL",
    )
    .await;
    client
        .batch_execute("CREATE TABLE later AS SELECT 43 AS n")
        .await
        .unwrap();
    holds(&follower, "to_regclass('later') IS NOT NULL").await;
    holds(&copy, "to_regclass('later') IS NULL").await;
    // Nobody but its owner reads the password.
    let passfile = fs::metadata(copy.path("run/postgresql/pgpass-clone")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&passfile.permissions()) & 0o77,
        0
    );
}

#[tokio::test]
async fn a_user_without_a_name_runs_a_member() {
    let lab = store().await;
    if fs::metadata(lab.dir())
        .map(|meta| std::os::unix::fs::MetadataExt::uid(&meta))
        .unwrap()
        == rustix::process::getuid().as_raw()
    {
        eprintln!("Skipped: only root can run a process as another user.");
        return;
    }
    let container = Container::start_as(&lab, "acid-random", 0, &[], Some((1_000_640_000, 0))).unwrap();
    holds(&container, "NOT pg_is_in_recovery()").await;
}

#[tokio::test]
async fn data_that_cannot_be_had_makes_no_cluster() {
    let lab = store().await;
    let backup = [("CLONE_METHOD", "CLONE_WITH_WALE"), ("CLONE_SCOPE", "acid-old")];
    let mut container = Container::start(&lab, "acid-restored", 0, &backup).unwrap();
    let code = container.wait_exit(PATIENCE).await.unwrap();
    assert_ne!(code, Some(0));
    let log = container.log();
    assert!(log.contains("CLONE_METHOD asks for data from a backup"), "{log}");
    let half = [("SSL_CERTIFICATE", "x")];
    let mut container = Container::start(&lab, "acid-half", 0, &half).unwrap();
    assert_ne!(container.wait_exit(PATIENCE).await.unwrap(), Some(0));
    assert!(
        container
            .log()
            .contains("SSL_CERTIFICATE is set without SSL_PRIVATE_KEY"),
        "{}",
        container.log()
    );
}

/// A directory below a container's root, for its user.
fn directory(container: &Container, name: &str) -> std::path::PathBuf {
    use std::os::unix::fs::{MetadataExt, chown};
    let path = container.path(name);
    fs::create_dir_all(&path).unwrap();
    let owner = fs::metadata(&container.root).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    path
}

#[tokio::test]
async fn an_archive_of_spilos_variables_feeds_clones_and_standbys() {
    let lab = store().await;
    let variables = [("WALG_FILE_PREFIX", "/archive"), ("BACKUP_NUM_TO_RETAIN", "3")];
    let container = Container::start(&lab, "acid-first", 0, &variables).unwrap();
    let archive = directory(&container, "/archive");
    leads(&container).await;
    let env = container.root.join("run");
    let listed = || {
        let mut howdah = Command::new(lab.dir().join("howdah"));
        let output = howdah
            .args(["backup", "list"])
            .env("WALG_FILE_PREFIX", &archive)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // The first backup is not waited for until the night.
    let made = until("there is a backup", PATIENCE, async || {
        listed().contains("complete")
    })
    .await;
    assert!(made.is_ok(), "{}\n{}\n{env:?}", listed(), container.log());
    let (client, _) = howdah_testkit::connect(&container.address()).await.unwrap();
    client
        .batch_execute("CREATE TABLE a AS SELECT generate_series(1, 1000) AS id")
        .await
        .unwrap();
    let row = client
        .query_one("SELECT now()::text, pg_sleep(0.01)::text", &[])
        .await
        .unwrap();
    let moment: String = row.get(0);
    client.batch_execute("INSERT INTO a VALUES (0)").await.unwrap();
    client.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    holds(&container, "(SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver)").await;

    // The member says how its archive is, where people and programs look.
    let said = |path: &str| {
        let url = format!("http://127.0.0.1:{}/{path}", container.api);
        let output = Command::new("curl").args(["-s", &url]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = until("the archive is shown", PATIENCE, async || {
        let status: serde_json::Value = serde_json::from_str(&said("patroni")).unwrap_or_default();
        let archive = &status["howdah"]["archive"];
        archive["archived"].as_u64() > Some(0)
            && archive["archive"]["last_backup_at"].is_string()
            && said("metrics").contains("howdah_archive_last_backup_timestamp_seconds{")
    })
    .await;
    assert!(shown.is_ok(), "{}\n{}", said("patroni"), said("metrics"));

    // A replica is made from the archive, and streams from then on.
    let second = Container::start(&lab, "acid-first", 1, &variables).unwrap();
    fs::remove_dir(second.path("/archive")).ok();
    std::os::unix::fs::symlink(&archive, second.path("/archive")).unwrap();
    holds(&second, "pg_is_in_recovery() AND (SELECT count(*) = 1001 FROM a) AND EXISTS (SELECT FROM pg_stat_wal_receiver)").await;
    assert!(second.log().contains("wal_e"), "{}", second.log());
    drop(second);

    let link =
        |container: &Container| std::os::unix::fs::symlink(&archive, container.path("/source")).unwrap();
    let clone = Container::start(
        &lab,
        "acid-clone",
        0,
        &[
            ("CLONE_METHOD", "CLONE_WITH_WALE"),
            ("CLONE_SCOPE", "acid-first"),
            ("CLONE_WALG_FILE_PREFIX", "/source"),
            ("CLONE_TARGET_TIME", &moment),
        ],
    )
    .unwrap();
    link(&clone);
    leads(&clone).await;
    holds(&clone, "(SELECT count(*) = 1000 FROM a)").await;

    let standby = Container::start(
        &lab,
        "acid-standby",
        0,
        &[
            ("STANDBY_METHOD", "STANDBY_WITH_WALE"),
            ("STANDBY_WALG_FILE_PREFIX", "/source"),
        ],
    )
    .unwrap();
    link(&standby);
    holds(
        &standby,
        "pg_is_in_recovery() AND (SELECT count(*) = 1001 FROM a)",
    )
    .await;

    // A target that cannot be reached is said, and no cluster is made.
    let mut never = Container::start(
        &lab,
        "acid-never",
        0,
        &[
            ("CLONE_METHOD", "CLONE_WITH_WALE"),
            ("CLONE_WALG_FILE_PREFIX", "/source"),
            ("CLONE_SCOPE", "acid-first"),
            ("CLONE_TARGET_TIME", "2020-01-01 00:00:00+00"),
        ],
    )
    .unwrap();
    link(&never);
    never.wait_exit(PATIENCE).await.unwrap();
    assert!(
        never.log().contains("before the end of the first backup"),
        "{}",
        never.log()
    );
}
