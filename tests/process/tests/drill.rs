//! Restore drills: what they prove, and what they find.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits"
)]

use std::fs;

use archives::{Archive, said};
use serde_json::Value;

mod archives;

fn scratch_is_empty(archive: &Archive) -> bool {
    fs::read_dir(archive.path("scratch")).unwrap().next().is_none()
}

#[test]
fn a_drill_proves_a_backup_and_finds_a_damaged_one() {
    let archive = Archive::new(&[]);
    if archive.howdah(&["confine", "--write", "/tmp", "--", "true"]).code != 0 {
        eprintln!("this kernel has no Landlock: nothing is tested");
        return;
    }
    said(archive.server.command("mkdir").arg("scratch"));
    let drill = |more: &[&str]| {
        let mut args = vec!["backup", "drill", "--scratch", "scratch", "-o", "json"];
        args.extend(more);
        archive.howdah(&args)
    };
    assert_eq!(drill(&[]).code, 2, "there is nothing to prove");
    archive.start();
    let sql = |query: &str| archive.server.sql(query).unwrap();
    // Settings that must not count in a drill: it would load a library that is not there, and follow a subscription.
    sql("ALTER SYSTEM SET session_preload_libraries = 'not_there'");
    sql("CREATE TABLE t (id int PRIMARY KEY)");
    sql("INSERT INTO t SELECT generate_series(1, 1000)");
    let name = archive.create();
    sql("INSERT INTO t SELECT generate_series(1001, 2000)");
    archive.switch();

    let proved = drill(&["--check", "SELECT count(*) = 2000 FROM t", "--check", "TABLE t"]);
    assert_eq!(proved.code, 0, "{proved:?}");
    let document: Value = serde_json::from_str(&proved.out).unwrap();
    assert_eq!(document["backup_name"], name.as_str());
    let checks = document["proof"]["checks"].to_string();
    assert!(
        checks.contains("is t") && checks.contains("2000 rows"),
        "{checks}"
    );
    assert!(document["proof"]["last_commit"].is_string(), "{document}");
    assert!(scratch_is_empty(&archive));
    assert!(archive.good(&["backup", "show"]).contains("Drill"));

    let wrong = drill(&["--check", "SELECT count(*) = 1 FROM t", "--no-amcheck"]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    let failing = drill(&["--check", "SELECT nothing", "--no-amcheck"]);
    assert!(
        failing.code == 3 && failing.out.contains("does not exist"),
        "{failing:?}"
    );

    // The original's tablespace is not written to, and that is no verdict on the backup.
    said(archive.server.command("mkdir").arg("space"));
    sql(&format!(
        "CREATE TABLESPACE elsewhere LOCATION '{}'",
        archive.path("space").display()
    ));
    sql("CREATE TABLE u TABLESPACE elsewhere AS SELECT generate_series(1, 1000) AS id");
    archive.switch();
    let refused = drill(&["--no-amcheck"]);
    assert!(
        refused.code == 2 && refused.err.contains("tablespace"),
        "{refused:?}"
    );
    assert_eq!(sql("SELECT count(*) FROM u"), "1000");
    archive.create();
    archive.switch();
    let proved = drill(&["--check", "SELECT count(*) = 1000 FROM u"]);
    assert_eq!(proved.code, 0, "{proved:?}");
    archive.server.stop("fast").unwrap();

    // A part of the newest backup goes bad.
    let part = archive
        .objects()
        .into_iter()
        .filter(|path| path.display().to_string().contains("tar_partitions"))
        .max()
        .unwrap();
    let mut bytes = fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&part, bytes).unwrap();
    let damaged = drill(&[]);
    assert_eq!(damaged.code, 3, "{damaged:?}");
    assert!(scratch_is_empty(&archive));
    assert!(archive.good(&["backup", "show"]).contains("NOT proved"));
}
