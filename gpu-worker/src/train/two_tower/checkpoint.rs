//! A checkpoint: everything that training needs to go on as if it had never stopped, at full precision.
//!
//! Of the embedding tables only the rows that ever moved are kept: the others follow from the seed.

use super::table::{EmbeddingTable, RowState};
use crate::train::epochs::State;
use crate::train::sealed::{Reader, Writer, floats};

const MAGIC: &[u8] = b"tidegate two-tower checkpoint 2\n";

/// The weights of the best epoch.
#[derive(Debug, Clone)]
pub struct Best {
    /// The towers, as burn records them.
    pub towers: Vec<u8>,
    /// The user embeddings.
    pub users: Vec<f32>,
    /// The item embeddings.
    pub items: Vec<f32>,
}

/// What a checkpoint holds; the parts a trainer is made of.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// Names the training set and parameters; a checkpoint of others is not taken up.
    pub fingerprint: &'a str,
    /// Where training stands.
    pub state: &'a State,
    /// The towers, as burn records them.
    pub towers: Vec<u8>,
    /// burn's Adam state of the towers.
    pub optimiser: Vec<u8>,
    /// User embeddings.
    pub users: &'a EmbeddingTable,
    /// Item embeddings.
    pub items: &'a EmbeddingTable,
    /// The best epoch so far.
    pub best: Option<&'a Best>,
}

/// A checkpoint read back; tables are put back into the fresh ones given to [`restore`].
#[derive(Debug)]
pub struct Restored {
    /// Where training stood.
    pub state: State,
    /// The towers.
    pub towers: Vec<u8>,
    /// Adam's state.
    pub optimiser: Vec<u8>,
    /// The best epoch so far.
    pub best: Option<Best>,
}

impl Snapshot<'_> {
    /// The checkpoint's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC);
        out.section(|out| self.state.write(out, self.fingerprint));
        out.section(|out| out.extend_from_slice(&self.towers));
        out.section(|out| out.extend_from_slice(&self.optimiser));
        let best = |of: fn(&Best) -> &Vec<f32>| self.best.map(|best| &of(best)[..]);
        out.section(|out| put_table(out, self.users, best(|best| &best.users)));
        out.section(|out| put_table(out, self.items, best(|best| &best.items)));
        out.section(|out| out.extend_from_slice(self.best.map_or(&[][..], |best| &best.towers)));
        out.seal()
    }
}

/// Reads a checkpoint back, filling `users` and `items`, which must be fresh. The error says why it is not used.
pub fn restore(
    content: &[u8],
    fingerprint: &str,
    users: &mut EmbeddingTable,
    items: &mut EmbeddingTable,
) -> Result<Restored, String> {
    let mut rest = Reader::open(content, MAGIC)?;
    let state = State::read(rest.section()?, fingerprint)?;
    let towers = rest.section()?.to_vec();
    let optimiser = rest.section()?.to_vec();
    let mut tables = [users, items].map(|table| {
        let mut best = table.weights().to_vec();
        rest.section()
            .and_then(|bytes| get_table(bytes, table, &mut best))
            .map(|()| best)
    });
    let [best_users, best_items] = &mut tables;
    let (best_users, best_items) = (
        std::mem::replace(best_users, Ok(Vec::new()))?,
        std::mem::replace(best_items, Ok(Vec::new()))?,
    );
    let best_towers = rest.section()?.to_vec();
    let best = state.best.is_some().then_some(Best {
        towers: best_towers,
        users: best_users,
        items: best_items,
    });
    Ok(Restored {
        state,
        towers,
        optimiser,
        best,
    })
}

/// Rows as row, steps, weights, moments and the best epoch's weights.
fn put_table(out: &mut Vec<u8>, table: &EmbeddingTable, best: Option<&[f32]>) {
    for state in table.moved() {
        out.extend_from_slice(&state.row.to_le_bytes());
        out.extend_from_slice(&state.steps.to_le_bytes());
        let start = state.row as usize * table.dim();
        let best = best
            .and_then(|best| best.get(start..start + table.dim()))
            .unwrap_or(&state.values[..table.dim()]);
        floats(out, &state.values);
        floats(out, best);
    }
}

fn get_table(bytes: &[u8], table: &mut EmbeddingTable, best: &mut [f32]) -> Result<(), String> {
    let dim = table.dim();
    let lines = bytes.chunks_exact(8 + 16 * dim);
    if !lines.remainder().is_empty() {
        return Err("an embedding table is cut off".to_owned());
    }
    for line in lines {
        let words: Vec<u32> = line
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        let [row, steps, values @ ..] = &words[..] else {
            continue;
        };
        let values: Vec<f32> = values.iter().map(|&bits| f32::from_bits(bits)).collect();
        let (state, best_row) = values.split_at(3 * dim);
        if !table.restore(&RowState {
            row: *row,
            steps: *steps,
            values: state.to_vec(),
        }) {
            return Err(format!("embedding row {row} does not fit the table"));
        }
        let start = *row as usize * dim;
        best[start..start + dim].copy_from_slice(best_row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::epochs::Scores;

    fn table() -> EmbeddingTable {
        EmbeddingTable::new(5, 3, 0.1, 1, 0)
    }

    fn encoded(users: &EmbeddingTable, best: Option<&Best>) -> Vec<u8> {
        let scores = Scores {
            epoch: 2,
            bits: [1, 2, 3],
        };
        let state = State {
            epoch: 2,
            step: 7,
            loss_bits: 1.25f64.to_bits(),
            stale: 1,
            seconds: 3.0,
            history: vec![scores.clone()],
            best: best.map(|_| scores),
        };
        let (towers, optimiser) = (vec![1, 2, 3], vec![4]);
        Snapshot {
            fingerprint: "f",
            state: &state,
            towers,
            optimiser,
            users,
            items: &table(),
            best,
        }
        .encode()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut users = table();
        users.update(&[1, 4], [&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6][..]], 3, 0.01, 0.0);
        let best = Best {
            towers: vec![9; 4],
            users: users.weights().to_vec(),
            items: table().weights().to_vec(),
        };
        users.update(&[4, 2], [&[0.4, 0.5, 0.6, 0.1, 0.1, 0.1][..]], 3, 0.01, 0.0);
        let (mut read_users, mut read_items) = (table(), table());
        let restored = restore(
            &encoded(&users, Some(&best)),
            "f",
            &mut read_users,
            &mut read_items,
        )
        .unwrap();
        assert_eq!((restored.state.epoch, restored.state.step), (2, 7));
        assert_eq!((restored.towers, restored.optimiser), (vec![1, 2, 3], vec![4]));
        assert!(users.moved().eq(read_users.moved()));
        let read_best = restored.best.unwrap();
        assert_eq!(
            restored.state.history,
            restored.state.best.into_iter().collect::<Vec<_>>()
        );
        assert_eq!((read_best.users, read_best.items), (best.users, best.items));
    }

    #[test]
    fn a_damaged_or_foreign_checkpoint_is_refused_with_the_reason() {
        let good = encoded(&table(), None);
        let refused = |content: &[u8], fingerprint: &str| {
            restore(content, fingerprint, &mut table(), &mut table()).unwrap_err()
        };
        assert!(refused(&good[..good.len() - 1], "f").contains("checksum"));
        assert!(refused(&[], "f").contains("too short"));
        assert!(refused(&good, "g").contains("it is of `f`, this job is `g`"));
        let mut flipped = good.clone();
        flipped[50] ^= 1;
        assert!(refused(&flipped, "f").contains("checksum"));
    }
}
