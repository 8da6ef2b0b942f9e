//! Which requests are kept: those that are too many go in the unit that adds new ones.

use std::collections::{BTreeMap, VecDeque};

use super::{PAGE, RequestRecord};
use crate::records::logs::log_key;
use crate::records::{LOGS, REQUESTS};
use crate::store::{Condition, Order, StateWrite, Store, StoreError, Unit, Versioned};

/// The rows of each function, oldest first.
pub(super) struct Kept(BTreeMap<String, VecDeque<Rows>>);

/// Where a request is kept, and its lines, if it logged any.
struct Rows {
    run: String,
    lines: Option<String>,
}

impl Rows {
    fn of(request: &RequestRecord) -> Self {
        let run = &request.run;
        let lines = || log_key(run, request.started, &request.function, run, 1, request.version);
        Self {
            run: run.clone(),
            lines: (request.lines > 0).then(lines),
        }
    }

    fn deletions(&self) -> impl Iterator<Item = StateWrite> {
        let lines = self.lines.iter().map(|key| (LOGS, key));
        std::iter::once((REQUESTS, &self.run))
            .chain(lines)
            .map(|(table, key)| StateWrite {
                table: table.into(),
                key: key.clone(),
                value: None,
                condition: Condition::None,
            })
    }
}

impl Kept {
    /// What a store keeps.
    pub(super) async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let (mut kept, mut after) = (BTreeMap::<String, VecDeque<Rows>>::new(), None);
        loop {
            let page = store
                .query(REQUESTS, "", after.as_deref(), PAGE, Order::Ascending)
                .await?;
            for request in page.entries.iter().filter_map(|(_, row)| read(row)) {
                let rows = Rows::of(&request);
                kept.entry(request.function).or_default().push_back(rows);
            }
            after = page.next;
            if after.is_none() {
                return Ok(Self(kept));
            }
        }
    }

    /// Commits the unit that adds requests of one function; of that function no more than the newest stay.
    pub(super) async fn add(
        &mut self,
        store: &dyn Store,
        mut unit: Unit,
        added: &[RequestRecord],
        newest: usize,
    ) -> Result<(), StoreError> {
        let Some(first) = added.first() else { return Ok(()) };
        let rows = self.0.entry(first.function.clone()).or_default();
        let old = (rows.len() + added.len()).saturating_sub(newest).min(rows.len());
        unit.state.extend(rows.iter().take(old).flat_map(Rows::deletions));
        store.commit(unit).await.map_err(StoreError::new)?;
        rows.drain(..old);
        rows.extend(added.iter().map(Rows::of));
        Ok(())
    }
}

/// A record as it is kept; none where another version of the host wrote what this one cannot read.
pub(super) fn read(row: &Versioned) -> Option<RequestRecord> {
    serde_json::from_slice(&row.value).ok()
}
