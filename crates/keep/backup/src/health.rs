use jiff::Timestamp;

use crate::{Backup, Catalogue, Gap, Proof};

/// What whoever is on call wants to know of an archive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health<'a> {
    /// Backups that can be restored.
    pub usable: usize,
    /// The newest of them.
    pub newest: Option<&'a Backup>,
    /// From when on every moment can be restored, up to `to`.
    pub from: Option<Timestamp>,
    /// When the last segment was stored that follows the newest backup without a gap.
    pub to: Option<Timestamp>,
    /// Segments that are missing between others.
    pub gaps: Vec<Gap>,
    /// The newest drill.
    pub proof: Option<&'a Proof>,
}

impl Catalogue {
    /// Sums an archive up.
    #[must_use]
    pub fn health(&self) -> Health<'_> {
        let usable: Vec<&Backup> = self
            .backups
            .iter()
            .filter(|backup| self.usable(backup).is_ok())
            .collect();
        let newest = usable
            .iter()
            .copied()
            .max_by_key(|backup| (backup.timeline(), backup.start(self.size)));
        let last = newest.and_then(|newest| self.window(newest).last);
        // Every moment between the oldest backup and the end, as long as no segment is missing in between.
        let from = usable
            .iter()
            .filter(|backup| {
                let window = self.window(backup);
                window.gap.is_none() && window.last == last
            })
            .map(|backup| backup.finished())
            .min();
        let to = last.and_then(|last| {
            let number = last.number(self.size)?;
            Some(self.segments.get(&last.timeline)?.get(&number)?.modified)
        });
        let proof = self
            .backups
            .iter()
            .filter_map(|backup| backup.proof.as_ref())
            .max_by_key(|proof| proof.at);
        Health {
            usable: usable.len(),
            newest,
            from,
            to,
            gaps: self.gaps(),
            proof,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::catalogue::tests::archive;

    const FIRST: &str = "base_000000010000000000000003";
    const SECOND: &str = "base_000000010000000000000007";

    #[test]
    fn a_gap_ends_what_an_earlier_backup_is_good_for() {
        let backups = [
            (FIRST, 0x300_0028, 0x400_0000, "2026-11-24T10:00:00Z"),
            (SECOND, 0x700_0028, 0x800_0000, "2026-11-25T10:00:00Z"),
        ];
        let whole = archive(&[(1, 3, 9)], &backups);
        let health = whole.health();
        assert_eq!(health.usable, 2);
        assert_eq!(health.newest.unwrap().name, SECOND);
        assert_eq!(health.from.unwrap().to_string(), "2026-11-24T10:00:00Z");
        assert_eq!(health.to.unwrap().to_string(), "2026-11-25T10:00:00Z");
        let torn = archive(&[(1, 3, 5), (1, 7, 9)], &backups);
        let health = torn.health();
        assert_eq!((health.usable, health.gaps.len()), (2, 1));
        assert_eq!(health.from.unwrap().to_string(), "2026-11-25T10:00:00Z");
        assert_eq!(archive(&[(1, 3, 9)], &[]).health().from, None);
    }
}
