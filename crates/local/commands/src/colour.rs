//! Colours for states, on a terminal that has them and unless `NO_COLOR` is set (no-color.org).

use std::io::IsTerminal;

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Whether the standard output shows colours.
pub(crate) fn are_shown() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && !is_set("NO_COLOR")
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// The colour of a cell that is a state; none for everything else.
fn of(cell: &str) -> Option<&'static str> {
    match cell {
        "yes" | "Running" | "running" | "streaming" => Some(GREEN),
        "no" | "CreateFailed" | "UpdateFailed" | "SyncFailed" | "Invalid" | "stopped" | "crashed"
        | "start failed" | "unknown" => Some(RED),
        "Creating"
        | "Updating"
        | "starting"
        | "stopping"
        | "restarting"
        | "creating replica"
        | "initializing new cluster"
        | "in archive recovery" => Some(YELLOW),
        _ => None,
    }
}

/// A cell in its colour, filled up to `width`.
pub(crate) fn painted(cell: &str, width: usize) -> String {
    let filled = format!("{cell:<width$}");
    match of(cell) {
        Some(colour) => paint(&filled, cell, colour),
        None => filled,
    }
}

/// A cell of a table's head.
pub(crate) fn head(cell: &str, width: usize) -> String {
    paint(&format!("{cell:<width$}"), cell, BOLD)
}

/// The blanks behind a word stay without colour, so that they can be cut.
fn paint(filled: &str, cell: &str, colour: &str) -> String {
    let blanks = filled.get(cell.len()..).unwrap_or_default();
    if cell.is_empty() {
        return filled.to_owned();
    }
    format!("\x1b[{colour}m{cell}\x1b[0m{blanks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_colours_and_texts_have_none() {
        assert_eq!(painted("yes", 5), "\x1b[32myes\x1b[0m  ");
        assert_eq!(painted("no", 2), "\x1b[31mno\x1b[0m");
        assert_eq!(painted("yes, and no", 0), "yes, and no");
        assert_eq!(head("READY", 6), "\x1b[1mREADY\x1b[0m ");
        assert_eq!(head("", 3), "   ");
    }
}
