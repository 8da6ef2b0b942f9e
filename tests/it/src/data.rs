//! A data set that is small, always the same, and can be learnt.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parquet::data_type::FloatType;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

const USERS: u64 = 60;
const ITEMS: u64 = 80;
const GROUPS: u64 = 4;
const FIRST_SECOND: u64 = 1_700_000_000;
const SECONDS_BETWEEN_ROWS: u64 = 400;

/// Variants of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Every row is as it should be.
    Clean,
    /// Every hundredth row is malformed.
    Malformed,
}

/// Interactions as CSV: users and items belong to groups, and like meets like.
pub fn interactions(rows: u64, seed: u64, flavour: Flavour) -> String {
    let mut text = String::from("user_id,item_id,timestamp,click,dwell_seconds,device,category\n");
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for row in 0..rows {
        let (user, item) = (random.below(USERS), random.below(ITEMS));
        let alike = user % GROUPS == item % GROUPS;
        let click = u64::from(random.below(100) < if alike { 85 } else { 12 });
        let dwell = click * (5 + random.below(100));
        let time = FIRST_SECOND + row * SECONDS_BETWEEN_ROWS;
        let device = ["mobile", "desktop", "tablet"][random.below(3) as usize];
        let user = if flavour == Flavour::Malformed && row % 100 == 7 {
            "nobody".to_owned()
        } else {
            user.to_string()
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{user},{item},{time},{click},{dwell},{device},group{}",
            item % GROUPS
        );
    }
    text
}

/// Rows of three numbers and a label of 0 or 1, which the first two decide but for some noise, as CSV with a header.
pub fn tabular_csv(rows: usize, seed: u64) -> String {
    let row = |row: [f32; 4]| format!("{:.3},{:.3},{:.3},{}\n", row[0], row[1], row[2], row[3]);
    let rows: String = tabular(rows, seed).into_iter().map(row).collect();
    format!("x,y,z,label\n{rows}")
}

/// The same rows as a Parquet file.
pub fn tabular_parquet(rows: usize, seed: u64) -> Result<Vec<u8>> {
    let rows = tabular(rows, seed);
    let schema = "message m { required float x; required float y; required float z; required float label; }";
    let (schema, mut file) = (Arc::new(parse_message_type(schema)?), Vec::new());
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default())?;
    let mut group = writer.next_row_group()?;
    for number in 0..4 {
        let mut column = group.next_column()?.context("a column is missing")?;
        let values: Vec<f32> = rows.iter().map(|row| row[number]).collect();
        column.typed::<FloatType>().write_batch(&values, None, None)?;
        column.close()?;
    }
    group.close()?;
    writer.close()?;
    Ok(file)
}

fn tabular(rows: usize, seed: u64) -> Vec<[f32; 4]> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut number = || random.below(2001) as f32 / 1000.0 - 1.0;
    let mut row = || {
        let [x, y, z, noise] = [number(), number(), number(), number()];
        [x, y, z, f32::from(u8::from(x * y + 0.3 * x + 0.2 * noise > 0.0))]
    };
    (0..rows).map(|_| row()).collect()
}

/// A xorshift generator: the data must be the same wherever the tests run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
