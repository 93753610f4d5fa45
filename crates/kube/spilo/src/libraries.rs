use std::collections::BTreeSet;

/// Libraries that the image preloads, with the majors that have them: from, to.
const PRELOADED: &[(&str, u32, u32)] = &[
    ("bg_mon", 10, u32::MAX),
    ("pg_stat_statements", 10, u32::MAX),
    ("pgextwlist", 10, u32::MAX),
    ("pg_auth_mon", 10, u32::MAX),
    ("set_user", 10, u32::MAX),
    ("timescaledb", 10, 17),
    ("pg_cron", 10, 17),
    ("pg_stat_kcache", 10, 17),
];

/// The value of `shared_preload_libraries`, and what had to be left out of it. `given` is the user's own list.
pub(crate) fn preload(given: Option<&str>, major: u32, have: &BTreeSet<String>) -> (String, Vec<String>) {
    let wanted: Vec<String> = match given {
        Some(list) => list
            .split(',')
            .map(|name| name.trim().trim_matches('"').to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
        None => PRELOADED
            .iter()
            .filter(|(_, from, to)| (*from..=*to).contains(&major))
            .map(|(name, _, _)| (*name).to_owned())
            .collect(),
    };
    let (there, missing): (Vec<String>, Vec<String>) = wanted
        .into_iter()
        // A path names its file itself; PostgreSQL says what is wrong with it.
        .partition(|name| name.contains('/') || have.contains(name.strip_suffix(".so").unwrap_or(name)));
    (there.join(","), missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_preloaded_whatever_its_name() {
        let have = BTreeSet::from(["auto_explain".to_owned(), "pg_stat_statements".to_owned()]);
        let (list, missing) = preload(
            Some("pg_stat_statements, auto_explain.so,\"pg_cron\", $libdir/x"),
            15,
            &have,
        );
        assert_eq!(list, "pg_stat_statements,auto_explain.so,$libdir/x");
        assert_eq!(missing, ["pg_cron"]);
        let (list, missing) = preload(None, 15, &have);
        assert_eq!(list, "pg_stat_statements");
        assert!(missing.contains(&"bg_mon".to_owned()));
    }
}
