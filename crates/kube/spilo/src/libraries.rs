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

/// Every library that may be preloaded, so that a caller knows what to look for.
pub fn candidate_libraries() -> impl Iterator<Item = &'static str> {
    PRELOADED.iter().map(|(name, _, _)| *name)
}

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
        .partition(|name| name.contains('/') || have.contains(name));
    (there.join(","), missing)
}
