//! `postgresql.auto.conf`, which `ALTER SYSTEM` writes and which has the last word.

use std::{fs, path::Path};

use crate::{PgError, files::write_atomically};

/// Takes out the parameters that the agent sets, as Patroni does: with them PostgreSQL would follow another server than the
/// agent says, or wait for another standby. Returns what was taken out.
///
/// # Errors
/// The file is there and cannot be read or written.
pub(crate) fn take_out(data_dir: &Path, owned: impl Fn(&str) -> bool) -> Result<Vec<String>, PgError> {
    let path = data_dir.join("postgresql.auto.conf");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PgError::file(&path)(error)),
    };
    let (left, taken) = without(&text, owned);
    if !taken.is_empty() {
        write_atomically(&path, &left)?;
    }
    Ok(taken)
}

/// One parameter a line, as `ALTER SYSTEM` and `pg_basebackup -R` write it.
fn without(text: &str, owned: impl Fn(&str) -> bool) -> (String, Vec<String>) {
    let mut taken = Vec::new();
    let mut left = String::new();
    for line in text.lines() {
        let name = line
            .trim_start()
            .split(['=', ' ', '\t'])
            .next()
            .unwrap_or_default();
        let name = name.to_ascii_lowercase();
        if owned(&name) {
            taken.push(name);
        } else {
            left.push_str(line);
            left.push('\n');
        }
    }
    (left, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_agent_sets_is_taken_out() {
        let text = "# Do not edit\nwork_mem = '4MB'\nprimary_conninfo = 'host=x user=''y'' '\nPrimary_Slot_Name='s'\n";
        let owned = |name: &str| matches!(name, "primary_conninfo" | "primary_slot_name");
        assert_eq!(
            without(text, owned),
            (
                "# Do not edit\nwork_mem = '4MB'\n".to_owned(),
                vec!["primary_conninfo".to_owned(), "primary_slot_name".to_owned()]
            )
        );
        assert!(without("# primary_conninfo = 'x'\n", owned).1.is_empty());
    }
}
