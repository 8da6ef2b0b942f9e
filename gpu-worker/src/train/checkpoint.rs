//! A checkpoint: everything that training needs to go on as if it had never stopped, at full precision.
//!
//! Layout: magic, then length-prefixed sections (little endian), then the SHA-256 of all before it. Of the
//! embedding tables only the rows that ever moved are kept: the others follow from the seed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::table::{EmbeddingTable, RowState};

const MAGIC: &[u8] = b"tidegate two-tower checkpoint 1\n";
const SUM: usize = 32;

/// Where training stands. Floating point numbers are kept as bits: what is read back is what was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// The running epoch, from 0.
    pub epoch: usize,
    /// Steps done in it.
    pub step: usize,
    /// Bits of the sum of the epoch's row losses so far.
    pub loss_bits: u64,
    /// Epochs since the best one.
    pub stale: usize,
    /// Seconds spent in earlier attempts and this one; informational.
    pub seconds: f64,
}

/// What the best epoch measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Bits of the validation AUC, the validation log loss and the training loss.
    pub bits: [u64; 3],
}

/// The weights of the best epoch.
#[derive(Debug, Clone)]
pub struct Best {
    /// Its scores.
    pub scores: Scores,
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
    pub cursor: &'a Cursor,
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
    pub cursor: Cursor,
    /// The towers.
    pub towers: Vec<u8>,
    /// Adam's state.
    pub optimiser: Vec<u8>,
    /// The best epoch so far.
    pub best: Option<Best>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    fingerprint: String,
    cursor: Cursor,
    best: Option<Scores>,
}

impl Snapshot<'_> {
    /// The checkpoint's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let header = Header {
            fingerprint: self.fingerprint.to_owned(),
            cursor: self.cursor.clone(),
            best: self.best.map(|best| best.scores.clone()),
        };
        let mut out = MAGIC.to_vec();
        section(&mut out, |out| {
            out.extend(serde_json::to_vec(&header).unwrap_or_default())
        });
        section(&mut out, |out| out.extend_from_slice(&self.towers));
        section(&mut out, |out| out.extend_from_slice(&self.optimiser));
        section(&mut out, |out| {
            put_table(out, self.users, self.best.map(|best| &best.users[..]))
        });
        section(&mut out, |out| {
            put_table(out, self.items, self.best.map(|best| &best.items[..]))
        });
        section(&mut out, |out| {
            out.extend_from_slice(self.best.map_or(&[][..], |best| &best.towers))
        });
        let sum = Sha256::digest(&out);
        out.extend_from_slice(&sum);
        out
    }
}

/// Reads a checkpoint back, filling `users` and `items`, which must be fresh. The error says why it is not used.
pub fn restore(
    content: &[u8],
    fingerprint: &str,
    users: &mut EmbeddingTable,
    items: &mut EmbeddingTable,
) -> Result<Restored, String> {
    let mut rest = checked(content)?;
    let header: Header = serde_json::from_slice(take(&mut rest)?).map_err(|e| format!("its header: {e}"))?;
    if header.fingerprint != fingerprint {
        return Err(format!(
            "it is of `{}`, this job is `{fingerprint}`",
            header.fingerprint
        ));
    }
    let towers = take(&mut rest)?.to_vec();
    let optimiser = take(&mut rest)?.to_vec();
    let mut tables = [users, items].map(|table| {
        let mut best = table.weights().to_vec();
        take(&mut rest)
            .and_then(|bytes| get_table(bytes, table, &mut best))
            .map(|()| best)
    });
    let [best_users, best_items] = &mut tables;
    let (best_users, best_items) = (
        std::mem::replace(best_users, Ok(Vec::new()))?,
        std::mem::replace(best_items, Ok(Vec::new()))?,
    );
    let best_towers = take(&mut rest)?.to_vec();
    let best = header.best.map(|scores| Best {
        scores,
        towers: best_towers,
        users: best_users,
        items: best_items,
    });
    Ok(Restored {
        cursor: header.cursor,
        towers,
        optimiser,
        best,
    })
}

fn checked(content: &[u8]) -> Result<&[u8], String> {
    let length = content.len().checked_sub(SUM).ok_or("it is too short")?;
    let (body, sum) = content.split_at(length);
    if Sha256::digest(body)[..] != *sum {
        return Err("its checksum does not match".to_owned());
    }
    body.strip_prefix(MAGIC)
        .ok_or_else(|| "it is of another format".to_owned())
}

fn section(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    fill(out);
    let length = (out.len() - start - 8) as u64;
    out[start..start + 8].copy_from_slice(&length.to_le_bytes());
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let short = || "it ends early".to_owned();
    let (length, tail) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short())?;
    let (section, tail) = tail.split_at_checked(length).ok_or_else(short)?;
    *rest = tail;
    Ok(section)
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
        state
            .values
            .iter()
            .chain(best)
            .for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
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

    fn table() -> EmbeddingTable {
        EmbeddingTable::new(5, 3, 0.1, 1, 0)
    }

    fn encoded(users: &EmbeddingTable, best: Option<&Best>) -> Vec<u8> {
        let cursor = Cursor {
            epoch: 2,
            step: 7,
            loss_bits: 1.25f64.to_bits(),
            stale: 1,
            seconds: 3.0,
        };
        let (towers, optimiser) = (vec![1, 2, 3], vec![4]);
        Snapshot {
            fingerprint: "f",
            cursor: &cursor,
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
        users.update(&[1, 4], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 3, 0.01, 0.0);
        let scores = Scores {
            epoch: 2,
            bits: [1, 2, 3],
        };
        let best = Best {
            scores,
            towers: vec![9; 4],
            users: users.weights().to_vec(),
            items: table().weights().to_vec(),
        };
        users.update(&[4, 2], &[0.4, 0.5, 0.6, 0.1, 0.1, 0.1], 3, 0.01, 0.0);
        let (mut read_users, mut read_items) = (table(), table());
        let restored = restore(
            &encoded(&users, Some(&best)),
            "f",
            &mut read_users,
            &mut read_items,
        )
        .unwrap();
        assert_eq!((restored.cursor.epoch, restored.cursor.step), (2, 7));
        assert_eq!((restored.towers, restored.optimiser), (vec![1, 2, 3], vec![4]));
        assert!(users.moved().eq(read_users.moved()));
        let read_best = restored.best.unwrap();
        assert_eq!(read_best.scores, best.scores);
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
