//! The list of behaviours names every test, and no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[test]
fn the_list_has_every_behaviour() {
    let sources = [
        include_str!("objects.rs"),
        include_str!("shapes.rs"),
        include_str!("configuration.rs"),
        include_str!("operators.rs"),
        include_str!("chart.rs"),
        include_str!("members.rs"),
    ];
    let tests = sources.iter().flat_map(|source| {
        source
            .split("#[test]\nfn ")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('(')?.0.replace('_', " ")))
    });
    let listed: Vec<&str> = include_str!("../README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("- "))
        .collect();
    assert_eq!(tests.collect::<Vec<_>>(), listed);
}
