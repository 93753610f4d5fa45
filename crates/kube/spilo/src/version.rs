use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::SpiloError;

/// The PostgreSQL that runs, and how it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The major.
    pub major: u32,
    /// Its programs.
    pub bin_dir: PathBuf,
    /// Set when it is not the wanted one.
    pub note: Option<String>,
}

/// Chooses the major: that of the data wherever there is data, since a major never changes by itself; else the wanted
/// one; else the nearest that is installed, newer before older.
///
/// # Errors
/// Nothing is installed, or not what the data needs.
pub fn choose(
    wanted: Option<u32>,
    data: Option<u32>,
    installed: &BTreeMap<u32, PathBuf>,
) -> Result<Choice, SpiloError> {
    let all: Vec<String> = installed.keys().map(u32::to_string).collect();
    let newest = installed.keys().next_back().copied();
    let Some(newest) = newest else {
        return Err(SpiloError::Version(
            "no PostgreSQL is installed: install one, for example with 'apt-get install postgresql'".into(),
        ));
    };
    let take = |major: u32, note: Option<String>| Choice {
        major,
        bin_dir: installed.get(&major).cloned().unwrap_or_default(),
        note,
    };
    if let Some(major) = data {
        if !installed.contains_key(&major) {
            return Err(SpiloError::Version(format!(
                "the data is of PostgreSQL {major}, which is not installed ({} is): install postgresql-{major}",
                all.join(", ")
            )));
        }
        let differs = wanted.filter(|wanted| *wanted != major);
        let note = differs.map(|wanted| {
            format!("PostgreSQL {wanted} is asked for; the data is of {major}, and a major never changes by itself")
        });
        return Ok(take(major, note));
    }
    let wanted = wanted.unwrap_or(newest);
    if installed.contains_key(&wanted) {
        return Ok(take(wanted, None));
    }
    let nearest = installed
        .keys()
        .copied()
        .min_by_key(|major| (major.abs_diff(wanted), u32::from(*major < wanted)))
        .unwrap_or(newest);
    let note = format!(
        "PostgreSQL {wanted} is asked for and not installed; {nearest} is the nearest that is, and stays for this volume"
    );
    Ok(take(nearest, Some(note)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(majors: &[u32]) -> BTreeMap<u32, PathBuf> {
        majors
            .iter()
            .map(|major| (*major, PathBuf::from(format!("/{major}"))))
            .collect()
    }

    #[test]
    fn the_data_decides_then_the_wish_then_the_nearest() {
        let choice = |wanted, data, have: &[u32]| {
            choose(wanted, data, &installed(have)).map(|c| (c.major, c.note.is_some()))
        };
        assert_eq!(choice(Some(18), None, &[15]), Ok((15, true)));
        assert_eq!(choice(Some(16), None, &[15, 17]), Ok((17, true)));
        assert_eq!(choice(Some(17), None, &[15, 17]), Ok((17, false)));
        assert_eq!(choice(Some(17), Some(15), &[15, 17]), Ok((15, true)));
        assert_eq!(choice(None, None, &[15, 17]), Ok((17, false)));
        assert!(choice(Some(17), Some(14), &[15, 17]).is_err());
        assert!(choice(Some(17), None, &[]).is_err());
    }
}
