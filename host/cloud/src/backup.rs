//! A moment of the store: the table is read twice while the commits of all hosts are held. Where both reads agree, no
//! row changed between its first and its second, so that all of them were so together when the first one ended.
//!
//! What is as after a crash is left out: claims, groups on their way, what is staged, and what waits to be removed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_runtime::store::{Frozen, ObjectMeta, ObjectReader, Part, StoreError};
use tokio_util::sync::DropGuard;

use crate::attached::is_outside;
use crate::failure;
use crate::hold::LOOK;
use crate::items::{Item, number_of, text_of};
use crate::json;
use crate::keys;
use crate::store::Core;

/// What a back-up of this store says that it is of.
pub const LAYOUT: &str = "aws-1";
/// Until hosts have looked at the hold, and what they had begun has ended.
const SETTLED: Duration = Duration::from_secs(2 * LOOK.as_secs() + 1);
/// How long the outbox may take to be empty.
const EMPTIED: Duration = Duration::from_secs(60);
/// Between two looks at it.
const AGAIN: Duration = Duration::from_millis(500);
/// Rows that the table forgets within this time are left out: it may forget them while they are read.
const FORGOTTEN_SOON: u64 = 3600;

/// The store at one moment.
pub(crate) struct Moment {
    core: Arc<Core>,
    at: u64,
    scan: Scan,
    first: Sum,
    second: Sum,
    _hold: DropGuard,
}

impl Moment {
    /// Holds the store, and reads it for the first time.
    pub(crate) async fn new(core: &Arc<Core>) -> Result<Self, StoreError> {
        let hold = core.hold().await?;
        core.wait_until_settled().await?;
        let forgotten = core.now() / 1000 + FORGOTTEN_SOON;
        let (mut scan, mut first) = (Scan::new(forgotten), Sum::default());
        while let Some(rows) = scan.next(core).await? {
            for row in &rows {
                first.add(row)?;
            }
        }
        Ok(Self {
            at: core.now(),
            core: core.clone(),
            scan: Scan::new(forgotten),
            first,
            second: Sum::default(),
            _hold: hold,
        })
    }
}

#[async_trait]
impl Frozen for Moment {
    fn layout(&self) -> &'static str {
        LAYOUT
    }

    fn moment(&self) -> u64 {
        self.at
    }

    async fn next(&mut self) -> Result<Option<Part>, StoreError> {
        let Some(rows) = self.scan.next(&self.core).await? else {
            return match self.first == self.second {
                true => Ok(None),
                false => Err(StoreError(
                    "the store was written to while it was backed up; back it up again".into(),
                )),
            };
        };
        let (mut part, mut named) = (Part::default(), HashSet::new());
        for row in rows {
            self.second.add(&row)?;
            let blob = text_of(&row, "blob_at").filter(|blob| !is_outside(blob));
            part.blobs.extend(
                blob.filter(|blob| named.insert((*blob).to_owned()))
                    .map(str::to_owned),
            );
            part.rows.push(json::line(&row)?);
        }
        Ok(Some(part))
    }

    async fn blob(&self, name: &str) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let size = self.core.blobs.size(name).await?;
        let missing = || StoreError(format!("the blob `{}` is missing", name.escape_debug()));
        let meta = ObjectMeta {
            key: name.to_owned(),
            size: size.ok_or_else(missing)?,
            etag: String::new(),
            content_type: None,
            modified: self.at,
            sequencer: 0,
            user: Default::default(),
        };
        Ok(self.core.reader(name, meta))
    }
}

