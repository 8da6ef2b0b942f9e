//! Online features: for each view, one row of numbers per entity.

use crate::Error;
use crate::bindings::tidegate::function::features;

/// Keys of one call to the host.
const KEYS: usize = 1000;

/// One answer per key, in the order of the keys.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    width: usize,
    found: Vec<bool>,
    values: Vec<f64>,
}

impl Rows {
    /// The number of values in a row; 0 when no row was found.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The row of the key at `index`, where there is one.
    pub fn row(&self, index: usize) -> Option<&[f64]> {
        let found = self.found.get(index).copied().unwrap_or(false);
        let start = index.checked_mul(self.width)?;
        if found {
            self.values.get(start..start + self.width)
        } else {
            None
        }
    }

    /// Every answer, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[f64]>> {
        (0..self.found.len()).map(|index| self.row(index))
    }
}

/// The rows of `keys` in `view`, any number of them.
pub async fn get(view: &str, keys: &[u64]) -> Result<Rows, Error> {
    let mut pages = Vec::new();
    for some in keys.chunks(KEYS) {
        pages.push(features::get_online(view.to_owned(), some.to_vec()).await?);
    }
    let width = pages.iter().map(|page| page.width as usize).max().unwrap_or(0);
    let mut rows = Rows {
        width,
        found: Vec::with_capacity(keys.len()),
        values: Vec::new(),
    };
    for page in pages {
        if page.width as usize == width {
            rows.values.extend_from_slice(&page.values);
        } else {
            rows.values
                .resize(rows.values.len() + page.found.len() * width, 0.0);
        }
        rows.found.extend_from_slice(&page.found);
    }
    Ok(rows)
}

/// Stages one row per key; `values` holds `width` numbers for each.
pub fn write(view: &str, width: usize, keys: &[u64], values: &[f64]) -> Result<(), Error> {
    let wanted = keys.len().saturating_mul(width);
    if width == 0 || values.len() != wanted {
        let found = values.len();
        return Err(Error::Invalid(format!(
            "found {found} values for {} rows of width {width} in view `{view}`, allowed are {wanted}",
            keys.len()
        )));
    }
    for (keys, values) in keys.chunks(KEYS).zip(values.chunks(KEYS * width)) {
        features::write(view, width as u32, keys, values)?;
    }
    Ok(())
}
