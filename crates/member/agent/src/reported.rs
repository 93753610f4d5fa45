use std::sync::Arc;

use arc_swap::ArcSwapOption;
use howdah_backup::Report;

/// What the archiver has said last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported(Arc<ArcSwapOption<Report>>);

impl Reported {
    /// The report; `None` if there is no archiver, or it has said nothing yet.
    pub(crate) fn last(&self) -> Option<Arc<Report>> {
        self.0.load_full()
    }

    /// It has said this, or has ended.
    pub(crate) fn say(&self, report: Option<Report>) {
        self.0.store(report.map(Arc::new));
    }
}
