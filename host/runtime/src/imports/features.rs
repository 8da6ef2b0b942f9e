//! `features`: online rows of numbers, kept as state in a table for each view.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use wasmtime::component::Accessor;

use super::bindings::tidegate::function::features;
use super::{Error, Imports, at_most, valid_key};
use crate::sandbox::{Call, Guest};
use crate::store::{Condition, StateWrite};

/// Keys of one read.
const KEYS: usize = 1000;
/// Values of one row.
const WIDTH: usize = 4096;

/// The system table that holds a view's rows.
pub fn table_of_view(view: &str) -> String {
    format!("$features/{view}")
}

/// A row as it is stored: little-endian doubles.
pub fn encode_row(values: &[f64]) -> Bytes {
    let mut row = BytesMut::with_capacity(values.len() * 8);
    for value in values {
        row.put_f64_le(*value);
    }
    row.freeze()
}

/// Appends the values of a stored row.
pub fn decode_row(mut row: &[u8], into: &mut Vec<f64>) {
    while row.len() >= 8 {
        into.push(row.get_f64_le());
    }
}

impl features::Host for Guest {
    fn write(
        &mut self,
        view: String,
        width: u32,
        keys: Vec<u64>,
        values: Vec<f64>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        Ok(self.call.write_rows(&view, width as usize, &keys, &values))
    }
}

impl<T: Send + 'static> features::HostWithStore<T> for Imports {
    async fn get_online(
        accessor: &Accessor<T, Self>,
        view: String,
        keys: Vec<u64>,
    ) -> wasmtime::Result<Result<features::Rows, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.online_rows(&view, &keys).await)
    }
}

impl Call {
    fn write_rows(&self, view: &str, width: usize, keys: &[u64], values: &[f64]) -> Result<(), Error> {
        valid_key(view)?;
        self.spec
            .grants
            .allows_features_write(&self.spec.name, view)
            .map_err(Error::Denied)?;
        if width == 0 || width > WIDTH || keys.len().checked_mul(width) != Some(values.len()) {
            return Err(Error::Invalid(format!(
                "view `{view}`: found {} keys, width {width} and {} values, expected keys times width values and a width of 1 to {WIDTH}",
                keys.len(),
                values.len()
            )));
        }
        let table = table_of_view(view);
        let mut effects = self.effects();
        for (key, row) in keys.iter().zip(values.chunks(width)) {
            effects.write(StateWrite {
                table: table.clone(),
                key: key.to_string(),
                value: Some(encode_row(row)),
                condition: Condition::None,
            })?;
        }
        Ok(())
    }

    async fn online_rows(&self, view: &str, keys: &[u64]) -> Result<features::Rows, Error> {
        valid_key(view)?;
        self.spec
            .grants
            .allows_features_read(&self.spec.name, view)
            .map_err(Error::Denied)?;
        at_most("keys", keys.len(), KEYS)?;
        let names: Vec<String> = keys.iter().map(u64::to_string).collect();
        let stored = self.state_rows(&table_of_view(view), &names).await?;
        Ok(rows_of(
            &stored
                .iter()
                .map(|row| row.as_ref().map(|row| &row.value))
                .collect::<Vec<_>>(),
        ))
    }
}

fn rows_of(stored: &[Option<&Bytes>]) -> features::Rows {
    let width = stored
        .iter()
        .flatten()
        .map(|row| row.len() / 8)
        .max()
        .unwrap_or(0);
    let mut values = Vec::with_capacity(width * stored.len());
    for (index, row) in stored.iter().enumerate() {
        if let Some(row) = row {
            decode_row(row, &mut values);
        }
        values.resize((index + 1) * width, 0.0);
    }
    features::Rows {
        width: width as u32,
        found: stored.iter().map(Option::is_some).collect(),
        values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_not_found_are_zeros_of_the_same_width() {
        let row = encode_row(&[1.5, -2.0]);
        let rows = rows_of(&[None, Some(&row)]);
        assert_eq!(
            (rows.width, rows.found, rows.values),
            (2, vec![false, true], vec![0.0, 0.0, 1.5, -2.0])
        );
    }
}
