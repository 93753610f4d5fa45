//! The table of variables in the documentation is what the code says. `HOWDAH_WRITE=1 cargo test -p howdah-spilo --test docs`
//! writes it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use howdah_spilo::{Effect, VARIABLES};

const BEGIN: &str = "<!-- variables: written by a test -->\n";
const END: &str = "<!-- end of variables -->\n";

fn table() -> String {
    let mut rows: Vec<(Effect, Vec<&str>)> = Vec::new();
    for variable in VARIABLES {
        match rows.iter_mut().find(|(effect, _)| *effect == variable.effect) {
            Some((_, names)) => names.push(variable.name),
            None => rows.push((variable.effect, vec![variable.name])),
        }
    }
    let mut out = String::from("| variables | |\n|---|---|\n");
    for (effect, names) in rows {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let what = match effect {
            Effect::Acted => "acted on".to_owned(),
            Effect::Later(what) => format!("not supported yet, named: {what}"),
            Effect::Details(what) => format!("named with what asks for {what}"),
            Effect::Data(what) => format!("a new cluster is **refused**: asks {what}"),
            Effect::Refused(what) => format!("**refused**: asks for {what}"),
            Effect::Without(why) => format!("no effect: {why}"),
        };
        out.push_str(&format!("| {} | {what} |\n", names.join(" ")));
    }
    out
}

#[test]
fn the_documentation_has_every_variable_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/spilo.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (have, after) = rest.split_once(END).unwrap();
    let wanted = table();
    if std::env::var_os("HOWDAH_WRITE").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        have, wanted,
        "write it with HOWDAH_WRITE=1 cargo test -p howdah-spilo --test docs"
    );
}