impl Core {
    /// Waits until hosts have seen the hold, and have done what follows the commits that they had begun.
    async fn wait_until_settled(&self) -> Result<(), StoreError> {
        tokio::time::sleep(SETTLED).await;
        let began = Instant::now();
        while began.elapsed() < EMPTIED && !self.outbox_is_empty().await? {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    async fn outbox_is_empty(&self) -> Result<bool, StoreError> {
        for partition in keys::partitions("x") {
            if !self.rows_before(&partition, LAST_UNIT).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// After every unit's name.
const LAST_UNIT: &str = "~";

/// One read of the whole table, page by page.
struct Scan {
    /// Rows that are forgotten before this time, in seconds, are left out.
    forgotten: u64,
    from: Option<Item>,
    ended: bool,
}

impl Scan {
    fn new(forgotten: u64) -> Self {
        Self {
            forgotten,
            from: None,
            ended: false,
        }
    }

    /// The next rows that belong into a back-up; none at the end.
    async fn next(&mut self, core: &Core) -> Result<Option<Vec<Item>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let scan = core
            .dynamo
            .scan()
            .table_name(&core.settings.table)
            .consistent_read(true);
        let page = scan.set_exclusive_start_key(self.from.take());
        let page = page.send().await.map_err(failure::of("DynamoDB"))?;
        self.from = page.last_evaluated_key;
        self.ended = self.from.is_none();
        let rows = page.items.unwrap_or_default().into_iter();
        Ok(Some(rows.filter_map(|row| kept(row, self.forgotten)).collect()))
    }
}

/// A row as a back-up has it; none where it has none of it.
fn kept(mut row: Item, forgotten: u64) -> Option<Item> {
    let pk = text_of(&row, "pk")?;
    let passing = pk == keys::HOLD || pk.starts_with("s#") || pk.starts_with("g#");
    let of_a_queue = pk.starts_with("q#");
    let on_its_way = of_a_queue && text_of(&row, "sk")?.starts_with("l#");
    let old = number_of::<u64>(&row, "ttl").is_some_and(|ttl| ttl < forgotten);
    if passing || on_its_way || old {
        return None;
    }
    if of_a_queue {
        row.remove("claim");
        row.remove("held");
    }
    Some(row)
}

/// A sum of rows that does not depend on their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    digests: u128,
}

impl Sum {
    fn add(&mut self, row: &Item) -> Result<(), StoreError> {
        let mut digest = [0; 16];
        let line = json::line(row)?;
        blake3::Hasher::new()
            .update(line.as_bytes())
            .finalize_xof()
            .fill(&mut digest);
        self.rows += 1;
        self.digests = self.digests.wrapping_add(u128::from_be_bytes(digest));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items::{number, text};

    fn row(pk: &str, sk: &str, more: &[(&str, u64)]) -> Item {
        let mut row = Item::from([("pk".into(), text(pk)), ("sk".into(), text(sk))]);
        row.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), number(value))),
        );
        row
    }

    #[test]
    fn what_a_crash_would_lose_is_left_out() {
        for passing in [("hold", "hold"), ("s#1", "a"), ("g#2", "1#a"), ("q#f#0", "l#00")] {
            assert_eq!(kept(row(passing.0, passing.1, &[]), 0), None, "{passing:?}");
        }
        let claimed = row("q#f#0", "e#1", &[("claim", 4), ("held", 5), ("attempt", 2)]);
        assert_eq!(kept(claimed, 0), Some(row("q#f#0", "e#1", &[("attempt", 2)])));
        let marker = row("t#$done", "=e", &[("ttl", 100)]);
        assert_eq!(kept(marker.clone(), 100), Some(marker.clone()));
        assert_eq!(kept(marker, 101), None);
    }

    #[test]
    fn the_sum_tells_any_change_and_no_order() {
        let sum = |rows: &[Item]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row).unwrap());
            sum
        };
        let (a, b) = (row("t#a", "=a", &[("v", 1)]), row("t#a", "=b", &[("v", 2)]));
        assert_eq!(sum(&[a.clone(), b.clone()]), sum(&[b.clone(), a.clone()]));
        assert_ne!(sum(&[a.clone(), b]), sum(&[a, row("t#a", "=b", &[("v", 3)])]));
    }
}
