use howdah_backup::{Codec, Layout, WalName};
use howdah_types::BootTime;

use crate::{ArchiveError, Store};

/// Under which names a file is archived. WAL-G's configuration may have changed over time, so any codec may have been used.
pub(super) async fn variants(
    store: &Store,
    name: &WalName,
    deadline: BootTime,
) -> Result<Vec<(String, Codec)>, ArchiveError> {
    let bare = Layout::wal(name, Codec::None);
    let found = store.named(&bare, deadline).await?;
    let with_codec = found.into_iter().filter_map(|object| {
        let (of, codec) = Codec::split(&object);
        (of == bare).then_some(codec).map(|codec| (object, codec))
    });
    Ok(with_codec.collect())
}
