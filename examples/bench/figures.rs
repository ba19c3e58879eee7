//! Medians, ratios, and how tables show them.

use comfy_table::{CellAlignment, Table};

/// The ratio of two values from neighbouring rounds: median, minimum and maximum.
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Ratio {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let values = sorted(values);
        Self {
            median: median(&values),
            least: values.first().copied().unwrap_or(f64::NAN),
            most: values.last().copied().unwrap_or(f64::NAN),
        }
    }

    pub fn cells(&self) -> [String; 2] {
        [
            format!("{:.3}", self.median),
            format!("{:.3} to {:.3}", self.least, self.most),
        ]
    }
}

pub fn number(value: f64) -> String {
    let places = if value < 1000.0 { 1 } else { 0 };
    format!("{value:.places$}")
}

pub fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*below, *above)
        }
        (_, Some(middle)) => *middle,
        (_, None) => f64::NAN,
    }
}

/// Aligns all columns to the right, except the first two, which hold words.
pub fn right(table: &mut Table) {
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
